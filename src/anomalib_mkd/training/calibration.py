# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What follows the last training step: statistics of normal images, and thresholds from good parts."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.utils.data import Subset

from anomalib_mkd.data.normal_images import good_indices, normal_batches
from anomalib_mkd.post_processor import SoftPostProcessor
from anomalib_mkd.thresholds import LEARNT
from anomalib_mkd.training.batch_norm import refresh_batch_norm
from anomalib_mkd.training.schedule import may_be_last_epoch


class Calibration(LightningModule):
    """Calibrates once after the last step, before anomalib derives thresholds and the last checkpoint is written."""

    model: Any
    post_processor: Any

    _validated_step: int | None  # of CheckpointMixin
    _calibrated_step: int | None = None

    @property
    def _from_good_parts(self) -> SoftPostProcessor | None:
        """The post-processor, if its thresholds come from good parts alone."""
        own = self.post_processor
        return own if isinstance(own, SoftPostProcessor) and own.false_alarms is not None else None

    def on_train_epoch_end(self) -> None:
        """Calibrate at the end of a training that does not end on a validation, before the last checkpoint is written.

        Checkpoints by steps or by time are not calibrated: they serve only to resume training.
        """
        if may_be_last_epoch(self.trainer):
            self._end_without_validation()

    @torch.no_grad()
    def _end_without_validation(self) -> None:
        self._calibrate_once()
        own = self._from_good_parts
        if own is None or self._validated_step == self.global_step:
            return
        # the student has moved on since the last validation, if there was one: thresholds belong to the last step
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        held_out = getattr(data, "val_data", None) if self.trainer.enable_validation else None
        training = self.model.training
        self.model.eval()
        for batch in () if held_out is None else normal_batches(self, len(held_out), held_out):
            outputs = self.validation_step(batch)
            if self.trainer.is_global_zero:  # each process reads all of them, and what they collect is joined
                own.on_validation_batch_end(self.trainer, self, outputs)
        self.model.train(training)
        own.on_validation_epoch_end(self.trainer, self)  # without validation, with what was learnt
        self._validated_step = self.global_step

    @torch.no_grad()
    def _calibrate_once(self) -> None:
        if self._calibrated_step != self.global_step:
            training = self.model.training
            self.model.eval()
            self.calibrate()
            if (own := self._from_good_parts) is not None:
                dataset: Any = self.trainer.train_dataloader.dataset  # type: ignore[union-attr]
                some = Subset(dataset, good_indices(dataset, LEARNT))
                own.learn(self.trainer, map(self.validation_step, normal_batches(self, len(some), some)))
            self.model.train(training)
            self._calibrated_step = self.global_step

    def calibrate(self) -> None:
        """Set what depends on the trained student and on normal images: after few steps, BatchNorm statistics."""
        refresh_batch_norm(self)

    def on_validation_start(self) -> None:
        """Calibrate before anomalib derives thresholds from the scores and maps of the validation images."""
        self.model.teacher.prepare()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._calibrate_once()

    def on_validation_epoch_end(self) -> None:
        """Remember which student the thresholds are of, before a checkpoint is written."""
        if not self.trainer.sanity_checking:
            self._validated_step = self.global_step
