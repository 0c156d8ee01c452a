# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mkd as an anomalib model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.deploy import CompressionType
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torchvision.transforms.v2 import Resize

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.data.normal_images import normal_batches
from anomalib_mkd.models.mkd.cloner import StudentSize
from anomalib_mkd.models.mkd.localization import Localization
from anomalib_mkd.models.mkd.torch_model import MapScaling, MkdModel, Second
from anomalib_mkd.networks.backbone import MIN_SIZE, VGG16, is_chain, resolve_backbone
from anomalib_mkd.networks.inputs import suited_pre_processor
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.thresholds import FALSE_ALARMS
from anomalib_mkd.training.caching import CACHE_GIGABYTES
from anomalib_mkd.training.mixin import DistillationMixin
from anomalib_mkd.training.precision import StudentPrecision
from anomalib_mkd.training.schedule import Schedule

Auto: TypeAlias = Literal["auto"]


class Mkd(DistillationMixin, AnomalibModule):
    """Multiresolution knowledge distillation (Salehi et al., CVPR 2021).

    A small student learns on normal images to copy a frozen teacher at several depths, in value and in direction.
    Its discrepancy is the anomaly score; the gradient of that with respect to the image is the anomaly map.

    Args:
        backbone: Teacher, by timm's full name. The default "vgg16.tv_in1k" is the paper's; any CNN that timm can tap
            works.
        layers: Layers that the student learns. Default: pools 2 to 5 of a VGG, else the stages of stride 4, 8 and 16.
        score_layers: Layers whose discrepancy is the score. Default: all but the first.
        map_layers: Layers whose discrepancy is differentiated for the map: "second" is the second of them, ``pool3`` of
            a VGG, which gave the best maps of those tried; None those of the score, as in the paper.
        student: "smaller" is 16 channels wide between the layers (the paper's best), "equal" as wide as the teacher.
        direction_weight: Weight of the direction term in loss, score and map; 0 leaves it out.
        value_weight: Weight of the value term; 0 leaves it out. The authors use 0.5 for MVTec AD and 0.01 for small
            images; "auto" makes both terms equal on the untrained student (the paper's idea) and is saved in the
            checkpoint.
        relative_value: Whether the value term is divided by the mean square of the teacher's features at each level, on
            normal images, so that it does not depend on the scale of the teacher's weights; False is the paper's.
        localization: How the map's gradient is computed: "gradients", "guided" (guided backpropagation through the
            student) or "smooth_grad" (mean over 50 noisy copies; cannot be exported).
        detach_teacher: Whether the gradient passes through the student only (the paper's text) or through both networks
            (the authors' code; plain VGGs only, twice the time).
        map_scaling: "train_quantile" divides maps by the 99.9th percentile over normal training images;
            "per_image_p99", the paper's, stretches every map to the same peak, even that of a normal image; "none"
            does not scale them.
        sigma: Standard deviation of the map's Gaussian blur in pixels; 0 for none.
        opening: Whether to remove spots smaller than a 3x3 cross from the map.
        learning_rate: Adam's peak learning rate. The paper uses a constant 1e-3 for far more steps.
        schedule: "one_cycle" decays the learning rate to 0, so that the final weights do not depend on the last steps;
            "constant" is the paper's.
        training_steps: Steps if neither max_epochs nor max_steps is set, per category of a ``MultiCategory``, rounded
            up to whole epochs. None leaves the length to Lightning.
        cache_gigabytes: Memory for the training images and the teacher's features of them; 0 reads and computes them in
            every step. Images are cached only if the data loader has no worker processes.
        student_precision: Precision of the student's forward and backward pass in training: "auto" uses bf16 on CPUs
            with AMX, where it is faster, and the trainer's precision elsewhere. Weights, loss and inference stay in
            f32.
        false_alarms: Expected share of good parts called bad, for which the threshold is set. ``None``: anomalib's
            rule, the best F1 in validation, which needs bad parts there.
        pre_trained: Whether to load the backbone's ImageNet weights.
        weights: File with weights for the backbone, or "quickstart" for the small embedded teacher.
        pre_processor: Default: 128 pixels without normalisation for VGGs and the embedded teacher (the paper's), else
            256 pixels with ImageNet normalisation.
        post_processor: Default: thresholds from good parts, on a scale that is never clipped.
        evaluator: Default: anomalib's.
        visualizer: Default: anomalib's.

    Raises:
        ValueError: If an argument is out of range, or two exclude each other.

    Example:
        >>> model = Mkd(weights="quickstart")
        >>> sum(parameter.numel() for parameter in model.model.learned_parameters()) < 400_000
        True
    """

    model: MkdModel
    balanced: torch.Tensor

    def __init__(
        self,
        backbone: str = VGG16,
        layers: Sequence[str] | None = None,
        score_layers: Sequence[str] | None = None,
        map_layers: Sequence[str] | Second | None = "second",
        student: StudentSize = "smaller",
        direction_weight: float = 1.0,
        value_weight: float | Auto = "auto",
        relative_value: bool = True,
        localization: Localization = "gradients",
        detach_teacher: bool = True,
        map_scaling: MapScaling = "train_quantile",
        sigma: float = 4.0,
        opening: bool = True,
        learning_rate: float = 3e-3,
        schedule: Schedule = "one_cycle",
        training_steps: int | None = 1200,
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
            optional=("training_steps", "false_alarms"),
            student=StudentSize,
            map_layers=Second,
            value_weight=Auto,
            localization=Localization,
            map_scaling=MapScaling,
            schedule=Schedule,
            student_precision=StudentPrecision,
        )
        paper_input = is_chain(resolve_backbone(backbone, weights))
        given = suited_pre_processor(pre_processor, backbone, weights)
        super().__init__(
            pre_processor=self.configure_pre_processor(imagenet=not paper_input) if given is True else given,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        _check_weights(direction_weight, value_weight)
        self.model = MkdModel(
            Teacher(backbone, layers, pre_trained=pre_trained, weights=weights),
            score_layers=score_layers,
            map_layers=map_layers,
            student=student,
            direction_weight=direction_weight,
            value_weight=1.0 if value_weight == "auto" else value_weight,
            relative_value=relative_value,
            localization=localization,
            detach_teacher=detach_teacher,
            map_scaling=map_scaling,
            sigma=sigma,
            opening=opening,
        )
        self.register_buffer("balanced", torch.tensor(value_weight != "auto" and not relative_value))

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None, imagenet: bool = False) -> PreProcessor:
        """Configure the default pre-processor.

        Args:
            image_size: Height and width in pixels. Default: 128, or 256 with ImageNet normalisation.
            imagenet: Whether to normalise with ImageNet's mean and deviation; the paper leaves images in 0..1.

        Raises:
            ValueError: If a side is under 32 pixels, where the deepest layers would be empty.
        """
        size = image_size or ((256, 256) if imagenet else (128, 128))
        if min(size) < MIN_SIZE:
            msg = f"Expected an image_size of at least {MIN_SIZE} pixels a side, got {size}. Choose a larger one."
            raise ValueError(msg)
        if imagenet:
            return AnomalibModule.configure_pre_processor(size)
        return PreProcessor(Resize(size, antialias=True))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Configure Adam for the student, as in the paper."""
        optimizer = torch.optim.Adam(self.model.learned_parameters(), lr=self.hparams["learning_rate"])
        return self.scheduled(optimizer)

    def fit_to_normal_images(self) -> None:
        """Set the units of the levels and balance the two terms, unless a checkpoint restored them."""
        if self.balanced:
            return
        batch = next(normal_batches(self))
        teacher = self.teacher_pyramid(batch)
        self.model.measure(teacher)
        if self.hparams["value_weight"] == "auto":
            self.model.train()
            self.model.balance_terms(batch.image, teacher)
        self.balanced.fill_(value=True)

    def calibrate(self) -> None:
        """Set the map's scale on normal images."""
        self.model.calibrate_map(batch.image for batch in normal_batches(self))

    def check_export(self, input_size: tuple[int, int] | None, compression_type: CompressionType | None = None) -> None:
        """Reject an export below f32, of a random map, or of a map of unknown size.

        Raises:
            ValueError: If it is one of these.
        """
        if compression_type is not None:
            msg = (
                f"Expected no compression_type for Mkd, got {compression_type}: the map is a gradient, and below f32 "
                "its comparisons (which pixel was a pool's maximum) come out differently. "
                "Export without compression."
            )
            raise ValueError(msg)
        if self.model.localization == "smooth_grad":
            msg = (
                "Expected localization='gradients' or 'guided' for an export, got 'smooth_grad', which draws random "
                "numbers. Load the checkpoint with one of the others; score and weights are the same."
            )
            raise ValueError(msg)
        transform = getattr(self.pre_processor, "transform", None)
        if not extract_transforms_by_type(transform, Resize) and min(input_size or (0, 0)) < MIN_SIZE:
            msg = (
                f"Expected an input_size of at least {MIN_SIZE} pixels a side, got {input_size}, and the pre-processor "
                "has no Resize: the map needs a static size. Set input_size, or use a pre-processor that resizes."
            )
            raise ValueError(msg)


def _check_weights(direction_weight: float, value_weight: float | str) -> None:
    if not direction_weight and value_weight in {0, "auto"}:
        msg = (
            "Expected direction_weight and value_weight >= 0, not both 0, or value_weight='auto' with a "
            f"direction_weight > 0, got {direction_weight!r} and {value_weight!r}. Set one above 0, neither below 0."
        )
        raise ValueError(msg)
