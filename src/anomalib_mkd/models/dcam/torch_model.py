# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Dcam: attend while teaching, not while judging.

Source: Jena et al., "Attend, Distill, Detect: Attention-aware Entropy Distillation for Anomaly Detection", 2024, arXiv
2405.06467. The released code trains neither gates nor divergence.
"""

from typing import Literal

from torch import Tensor, nn

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.models.dcam.attention import Attention
from anomalib_mkd.models.dcam.loss import dcam_loss, raw
from anomalib_mkd.networks.student import Student
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid


class DcamModel(LevelwiseTeacherStudent):
    """Teacher, student and gates beside the student's layers; arguments and errors as for ``Dcam``.

    The trunk never sees a gate, so that leaving the gates out changes nothing at inference.
    """

    def __init__(
        self,
        teacher: Teacher,
        student_width: float = 0.5,
        attention: Literal["channel", "spatial", "both", "none"] = "channel",
        attention_order: Literal["sequential", "parallel"] = "sequential",
        reduction_ratio: int = 8,
        spatial_kernel: int = 7,
        cosine_weight: float = 1.0,
        kl_weight: float = 1.0,
        raw_weight: float = 1.0,
        cosine_type: Literal["channel", "spatial"] = "channel",
        temperature: float = 1.0,
        kl_reduction: Literal["mean", "sum"] = "mean",
        hard_share: float = 0.1,
        level_fusion: Literal["sum", "product"] = "sum",
        sigma: float = 0.0,
        score_share: float = 0.005,
    ) -> None:
        weights = (cosine_weight, kl_weight, raw_weight)
        if not (all(weight >= 0 for weight in weights) and any(weights) and temperature > 0):
            msg = f"Expected weights >= 0, not all 0, and temperature > 0, got {weights}, {temperature}. Correct them."
            raise ValueError(msg)
        if attention == "none":  # attended features are the raw ones then: one term for both
            weights = (cosine_weight + raw_weight, kl_weight, 0.0)
        if cosine_type == "spatial" and hard_share != 1:
            msg = f"Expected hard_share=1 with cosine_type='spatial', which has no positions, got {hard_share}. Set it."
            raise ValueError(msg)
        student = Student(teacher, student_width)  # before the gates: a seed gives the same student without them
        loss = dcam_loss(teacher.layers, *weights, cosine_type, temperature, kl_reduction, hard_share)
        super().__init__(teacher, student, loss, AnomalyMapGenerator(level_fusion, sigma), score_share)
        self.gates = nn.ModuleList(
            Attention(channels, attention, attention_order, reduction_ratio, spatial_kernel)
            for channels in teacher.channels.values()
        )

    def pyramids(self, images: Tensor, teacher: Pyramid | None = None) -> tuple[Pyramid, Pyramid]:
        """Attend to the student's features; the raw ones come beside them where the loss wants them."""
        teacher, student = super().pyramids(images, teacher)
        attended = {name: attend(student[name]) for name, attend in zip(student, self.gates, strict=True)}
        if "raw" in self.loss.parts:
            teacher = teacher | {raw(name): features for name, features in teacher.items()}
            attended |= {raw(name): features for name, features in student.items()}
        return teacher, attended
