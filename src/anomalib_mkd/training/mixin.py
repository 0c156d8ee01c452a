# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The life of a model inside anomalib, shared by all of them."""

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import AnomalibDataModule, InferenceBatch
from anomalib.data.utils import LabelName, ValSplitMode
from anomalib.deploy import CompressionType
from anomalib.models.components.base.export_mixin import ExportMixin
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms.v2 import CenterCrop, Compose, Grayscale, Normalize, Resize, Transform

from anomalib_mkd.distillation.teacher_student import TeacherStudent
from anomalib_mkd.export.quantization import normal_items, quantize
from anomalib_mkd.export.resize import exportable
from anomalib_mkd.export.staged import staged
from anomalib_mkd.results.post_processor import SoftPostProcessor
from anomalib_mkd.training.divergence import DivergedError
from anomalib_mkd.training.feature_cache import FeatureCache
from anomalib_mkd.training.item_cache import evenly_spaced, items_cached
from anomalib_mkd.training.precision import student_autocast
from anomalib_mkd.types import Pyramid

logger = logging.getLogger(__name__)

LIGHTNING_DEFAULT_EPOCHS = 1000
CALIBRATION_IMAGES = 32
WARM_UP = 0.05
CHECKPOINT_KEY = "anomalib_mkd_model"


class DistillationMixin(ExportMixin, LightningModule):
    """Training, checkpoints and export of a :class:`TeacherStudent`; goes before ``AnomalibModule`` among the bases.

    It has no ``__init__``, so that hyper-parameters are collected from the model's own signature, and it reads
    ``training_steps``, ``cache_gigabytes``, ``schedule`` and ``student_precision`` from there. No base of ours may
    derive from ``AnomalibModule``: anomalib lists its direct subclasses as models and no others.
    """

    model: TeacherStudent
    _cache: FeatureCache | None = None
    _cached_items: ExitStack | None = None
    _calibrated_step: int | None = None

    @property
    def learning_type(self) -> LearningType:
        """Learn from normal images only."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Override only what breaks otherwise: a sanity check would judge an untrained student."""
        return {"num_sanity_val_steps": 0}

    def configure_post_processor(self) -> SoftPostProcessor:
        """Give the default post-processor."""
        return SoftPostProcessor()

    # ------------------------------------------------------------------------------------------- length of training

    def setup(self, stage: str) -> None:
        """Let training end by itself after ``training_steps``, where the user said nothing of epochs or steps.

        The steps count for each of a datamodule's ``categories``, if it has some, as ``MultiCategory`` has: one model
        for all learns as long as a model for each of them would. Lightning cannot tell its own default of 1000 epochs
        from the user's: who wants exactly 1000 sets ``training_steps=None``. Whole epochs are trained, and validation,
        which only sets thresholds, runs once at the end, unless a callback watches a metric.
        """
        each = self.hparams["training_steps"]
        trainer: Any = self.trainer
        loop = trainer.fit_loop
        if stage != "fit" or each is None or trainer.max_steps != -1 or loop.max_epochs != LIGHTNING_DEFAULT_EPOCHS:
            return
        data = getattr(trainer, "datamodule", None)
        categories = len(getattr(data, "categories", ())) or 1
        steps = each * categories
        loop.setup_data()
        if math.isinf(trainer.num_training_batches):
            loop.max_epochs, loop.epoch_loop.max_steps = -1, steps
            return
        loop.max_epochs = max(math.ceil(steps / trainer.num_training_batches), loop.min_epochs or 1)
        validates = trainer.enable_validation and (data is None or getattr(data, "val_data", None) is not None)
        # without validation, Lightning writes checkpoints only where this number is left at 1
        if validates and trainer.check_val_every_n_epoch == 1 and not any(map(_watches_metric, trainer.callbacks)):
            trainer.check_val_every_n_epoch = loop.max_epochs
        logger.info(
            "Training %d epochs (training_steps=%d, categories: %d, no max_epochs given). Set max_epochs to choose "
            "yourself.",
            loop.max_epochs,
            each,
            categories,
        )

    def scheduled(self, optimizer: Optimizer) -> OptimizerLRScheduler:
        """Let the learning rate rise for 5 % of the training and then fall to 0 along a cosine, or leave it constant.

        A rate that ends at 0 makes what is delivered independent of the step at which training happens to stop.

        Raises:
            ValueError: If the end of training is not known in advance.
        """
        if self.hparams["schedule"] == "constant":
            return optimizer
        total = self.trainer.estimated_stepping_batches
        if math.isinf(total):
            msg = (
                "Expected a training of known length for schedule='one_cycle', got max_epochs=-1. "
                "Set max_epochs or max_steps, or schedule='constant'."
            )
            raise ValueError(msg)
        warm_up = max(1, round(WARM_UP * total))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, total - warm_up))))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    # --------------------------------------------------------------------------------------------------- training

    def on_fit_start(self) -> None:
        """Load the teacher, after a checkpoint may have brought it."""
        self.model.teacher.prepare()
        self._cache = None
        self._calibrated_step = None

    def on_train_start(self) -> None:
        """Cache images and the teacher's features, unless an image may look different each time."""
        loader: Any = self.trainer.train_dataloader
        augmentations = (
            getattr(loader.dataset, "augmentations", Transform),
            getattr(self.pre_processor, "augmentation", None),
        )
        if not self.hparams["cache_gigabytes"] or not all(map(_is_fixed, augmentations)):
            logger.info("The teacher runs in every step: caching is off, or the images are augmented at random.")
            return
        half = int(self.hparams["cache_gigabytes"] * 2**30 / 2)
        self._cache = FeatureCache(half)
        if loader.num_workers == 0:  # a worker process would fill a cache of its own, and lose it after each epoch
            self._cached_items = ExitStack()
            self._cached_items.enter_context(items_cached(loader.dataset, half))

    def teardown(self, stage: str) -> None:
        """Free the caches, which must not be pickled with the model; also after a training that was broken off."""
        super().teardown(stage)
        self._cache = None
        if self._cached_items is not None:
            self._cached_items.close()
            self._cached_items = None

    def raw_inputs(self, item: Any) -> tuple[torch.Tensor, ...]:
        """Give what an export takes, in the order of its inputs: the photo ``(3, H, W)`` of a raw item."""
        return (item.image,)

    def seen(self, batch: Any) -> torch.Tensor:
        """Give what the networks look at, ``(N, C, H, W)``: the pre-processed images of a batch."""
        images: torch.Tensor = batch.image
        return images

    def seen_in_training(self, batch: Any) -> torch.Tensor:
        """Give what the student looks at while it learns what the teacher sees in :meth:`seen`: the same."""
        return self.seen(batch)

    def teacher_pyramid(self, batch: Any) -> Pyramid:
        """Give the teacher's features of a batch, from the cache where possible."""
        paths = batch.image_path
        if self._cache is not None and paths is not None:
            cached = self._cache.get(paths, batch.image.device)
            if cached is not None:
                return cached
        with torch.no_grad():
            pyramid: Pyramid = self.model.teacher(self.seen(batch))
        if self._cache is not None and paths is not None:
            self._cache.put(paths, pyramid)
        return pyramid

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Compare student and teacher.

        Raises:
            DivergedError: If the loss is not finite.
        """
        del args, kwargs
        teacher = self.teacher_pyramid(batch)
        images = self.seen_in_training(batch).contiguous(memory_format=torch.channels_last)  # the faster layout on CPUs
        with student_autocast(images.device, self.hparams["student_precision"]):
            teacher, student = self.model.pyramids(images, teacher)
        student = {name: features.float() for name, features in student.items()}  # sums of squares need f32
        parts = self.model.loss(teacher, student)
        loss: torch.Tensor = parts.pop("loss")
        if not torch.isfinite(loss):
            msg = (
                f"Expected a finite loss, got {loss.item()} in step {self.global_step}. "
                "Lower learning_rate, or check the images for values that are not finite."
            )
            raise DivergedError(msg)
        size = len(batch.image)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=size)
        for name, value in {**parts, **self.model.observations()}.items():
            self.log(f"train_{name}", value, on_step=False, on_epoch=True, batch_size=size)
        return loss

    # -------------------------------------------------------------------------------------------------- evaluation

    def validation_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Judge a batch."""
        del args, kwargs
        updated: STEP_OUTPUT = batch.update(**self.model(self.seen(batch))._asdict())
        return updated

    def test_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Judge a batch; anomalib's own looks at photos only."""
        return self.validation_step(batch, *args, **kwargs)

    def predict_step(self, batch: Any, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Judge a batch; anomalib's own looks at photos only."""
        return self.validation_step(batch, *args, **kwargs)

    def on_validation_start(self) -> None:
        """Calibrate before anomalib takes thresholds from the scores and maps of the validation images."""
        self.model.teacher.prepare()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._calibrate_once()

    def on_train_epoch_end(self) -> None:
        """Calibrate at the end of a training without validation, before the last checkpoint is written.

        Callbacks that watch a metric stop the training, or save the best weights, after this hook: with them every
        epoch may be the last. Checkpoints by steps or by time are not calibrated: they are there to resume from.
        """
        trainer: Any = self.trainer
        loop = trainer.fit_loop
        last_step = 0 <= loop.max_steps <= self.global_step  # -1 is no limit
        ends = loop.max_epochs == self.current_epoch + 1 or trainer.should_stop or last_step
        if ends or any(map(_watches_metric, trainer.callbacks)):
            self._calibrate_once()

    def on_test_start(self) -> None:
        """Load the teacher, if neither training nor a checkpoint did."""
        self.model.teacher.prepare()

    def on_predict_start(self) -> None:
        """Load the teacher, if neither training nor a checkpoint did."""
        self.model.teacher.prepare()

    def _calibrate_once(self) -> None:
        if self._calibrated_step != self.global_step:
            training = self.model.training
            self.model.eval()
            self.calibrate()
            self.model.train(training)
            self._calibrated_step = self.global_step

    def calibrate(self) -> None:
        """Set what depends on the trained student and on normal images; nothing by default."""

    def normal_items(self, images: int) -> Iterator[Any]:
        """Give raw training items, evenly spaced over the training set, the same ones each time.

        Args:
            images: How many, at most.
        """
        dataset: Any = self.trainer.train_dataloader.dataset  # type: ignore[union-attr]
        return (dataset[index] for index in evenly_spaced(len(dataset), images))

    def held_out(self) -> Any:
        """Give the validation images, if none of them is a test image or shows a defect; else None."""
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # absent if loaders were given
        if getattr(datamodule, "val_split_mode", None) not in {ValSplitMode.FROM_DIR, ValSplitMode.FROM_TRAIN}:
            return None
        dataset = getattr(datamodule, "val_data", None)  # absent where a folder has none
        return dataset if dataset and (dataset.samples["label_index"] == LabelName.NORMAL).all() else None

    def normal_batches(self, images: int = CALIBRATION_IMAGES, dataset: Any = None) -> Iterator[Any]:
        """Give pre-processed normal images, evenly spaced over a data set, the same ones each time.

        Each batch, too, is spread over the whole set, which may hold one category after the other.

        Args:
            images: How many, at most.
            dataset: Where from; ``None`` for the training set.
        """
        loader: Any = self.trainer.train_dataloader
        dataset, size = dataset or loader.dataset, max(2, loader.batch_size or 1)  # statistics need two
        chosen = evenly_spaced(len(dataset), images)
        batches = math.ceil(len(chosen) / size)
        for first in range(batches):
            batch = loader.collate_fn([dataset[index] for index in chosen[first::batches]])
            batch = self.trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            if isinstance(self.pre_processor, PreProcessor):
                self.pre_processor.on_validation_batch_start(self.trainer, self, batch, 0)
            yield batch

    # -------------------------------------------------------------------------------------- checkpoints and export

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Sign the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] = type(self).__name__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another model.

        Raises:
            ValueError: If it was not written by this class.
        """
        owner = checkpoint.get(CHECKPOINT_KEY, "a model of another package")
        if owner != type(self).__name__:
            msg = (
                f"Expected a checkpoint of {type(self).__name__}, got one of {owner}. "
                "Load it with the class that wrote it."
            )
            raise ValueError(msg)
        super().on_load_checkpoint(checkpoint)

    def forward(self, batch: torch.Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """Judge photos ``(N, 3, H, W)`` in 0..1 as testing does; what is exported.

        anomalib's own version resizes without antialiasing.
        """
        del args, kwargs
        pre_processor: Any = self.pre_processor
        if isinstance(pre_processor, PreProcessor) and pre_processor.transform:
            pre_processor = exportable(pre_processor.transform)
        return self.judged(pre_processor(batch) if pre_processor else batch)

    def judged(self, images: torch.Tensor) -> InferenceBatch:
        """Judge pre-processed images, and apply the thresholds and the scaling."""
        prediction: InferenceBatch = self.model(images)
        post_processor: Any = self.post_processor
        return post_processor(prediction) if post_processor else prediction

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """Export as anomalib does, without half-written files."""
        self.model.teacher.prepare()
        with staged(export_root) as staging:
            path = super().to_torch(staging, model_file_name)
        return Path(export_root) / path.relative_to(staging)

    def to_onnx(  # type: ignore[override]  # the host's signature, not Lightning's
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, without half-written files, in the opset that torch writes without converting."""
        self.model.teacher.prepare()
        kwargs.setdefault("opset_version", 18)
        with staged(export_root) as staging:
            path = super().to_onnx(staging, model_file_name, input_size, **kwargs)
        return Path(export_root) / path.relative_to(staging)

    def to_openvino(  # type: ignore[override]  # what we do not touch is passed on
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, without half-written files, and quantise on normal training images.

        Raises:
            ValueError: If there are no images for ``CompressionType.INT8_PTQ``.
        """
        by_us = compression_type == CompressionType.INT8_PTQ
        if by_us and datamodule is None:
            msg = "Expected a datamodule for INT8_PTQ, whose training images calibrate the model, got none. Give one."
            raise ValueError(msg)
        with staged(export_root) as staging:
            theirs = None if by_us else compression_type
            path = super().to_openvino(staging, model_file_name, input_size, theirs, datamodule, **kwargs)
            if by_us and datamodule is not None:
                quantize(path, map(self.raw_inputs, normal_items(datamodule)))
        return Path(export_root) / path.relative_to(staging)


def _watches_metric(callback: Callback) -> bool:
    """Say whether a callback needs validation metrics while training goes on."""
    return isinstance(callback, (EarlyStopping, Checkpoint)) and getattr(callback, "monitor", None) is not None


def _is_fixed(augmentations: Transform | type | None) -> bool:
    """Say whether a data set's transform gives the same picture each time; of an unknown data set, that it does not."""
    if isinstance(augmentations, Compose):
        return all(_is_fixed(transform) for transform in augmentations.transforms)
    return augmentations is None or isinstance(augmentations, (CenterCrop, Grayscale, Normalize, Resize))
