# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mmrd: a guided student restores a siamese teacher's features of colour and depth.

Source: Gu et al., "Rethinking Reverse Distillation for Multi-Modal Anomaly Detection", AAAI 2024. Neither its full text
nor code is public; what the abstract leaves open is ours. Plain branches are RD4AD (Deng and Li, CVPR 2022).
"""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from anomalib.models.components.backbone import get_decoder
from einops import rearrange, reduce
from torch import Tensor

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator
from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.functional import flat_cosine_distance, gaussian_blur, position_cosine_distance
from anomalib_mkd.models.mmrd.fusion import MODALITY_FUSIONS, TARGET_FUSIONS, ModalityFusion, TargetFusion, unit
from anomalib_mkd.models.mmrd.priors import InteractionKind
from anomalib_mkd.models.mmrd.siamese import RGB, SiameseTeacher, level
from anomalib_mkd.models.mmrd.student import GuidedStudent, PlainStudent
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid

Branches: TypeAlias = Literal["mmrd", "rgb", "aux", "two_branch"]
LossName: TypeAlias = Literal["flat", "pixel", "flat+pixel"]

AUX = "aux"
MODALITIES: dict[Branches, tuple[str, ...]] = {
    "mmrd": (RGB, AUX),
    "two_branch": (RGB, AUX),
    "rgb": (RGB,),
    "aux": (AUX,),
}
STRIDE = 32
"""Stride of the bottleneck, which the decoder reverses by doublings."""


class MmrdModel(LevelwiseTeacherStudent):
    """Teacher, student and the maps of both modalities; arguments and errors as for ``Mmrd``.

    An image is a photo followed by the depth image, ``(N, 6, H, W)``, or one of them alone, ``(N, 3, H, W)``.

    Attributes:
        modalities: The modalities that an image consists of.
        side_multiple: Number of which every side of an image must be a multiple.
    """

    teacher: SiameseTeacher
    map_mean: Tensor
    map_peak: Tensor
    side_multiple = STRIDE

    def __init__(
        self,
        teacher: Teacher,
        *,
        branches: Branches,
        target_fusion: TargetFusion,
        modality_fusion: ModalityFusion | None,
        num_prototypes: int,
        interaction: InteractionKind,
        loss: LossName,
        sigma: float,
    ) -> None:
        modalities = MODALITIES[branches]
        fused = branches == "mmrd" and target_fusion != "concat"
        one_map = fused or len(modalities) == 1
        check_fusions(branches, target_fusion, modality_fusion, one_map=one_map)
        backbone = plain_name(teacher.backbone)
        student: PlainStudent | GuidedStudent
        if branches == "mmrd":
            student = GuidedStudent(
                backbone,
                teacher.channels,
                modalities,
                one_target=fused,
                num_prototypes=num_prototypes,
                interaction=interaction,
            )
        else:
            student = PlainStudent(backbone, modalities, teacher.layers)
        terms = {"flat": Term(flat_cosine_distance, 1.0), "pixel": Term(position_cosine_distance, 1.0)}
        super().__init__(
            SiameseTeacher(teacher, modalities),
            student,
            PyramidLoss(**{name: terms[name] for name in loss.split("+")}),
            AnomalyMapGenerator("sum", align_corners=True),  # as RD4AD
            score_share=0.0,
        )
        self.image_channels = 3 * len(modalities)
        self.modalities = modalities
        self.branches = branches
        self.target_fusion = target_fusion if fused else None
        self.modality_fusion = None if one_map else modality_fusion or "zmax"
        self.sigma = sigma
        self.register_buffer("map_mean", torch.zeros(len(modalities)))
        self.register_buffer("map_peak", torch.ones(len(modalities)))

    def compared(self, images: Tensor, teacher: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Fuse the teacher's features into targets, and restore them from the teacher's features."""
        del images  # a reverse student only sees the teacher's features
        return self.targets(teacher), self.student(teacher)

    def targets(self, teacher: Pyramid) -> Pyramid:
        """Compute the student's targets: the features of each modality, or one fusion of both."""
        if self.branches != "mmrd":
            return teacher
        if self.target_fusion is None:
            return {name: unit(features) for name, features in teacher.items()}
        fuse = TARGET_FUSIONS[self.target_fusion]
        return {name: fuse(teacher[level(RGB, name)], teacher[level(AUX, name)]) for name in self.teacher.layers}

    def modality_maps(self, teacher: Pyramid, student: Pyramid, size: torch.Size) -> list[Tensor]:
        """Compute the unblurred map of each modality, ``(N, 1, H, W)``."""
        chosen = [{level(name, layer) for layer in self.teacher.layers} for name in self.modalities]
        return [self.anomaly_map(teacher, {n: s for n, s in student.items() if n in names}, size) for names in chosen]

    def locate(self, teacher: Pyramid, student: Pyramid, size: torch.Size) -> Tensor:
        """Compute the map: of the fused target, of the only modality, or of both, fused; blurred last."""
        if self.modality_fusion is None:
            return gaussian_blur(self.anomaly_map(teacher, student, size), self.sigma)
        maps = zip(self.modality_maps(teacher, student, size), self.map_mean, self.map_peak, strict=True)
        rgb, aux = ((found - mean) / (peak - mean) for found, mean, peak in maps)
        return gaussian_blur(MODALITY_FUSIONS[self.modality_fusion](rgb, aux), self.sigma)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Store the mean of each modality's map over normal images, and the mean of the images' peaks.

        Args:
            batches: Pre-processed normal images, preferably ones that the student was not trained on.
        """
        of_batches = []
        for images in batches:
            compared = self.compared(images, self.teacher(images))
            maps = self.modality_maps(*compared, images.shape[-2:])
            of_batches.append(rearrange(maps, "modality image 1 h w -> modality image (h w)"))
        maps_of_all = torch.cat(of_batches, dim=1)
        mean = reduce(maps_of_all, "modality image pixel -> modality", "mean")
        peaks = reduce(maps_of_all, "modality image pixel -> modality image", "max")
        self.map_mean.copy_(mean)
        self.map_peak.copy_(torch.maximum(reduce(peaks, "modality image -> modality", "mean"), mean + 1e-6))


def plain_name(backbone: str) -> str:
    """Remove the tag of a backbone's name, and check that anomalib has a decoder for it.

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


def check_fusions(
    branches: Branches, target_fusion: TargetFusion, modality_fusion: ModalityFusion | None, *, one_map: bool
) -> None:
    """Reject fusions that would have no effect.

    Args:
        branches: As for ``Mmrd``.
        target_fusion: Must be "concat", its default, unless there are targets to fuse.
        modality_fusion: Must be ``None``, its default, unless there are maps to fuse.
        one_map: Whether there is only one map.

    Raises:
        ValueError: If a fusion would have no effect.
    """
    if branches != "mmrd" and target_fusion != "concat":
        msg = f"Expected target_fusion='concat' for branches={branches!r}, got {target_fusion!r}. Remove target_fusion."
        raise ValueError(msg)
    if one_map and modality_fusion is not None:
        msg = (
            f"Expected no modality_fusion with only one map (branches={branches!r}, "
            f"target_fusion={target_fusion!r}), got {modality_fusion!r}. Remove modality_fusion."
        )
        raise ValueError(msg)
