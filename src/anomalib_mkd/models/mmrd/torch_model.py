# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mmrd: a siamese teacher looks at colour and depth, and a guided student restores what it saw.

Source: Gu et al., "Rethinking Reverse Distillation for Multi-Modal Anomaly Detection", AAAI 2024. Neither its full text
nor code is public; what the abstract leaves open is ours. Plain branches are RD4AD (Deng and Li, CVPR 2022).
"""

from collections.abc import Iterable
from typing import Literal

import torch
from anomalib.models.components.backbone import get_decoder
from torch import Tensor

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator
from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.functional import flat_cosine_distance, gaussian_blur, position_cosine_distance
from anomalib_mkd.models.mmrd.fusion import CALIBRATED, MODALITY_FUSIONS, TARGET_FUSIONS, unit
from anomalib_mkd.models.mmrd.siamese import RGB, SiameseTeacher, level
from anomalib_mkd.models.mmrd.student import Branches, GuidedStudent
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid

AUX = "aux"
MODALITIES = {"mmrd": (RGB, AUX), "two_branch": (RGB, AUX), "rgb": (RGB,), "aux": (AUX,)}
STRIDE = 32
"""Of the bottleneck; the decoder doubles its way back."""

ModalityFusion = Literal["zmax", "p4", "rss", "zsum", "sum", "joint"]


class MmrdModel(LevelwiseTeacherStudent):
    """Teacher, student and the maps of both modalities; arguments and errors as for ``Mmrd``.

    An image is a photo with the depth image behind it, ``(N, 6, H, W)``, or one of them alone, ``(N, 3, H, W)``.

    Attributes:
        modalities: What an image consists of.
        side_multiple: Divisor of every side.
    """

    teacher: SiameseTeacher
    map_mean: Tensor
    map_peak: Tensor
    side_multiple = STRIDE

    def __init__(
        self,
        teacher: Teacher,
        branches: Literal["mmrd", "rgb", "aux", "two_branch"] = "mmrd",
        target_fusion: Literal["concat", "sum", "mean", "max", "nsum", "energy", "variance"] = "concat",
        modality_fusion: ModalityFusion | None = None,
        num_prototypes: int = 64,
        prior_dim: int = 256,
        prior_temperature: float = 0.1,
        prior_source: Literal["teacher", "embedding"] = "teacher",
        prior_init: Literal["orthogonal", "kmeans", "random"] = "orthogonal",
        interaction: Literal["intra_cross", "intra", "none"] = "intra_cross",
        num_heads: int = 4,
        inject: Literal["add", "replace", "concat"] = "add",
        shared_bottleneck: bool = False,
        loss: Literal["flat", "pixel", "flat+pixel"] = "flat",
        level_fusion: Literal["sum", "product"] = "sum",
        sigma: float = 4.0,
    ) -> None:
        self.modalities = MODALITIES[branches]
        fused = branches == "mmrd" and target_fusion != "concat"
        backbone = plain_name(teacher.backbone)
        one_map = fused or len(self.modalities) == 1
        check_arguments(teacher, branches, target_fusion, modality_fusion, one_map=one_map)
        if branches == "mmrd":
            check_prior(num_prototypes, prior_dim, prior_temperature, num_heads, prior_source, prior_init)
            student: Branches | GuidedStudent = GuidedStudent(
                backbone,
                teacher.channels,
                self.modalities,
                one_target=fused,
                num_prototypes=num_prototypes,
                prior_dim=prior_dim,
                prior_temperature=prior_temperature,
                prior_source=prior_source,
                prior_init=prior_init,
                interaction=interaction,
                num_heads=num_heads,
                inject=inject,
                shared_bottleneck=shared_bottleneck,
            )
        else:
            student = Branches(backbone, self.modalities, teacher.layers)
        terms = {"flat": Term(flat_cosine_distance, 1.0), "pixel": Term(position_cosine_distance, 1.0)}
        super().__init__(
            SiameseTeacher(teacher, self.modalities),
            student,
            PyramidLoss(**{name: terms[name] for name in loss.split("+")}),
            AnomalyMapGenerator(level_fusion, align_corners=True),  # as RD4AD
        )
        self.image_channels = 3 * len(self.modalities)
        self.branches = branches
        self.target_fusion = target_fusion if fused else None
        self.modality_fusion = None if one_map else modality_fusion or "zmax"
        self.sigma = sigma
        self.register_buffer("map_mean", torch.zeros(len(self.modalities)))
        self.register_buffer("map_peak", torch.ones(len(self.modalities)))

    def compared(self, images: Tensor, teacher: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Fuse the teacher's features into targets, and restore them from the teacher's features."""
        del images  # a reverse student sees what the teacher made of them
        return self.targets(teacher), self.student(teacher)

    def targets(self, teacher: Pyramid) -> Pyramid:
        """Give what the student restores: the features of each modality, or one fusion of both."""
        if self.branches != "mmrd":
            return teacher
        if self.target_fusion is None:
            return {name: unit(features) for name, features in teacher.items()}
        fuse = TARGET_FUSIONS[self.target_fusion]
        first, second = self.modalities
        return {name: fuse(teacher[level(first, name)], teacher[level(second, name)]) for name in self.teacher.layers}

    def modality_maps(self, teacher: Pyramid, student: Pyramid, size: torch.Size) -> list[Tensor]:
        """Compute the unblurred map of each modality, ``(N, 1, H, W)``."""
        chosen = [{level(name, layer) for layer in self.teacher.layers} for name in self.modalities]
        return [self.anomaly_map(teacher, {n: s for n, s in student.items() if n in names}, size) for names in chosen]

    def locate(self, teacher: Pyramid, student: Pyramid, size: torch.Size) -> Tensor:
        """Compute the map: of the fused target, of the only modality, or of both joined; blurred last."""
        if self.target_fusion is not None:
            return gaussian_blur(self.anomaly_map(teacher, student, size), self.sigma)
        maps = self.modality_maps(teacher, student, size)
        if len(maps) == 1:
            return gaussian_blur(maps[0], self.sigma)
        if self.modality_fusion in CALIBRATED:
            scales = zip(maps, self.map_mean, self.map_peak, strict=True)
            maps = [(m - mean) / (peak - mean) for m, mean, peak in scales]
        return gaussian_blur(MODALITY_FUSIONS[str(self.modality_fusion)](*maps), self.sigma)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Store the mean of each modality's map over normal images, and the mean of the peaks of these images.

        Args:
            batches: Pre-processed normal images, best such as the student was not trained on.
        """
        maps = []
        for images in batches:
            compared = self.compared(images, self.teacher(images))
            maps.append(torch.stack(self.modality_maps(*compared, images.shape[-2:])).flatten(2))  # (M, N, pixels)
        every = torch.cat(maps, dim=1)
        mean, peak = every.mean(dim=(1, 2)), every.amax(dim=2).mean(dim=1)
        self.map_mean.copy_(mean)
        self.map_peak.copy_(torch.maximum(peak, mean + 1e-6))

    def observations(self) -> dict[str, Tensor]:
        """Tell how many prototypes of each modality are in use."""
        if not isinstance(self.student, GuidedStudent):
            return {}
        return {f"{name}_prototypes_in_use": prior.perplexity for name, prior in self.student.priors.items()}


def plain_name(backbone: str) -> str:
    """Take the tag off a backbone that anomalib has a decoder for.

    Raises:
        ValueError: If it has none.

    Example:
        >>> plain_name("resnet18.tv_in1k")
        'resnet18'
    """
    name = backbone.split(".", maxsplit=1)[0]
    try:
        get_decoder(name)
    except ValueError as error:
        msg = (
            f"Expected a backbone with a decoder in anomalib, a ResNet, ResNeXt or Wide ResNet, got {backbone!r}: "
            f"{error}. Choose for example 'resnet18.tv_in1k' or 'wide_resnet50_2.tv_in1k'."
        )
        raise ValueError(msg) from error
    return name


def check_arguments(
    teacher: Teacher, branches: str, target_fusion: str, modality_fusion: str | None, *, one_map: bool
) -> None:
    """Refuse layers that the bottleneck cannot take, and arguments that would do nothing.

    Raises:
        ValueError: If there are such.
    """
    if tuple(teacher.layers) != ("layer1", "layer2", "layer3"):
        msg = (
            "Expected the layers layer1, layer2 and layer3, which the bottleneck joins, got "
            f"{list(teacher.layers)}. Leave them out."
        )
        raise ValueError(msg)
    if branches != "mmrd" and target_fusion != "concat":
        msg = f"Expected target_fusion='concat' for branches={branches!r}, got {target_fusion!r}. Leave it out."
        raise ValueError(msg)
    if one_map and modality_fusion is not None:
        msg = (
            f"Expected no modality_fusion where there is one map only (branches={branches!r}, "
            f"target_fusion={target_fusion!r}), got {modality_fusion!r}. Leave it out."
        )
        raise ValueError(msg)


def check_prior(count: int, dim: int, temperature: float, heads: int, source: str, init: str) -> None:
    """Refuse priors that cannot be built.

    Raises:
        ValueError: If a number is out of range, or the centres of untrained features are asked for.
    """
    if min(count, dim, heads) < 1 or dim % heads or not temperature > 0:
        msg = (
            "Expected num_prototypes, prior_dim and num_heads of at least 1, prior_dim a multiple of num_heads, and "
            f"prior_temperature > 0, got {count}, {dim}, {heads} and {temperature}. Correct them."
        )
        raise ValueError(msg)
    if init == "kmeans" and source != "teacher":
        msg = (
            "Expected prior_source='teacher' for prior_init='kmeans', since other features are untrained at the "
            f"start, got {source!r}. Change one of them."
        )
        raise ValueError(msg)
