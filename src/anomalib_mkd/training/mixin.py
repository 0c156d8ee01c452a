# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Hooks and steps inside anomalib, shared by all models."""

from contextlib import AbstractContextManager, nullcontext
from inspect import currentframe
from time import monotonic
from types import FrameType
from typing import Any

import numpy as np
import torch
from anomalib import LearningType
from anomalib.data.utils import ValSplitMode
from anomalib.engine.plugins import AnomalibCheckpointIO
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch.optim import Optimizer
from typing_extensions import Self

from anomalib_mkd.data.normal_images import check_enough, check_sized
from anomalib_mkd.data.reading import read_upright, warn_of_pictures
from anomalib_mkd.export.mixin import DistillationExport
from anomalib_mkd.functional import gaussian_blur
from anomalib_mkd.terminal.errors import be_brief
from anomalib_mkd.terminal.quiet import quiet
from anomalib_mkd.training.caching import TrainingCache, rounded
from anomalib_mkd.training.calibration import Calibration
from anomalib_mkd.training.checkpoints import CheckpointMixin, SafeCheckpointIO, warn_if_unsaved
from anomalib_mkd.training.components import DefaultComponents
from anomalib_mkd.training.optimizers import build_optimizer
from anomalib_mkd.training.painting import paint_over
from anomalib_mkd.training.precision import check_precision, student_autocast
from anomalib_mkd.training.resume import Course, stop_if_stopped, tests_its_training
from anomalib_mkd.training.schedule import (
    check_not_ended,
    limit_training,
    one_cycle,
    save_at_ends_of_epochs,
    save_newest,
)
from anomalib_mkd.training.threads import limit_threads
from anomalib_mkd.types import Pyramid

SAVE_SECONDS = 60
"""Time between checkpoints of a training: the most that an interruption loses; writing takes half a second at most."""
ASK_STEPS = 10
"""Steps between two times that several processes agree whether to write a checkpoint, for which they exchange data."""


class DivergedError(RuntimeError):
    """The training loss is not finite."""


class DistillationMixin(DefaultComponents, Calibration, CheckpointMixin, DistillationExport):
    """Training, prediction and checkpoints of a :class:`TeacherStudent`; goes before ``AnomalibModule`` in the bases.

    It has no ``__init__``, so that hyper-parameters are collected from the model's own signature; it reads
    ``training_steps``, ``cache_gigabytes``, ``schedule`` and ``student_precision`` from them. None of our bases may
    derive from ``AnomalibModule``: anomalib lists only its direct subclasses as models.
    """

    _cache: TrainingCache | None = None
    _autocast: AbstractContextManager[object] = nullcontext()
    _saved_at = 0.0

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Install the filters of messages and the short form of errors before a constructor logs."""
        del args
        quiet()
        be_brief()
        made = super().__new__(cls)
        made._own_pre_processor = not isinstance(kwargs.get("pre_processor", True), bool)
        return made

    def save_hyperparameters(self, *args: Any, frame: FrameType | None = None, **kwargs: Any) -> None:
        """Keep NumPy's numbers as Python's: neither a checkpoint nor an export can hold the others."""
        here = currentframe()  # Lightning reads the arguments from the frame of the constructor
        super().save_hyperparameters(*args, frame=frame or (here and here.f_back), **kwargs)
        plain = {name: value.item() for name, value in self.hparams.items() if isinstance(value, np.generic)}
        self.hparams.update(plain)

    @property
    def learning_type(self) -> LearningType:
        """Learn from normal images only."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Override only what would break: a sanity check would test an untrained student."""
        return {"num_sanity_val_steps": 0}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Configure the chosen optimiser for all trainable parameters."""
        return self.scheduled(
            build_optimizer(
                self.model.learned_parameters(),
                self.hparams["optimizer"],
                self.hparams["learning_rate"],
                self.hparams["weight_decay"],
            )
        )

    def scheduled(self, optimizer: Optimizer) -> OptimizerLRScheduler:
        """Add the chosen schedule to an optimiser; errors as for :func:`one_cycle`."""
        return optimizer if self.hparams["schedule"] == "constant" else one_cycle(optimizer, self.trainer)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Return height and width of pre-processed images; ``None`` if a transform refuses a single pixel."""
        try:
            size: tuple[int, int] | None = super().input_size  # type: ignore[misc]  # of AnomalibModule, a later base
        except Exception:  # noqa: BLE001  # whatever a transform raises that needs more pixels, such as a crop
            return None
        return size

    # --------------------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """End training after ``training_steps``, unless the user set epochs or steps; name damaged checkpoints.

        Threads are limited to a container's quota.

        Raises:
            ValueError: As for :func:`check_precision`.
        """
        check_precision(self.trainer.precision)
        limit_threads()
        io = self.trainer.strategy.checkpoint_io
        if type(io) is AnomalibCheckpointIO:  # not one of the user's
            self.trainer.strategy.checkpoint_io = io = SafeCheckpointIO(io.extra_safe_globals)
        if isinstance(io, SafeCheckpointIO):
            own = stage == "test" and tests_its_training()
            io.instead = self.trainer._checkpoint_connector.dump_checkpoint if own else None  # noqa: SLF001
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if getattr(data, "val_split_mode", None) == ValSplitMode.NONE and not hasattr(data, "val_data"):
            self.trainer.limit_val_batches = 0  # anomalib's loader would raise an AttributeError
        if stage == "predict":  # before the loaders begin to read
            read_upright(self.trainer.predict_loop._data_source.instance)  # noqa: SLF001  # there is no public name
        if stage == "fit":
            limit_training(self.trainer, self.hparams["training_steps"])

    def on_fit_start(self) -> None:
        """Load the teacher, unless a checkpoint has already restored it; errors as for :func:`check_not_ended`."""
        check_not_ended(self.trainer)
        self.model.teacher.prepare()
        self._calibrated_step = None
        self._validated_step, self._validated_before = self._validated_before, None
        own = self._from_good_parts
        if self._validated_step is None and own is not None and own.scales is not None:  # of an earlier training
            self._validated_step = self.global_step

    def on_train_start(self) -> None:
        """Check the data, fit to normal images, open the caches, and restore the random course of a resumed training.

        Raises:
            ValueError: If there are too few good images for a threshold, or ``sigma`` is too large for the images; and
                as for :func:`check_sized` and :meth:`fit_to_normal_images`.
        """
        check_sized(self.trainer.train_dataloader)
        if self._from_good_parts is not None:
            check_enough(self.trainer)
        size: Any = self.input_size
        if size is not None:  # a blur that is too wide would stop the first prediction, after the training
            gaussian_blur(torch.zeros(1, 1, *size), self.hparams.get("sigma", 0.0))
        warn_of_pictures(self.trainer.train_dataloader)
        self.fit_to_normal_images()
        self._cache = TrainingCache(self, self.hparams["cache_gigabytes"])
        self._autocast = student_autocast(self.device, self.hparams["student_precision"])
        self._course = Course(self.trainer, self._interrupted)
        self._saved_at = monotonic()
        stop_if_stopped(self.trainer)
        if self.trainer.fit_loop.done:  # resumed after the last step
            self._end_without_validation()

    def fit_to_normal_images(self) -> None:
        """Set what normal images determine, before features are cached and the first step; nothing by default."""

    def on_train_epoch_start(self) -> None:
        """Set the order of the images."""
        if self._course is not None:
            self._course.begin(self.trainer.current_epoch)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint once a minute, after a step of the optimiser."""
        del args, kwargs
        trainer = self.trainer
        if trainer.fit_loop._should_accumulate():  # noqa: SLF001  # there is no public name
            return
        due = monotonic() - self._saved_at >= SAVE_SECONDS
        if trainer.world_size > 1:  # all of them write, or none
            due = trainer.global_step % ASK_STEPS == 0 and trainer.strategy.broadcast(due)
        if due:
            save_newest(trainer)
            self._saved_at = monotonic()

    def on_train_epoch_end(self) -> None:
        """Save a training that ends early, at an epoch without validation; see also the base class."""
        super().on_train_epoch_end()
        if self.trainer.should_stop:
            save_at_ends_of_epochs(self.trainer.checkpoint_callbacks)

    def on_train_end(self) -> None:
        """Warn if no checkpoint holds what was trained."""
        warn_if_unsaved(self.trainer)

    def teardown(self, stage: str) -> None:
        """Free the caches, which must not be pickled with the model; also after an interrupted training.

        This model's components leave the trainer, too: they would process another package's model that it runs next.
        """
        super().teardown(stage)
        own = (self.pre_processor, self.post_processor, self.visualizer)
        self.trainer.callbacks = [each for each in self.trainer.callbacks if each not in own]  # type: ignore[attr-defined]
        self._course = self._interrupted = None
        if self._cache is not None:
            self._cache.close()
        self._cache, self._autocast = None, nullcontext()

    @property
    def _full_precision(self) -> AbstractContextManager[object]:
        """The context of all networks but a student in training: they compute in f32, whatever the trainer's precision.

        Mkd's map is a gradient, which would underflow in half precision. And thresholds hold only for scores computed
        as those that they come from, many of which hooks compute, where Lightning sets no precision.
        """
        return torch.autocast(self.device.type, enabled=False)

    def inputs(self, batch: Any) -> torch.Tensor:
        """Return the input of the networks, ``(N, C, H, W)``: the pre-processed images of a batch."""
        images: torch.Tensor = batch.image
        return images

    @torch.no_grad()
    def teacher_pyramid(self, batch: Any) -> Pyramid:
        """Compute the teacher's features of a batch, or look them up in the cache."""

        def compute() -> Pyramid:
            images = self.inputs(batch)
            self.model.check_images(images)  # before torch complains
            count = len(images)
            if count == 1:  # alone, it would take other kernels, and its last bits would differ from those in a batch
                images = torch.cat([images, images])
            with self._full_precision:
                return rounded({name: level[:count] for name, level in self.model.teacher(images).items()})

        if self._cache is None or self._cache.features is None or batch.image_path is None:
            return compute()
        return self._cache.features.pyramid(batch.image_path, batch.image.device, compute)

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Compare the student's features with the teacher's.

        With a ``painted_share``, the student sees that share of the images painted over but learns the teacher's
        features of the clean ones, so that it does not learn to copy defects.

        Raises:
            DivergedError: If the loss is not finite.
        """
        del args, kwargs
        teacher = self.teacher_pyramid(batch)
        images = laid_out(paint_over(self.inputs(batch), self.hparams.get("painted_share", 0.0)))
        with self._autocast:
            teacher, student = self.model.pyramids(images, teacher)
        student = {name: features.float() for name, features in student.items()}  # sums of squares need f32
        parts = self.model.loss(teacher, student)
        loss: torch.Tensor = parts.pop("loss")
        if not torch.isfinite(loss):
            msg = (
                f"Expected a finite loss, got {loss.item()} in step {self.global_step}. "
                "Lower learning_rate, or check the images for non-finite values."
            )
            raise DivergedError(msg)
        size = len(batch.image)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        for name, value in parts.items():
            self.log(f"train_{name}", value, on_step=False, on_epoch=True, batch_size=size)
        return loss

    # ------------------------------------------------------------------------------------------------- prediction

    def validation_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Predict scores and maps of a batch."""
        del args, kwargs
        with self._full_precision:
            predicted = self.model(self.inputs(batch))
        updated: STEP_OUTPUT = batch.update(**predicted._asdict())
        return updated

    test_step = predict_step = validation_step  # anomalib's own pass images only

    def on_test_start(self) -> None:
        """Load the teacher, if neither training nor a checkpoint did."""
        self.model.teacher.prepare()
        warn_of_pictures(self.trainer.test_dataloaders)

    def on_predict_start(self) -> None:
        """Load the teacher likewise."""
        self.model.teacher.prepare()
        warn_of_pictures(self.trainer.predict_dataloaders)


def laid_out(images: torch.Tensor) -> torch.Tensor:
    """Lay out images ``(N, C, H, W)`` with the channels last on a CPU, where that makes a training step faster.

    Elsewhere it was not measured, and on Apple's MPS the gradients of a BatchNorm were wrong (PyTorch's issue 175189).
    """
    on_cpu = images.device.type == "cpu"
    return images.contiguous(memory_format=torch.channels_last if on_cpu else torch.contiguous_format)
