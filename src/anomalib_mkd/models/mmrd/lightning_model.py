# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mmrd as an anomalib model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from anomalib.data.datasets.base.depth import AnomalibDepthDataset
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.data.normal_images import held_out, normal_batches
from anomalib_mkd.data.reading import datasets_of
from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.models.mmrd.depth_pre_processor import Aux, DepthPreProcessor, default_transform
from anomalib_mkd.models.mmrd.depth_visualizer import DepthVisualizer
from anomalib_mkd.models.mmrd.fusion import ModalityFusion, TargetFusion
from anomalib_mkd.models.mmrd.paired_export import PairedExport
from anomalib_mkd.models.mmrd.priors import InteractionKind
from anomalib_mkd.models.mmrd.siamese import RGB
from anomalib_mkd.models.mmrd.torch_model import AUX, Branches, LossName, MmrdModel
from anomalib_mkd.networks.backbone import RESNET18
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.results.heat_maps import LABELS
from anomalib_mkd.thresholds import FALSE_ALARMS
from anomalib_mkd.training.caching import CACHE_GIGABYTES
from anomalib_mkd.training.mixin import DistillationMixin
from anomalib_mkd.training.precision import StudentPrecision
from anomalib_mkd.training.schedule import Schedule
from anomalib_mkd.transforms import shows_all, steps_of

BETAS = (0.5, 0.999)
"""Adam's betas, as in RD4AD's code; the second is 0.99 in anomalib's Reverse Distillation."""
AUX_IMAGES = 256
"""Maximum number of normal images to estimate the second modality's range and statistics from."""


class Mmrd(PairedExport, DistillationMixin, AnomalibModule):
    """Multi-modal reverse distillation (Gu et al. 2024) for photos with depth.

    Batches need a ``depth_map``, as provided by ``DepthFolder``, or by anomalib's ``Folder3D`` for points.

    Args:
        backbone: Teacher, by timm's full name, "resnet18.tv_in1k" by default; a ResNet, ResNeXt or Wide ResNet.
        branches: "mmrd"; or a baseline: reverse distillation of the photo ("rgb") or of the depth ("aux") alone, or of
            both independently ("two_branch").
        aux: The second modality: the depth, or surface normals computed from it.
        target_fusion: What the student restores: both modalities separately ("concat"), or one fusion of their
            features: their "mean", or "modulation", which adds more of the second modality where they differ.
        modality_fusion: How two maps are fused, each scaled to 0 at its normal mean and 1 at its mean normal peak:
            "zmax", the default, takes the larger one, "rss" the root of the sum of squares.
        num_prototypes: Number of prototypes per modality.
        interaction: Attention within a modality and then across, within only, or none.
        loss: One cosine per image and level, as in RD4AD ("flat"); one per position ("pixel"); or the sum of both.
        sigma: Standard deviation of the map's Gaussian blur in pixels; 0 for none.
        learning_rate: Adam's peak learning rate.
        weight_decay: Adam's weight decay.
        schedule: "one_cycle" decays the learning rate to 0, so that the final weights do not depend on the last steps.
        training_steps: Steps per category if neither max_epochs nor max_steps is set, rounded up to whole epochs.
        cache_gigabytes: Memory for the training images and the teacher's features of them; 0 disables caching.
        student_precision: "auto" trains the student in bf16 on CPUs with AMX, else as the trainer does.
        false_alarms: Expected share of good parts called bad, for which the threshold is set. ``None``: anomalib's
            rule, the best F1 in validation, which needs bad parts there.
        pre_trained: Whether to load the backbone's ImageNet weights.
        weights: File with weights for the backbone.
        pre_processor: Default: 256 pixels and ImageNet's normalisation, with matching depth. Any other must be a
            ``DepthPreProcessor``, unless branches="rgb".
        post_processor: Default: thresholds from good parts, on a scale that is never clipped.
        evaluator: Default: anomalib's.
        visualizer: Default: photo, depth, ground truth and heat map side by side.

    Raises:
        ValueError: If an argument is out of range, two exclude each other, or the backbone has no decoder.
    """

    model: MmrdModel

    def __init__(
        self,
        backbone: str = RESNET18,
        branches: Branches = "mmrd",
        aux: Aux = "depth",
        target_fusion: TargetFusion = "concat",
        modality_fusion: ModalityFusion | None = None,
        num_prototypes: int = 64,
        interaction: InteractionKind = "intra_cross",
        loss: LossName = "flat",
        sigma: float = 4.0,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "one_cycle",
        training_steps: int | None = 150,
        cache_gigabytes: float = CACHE_GIGABYTES,
        student_precision: StudentPrecision = "auto",
        false_alarms: float | None = FALSE_ALARMS,
        pre_trained: bool = True,
        weights: str | Path | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        check_arguments(
            locals(),
            optional=("modality_fusion", "training_steps", "false_alarms"),
            branches=Branches,
            aux=Aux,
            target_fusion=TargetFusion,
            modality_fusion=ModalityFusion,
            interaction=InteractionKind,
            loss=LossName,
            schedule=Schedule,
            student_precision=StudentPrecision,
        )
        if pre_processor is True:
            pre_processor = DepthPreProcessor(default_transform(), aux)
        super().__init__(pre_processor, post_processor, evaluator, visualizer)
        check_pre_processor(self.pre_processor, branches, aux)
        self.model = MmrdModel(
            Teacher(backbone, pre_trained=pre_trained, weights=weights),
            branches=branches,
            target_fusion=target_fusion,
            modality_fusion=modality_fusion,
            num_prototypes=num_prototypes,
            interaction=interaction,
            loss=loss,
            sigma=sigma,
        )

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> DepthPreProcessor:
        """Build the default pre-processor, for images of 256 pixels or another size."""
        return DepthPreProcessor(default_transform(image_size or (256, 256)))

    @classmethod
    def configure_visualizer(cls) -> DepthVisualizer:
        """Build the default visualizer."""
        return DepthVisualizer(text_config=LABELS)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Inputs of an export, in order."""
        return ("image",) if self.hparams["branches"] == RGB else ("image", "depth")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Configure Adam for all trainable parameters."""
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        return self.scheduled(
            torch.optim.Adam(self.model.learned_parameters(), lr=rate, betas=BETAS, weight_decay=decay)
        )

    def inputs(self, batch: Any) -> Tensor:
        """Return the branches' input as one image: photo, depth image, or both, ``(N, 3 or 6, H, W)``.

        Raises:
            ValueError: If the branches need depth and there is none.
        """
        branches = self.hparams["branches"]
        if branches == RGB:
            return super().inputs(batch)
        return self.depth_of(batch) if branches == AUX else torch.cat((batch.image, self.depth_of(batch)), dim=1)

    def fit_to_normal_images(self) -> None:
        """Fit the depth's range and the second modality's statistics, once; errors as for :func:`check_depth`."""
        if AUX not in self.model.modalities:
            return
        dataset = self.trainer.train_dataloader.dataset  # type: ignore[union-attr]
        check_depth(dataset)
        if self.model.teacher.estimated:
            return
        if isinstance(self.pre_processor, DepthPreProcessor):
            maps = (self.depth_of(dataset[index]) for index in evenly_spaced(len(dataset), AUX_IMAGES))
            self.pre_processor.calibrate(maps, next(normal_batches(self, 1)).image.shape[-2:])
        self.model.teacher.estimate(self.inputs(batch) for batch in normal_batches(self, AUX_IMAGES))

    def calibrate(self) -> None:
        """Also calibrate the maps on normal images, held-out ones if possible.

        Training images have smaller distances than new ones, to a different extent in each modality.
        """
        super().calibrate()
        if self.model.modality_fusion is not None:
            dataset = held_out(self.trainer.datamodule)  # type: ignore[attr-defined]  # absent if loaders were given
            self.model.calibrate(self.inputs(batch) for batch in normal_batches(self, dataset=dataset))

    def forward(self, batch: Tensor, depth: Tensor | None = None) -> Any:
        """Predict on raw inputs, as in testing; this method is exported.

        Args:
            batch: Photos ``(N, 3, H, W)`` in 0..1.
            depth: Depth maps ``(N, 1, H, W)``, or point clouds ``(N, 3, H, W)``, as for :class:`DepthPreProcessor`.

        Raises:
            ValueError: If the branches need depth and there is none.
        """
        if self.hparams["branches"] == RGB:
            return super().forward(batch)
        raw = SimpleNamespace(image=batch, depth_map=depth)
        self.depth_of(raw)
        if self.pre_processor is not None:
            raw.image, raw.depth_map = self.pre_processor(batch, depth)
        return self.post_processed(self.inputs(raw))


def check_pre_processor(pre_processor: Any, branches: str, aux: str) -> None:
    """Reject a pre-processor that ignores the depth, moves the photo against it, or computes another modality from it.

    Args:
        pre_processor: The model's, or ``None``.
        branches: As for :class:`Mmrd`.
        aux: As for :class:`Mmrd`.

    Raises:
        ValueError: If the pre-processor does not fit.
    """
    if branches == RGB or pre_processor is None:
        return
    if not isinstance(pre_processor, DepthPreProcessor):
        msg = (
            f"Expected a DepthPreProcessor for branches={branches!r}, got a {type(pre_processor).__name__}, which "
            "does not change the depth. Wrap its transform: DepthPreProcessor(transform)."
        )
        raise ValueError(msg)  # noqa: TRY004  # as for every other argument
    if pre_processor.aux != aux:
        msg = (
            f"Expected a pre-processor with the model's aux={aux!r}, got {pre_processor.aux!r}. "
            "Set aux to the same value in both."
        )
        raise ValueError(msg)
    if not shows_all(pre_processor.transform):
        msg = (
            "Expected a transform that keeps the whole photo, as its depth stays whole, got "
            f"{', '.join(type(step).__name__ for step in steps_of(pre_processor.transform) if not shows_all(step))}. "
            "Crop photos and depth beforehand; flips go to DepthPreProcessor(augmentation=...)."
        )
        raise ValueError(msg)


def check_depth(dataset: Any) -> None:
    """Reject what would silently go wrong with anomalib's data sets with depth.

    Args:
        dataset: Training images, of one category or of several.

    Raises:
        ValueError: If there are augmentations, which change the photo alone, or depth maps of one channel, in which 0
            means missing.
    """
    for part in datasets_of(dataset):
        if not isinstance(part, AnomalibDepthDataset):
            continue
        name = type(part).__name__
        if not shows_all(part.augmentations):
            msg = (
                f"Expected no augmentations for {name}, got some, which would not change the depth. Use the "
                "augmentation of DepthPreProcessor."
            )
            raise ValueError(msg)
        depth: Any = part[0].depth_map
        if len(depth) == 1:
            msg = (
                f"Expected points x, y, z from {name}, got depth of one channel, whose missing points, 0, would count "
                "as measured. Use DepthFolder."
            )
            raise ValueError(msg)
