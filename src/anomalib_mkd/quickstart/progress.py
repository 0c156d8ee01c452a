# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Progress of the whole first run, from the first training step to the last comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

if TYPE_CHECKING:
    from anomalib_mkd.terminal.bar import Bar


@dataclass(frozen=True)
class Plan:
    """Work of a run, in units of the time that an image takes in a training step.

    What each part costs was measured with the embedded teacher on two cores.

    Attributes:
        steps: Training steps.
        batch_size: Images of a step.
        good: Good images that are scored after the training.
        tests: Images of the test.
        compared: Images on which OpenVINO and torch are compared.
    """

    steps: int
    batch_size: int
    good: int
    tests: int
    compared: int

    SCORED = 1.0
    TESTED = 6.0
    EXPORT = 600.0
    COMPARED = 2.0

    @property
    def training(self) -> float:
        """Work of the training, with the scores of its images."""
        return self.steps * self.batch_size + self.SCORED * self.good

    @property
    def until_export(self) -> float:
        """Work of the training and the test."""
        return self.training + self.TESTED * self.tests

    @property
    def until_comparison(self) -> float:
        """Work of all but the comparison."""
        return self.until_export + self.EXPORT

    @property
    def total(self) -> float:
        """Work of the whole run."""
        return self.until_comparison + self.COMPARED * self.compared


class Stages(Callback):
    """Move the bar of the whole run on during training and test.

    Args:
        plan: The work.
        bar: The bar; its total is the plan's.
    """

    def __init__(self, plan: Plan, bar: Bar) -> None:
        self.plan, self.bar = plan, bar
        self.tested = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        del pl_module, batch, batch_idx
        loss = float(outputs["loss"] if isinstance(outputs, Mapping) else outputs)
        note = f"step {trainer.global_step} of {self.plan.steps}, loss {loss:.3g}"
        self.bar.update(trainer.global_step * self.plan.batch_size, note)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that the test begins."""
        del trainer, pl_module
        self.bar.update(self.plan.training, title="[3/5] Testing, drawing heat maps")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        self.tested += len(batch.image)
        note = f"{self.tested} of {self.plan.tests} images"
        self.bar.update(self.plan.training + self.plan.TESTED * self.tested, note)
