# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Callbacks that log the progress of a run without a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

logger = logging.getLogger(__name__)


class StepLog(Callback):
    """Log the step and the loss ten times per training.

    Args:
        name: Start of each line.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log after each tenth of the training."""
        del pl_module, batch, batch_idx
        total = int(trainer.estimated_stepping_batches)
        tenth = 10 * trainer.global_step // max(total, 1)
        if tenth != self.last:
            self.last = tenth
            loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
            logger.info("%s: step %d of %d, loss %.4f", self.name, trainer.global_step, total, float(loss))


class TestLog(Callback):
    """Log how many images are tested."""

    def __init__(self) -> None:
        self.tested = 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log after each batch."""
        del pl_module, outputs, batch_idx, dataloader_idx
        self.tested += len(batch.image)
        total = len(trainer.datamodule.test_data)  # type: ignore[attr-defined]  # it always has one here
        logger.info("      tested %d of %d images", self.tested, total)
