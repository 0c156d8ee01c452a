# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Callbacks that log the progress of a run without a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

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


class CalledBad(Callback):
    """Count the test images that the model calls bad, and log how many are tested.

    Attributes:
        bad: Number of bad parts, and how many of them were called bad.
        good: Number of good parts, and how many of them were called bad.
    """

    def __init__(self) -> None:
        self.bad, self.good = [0, 0], [0, 0]

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: AnomalibModule,  # type: ignore[override]  # the only kind that runs here
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch.

        A trainer's own callbacks run before the model's post-processor: scores are raw here, like its threshold.
        """
        del outputs, batch_idx, dataloader_idx
        post_processor: Any = pl_module.post_processor
        called_bad = batch.pred_score.flatten() > post_processor.image_threshold
        is_bad = batch.gt_label.flatten().bool()
        for counts, chosen in ((self.bad, is_bad), (self.good, ~is_bad)):
            counts[0] += int(chosen.sum())
            counts[1] += int(called_bad[chosen].sum())
        total = len(trainer.datamodule.test_data)  # type: ignore[attr-defined]  # it always has one here
        logger.info("      tested %d of %d images", self.bad[0] + self.good[0], total)

    def __str__(self) -> str:
        """Summarise the counts."""
        (bad, caught), (good, alarms) = self.bad, self.good
        return f"{caught} of {bad} bad parts caught, {alarms} of {good} good parts called bad"
