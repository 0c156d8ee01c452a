# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Dcam: attention in training, none in prediction.

Source: Jena et al., "Attend, Distill, Detect: Attention-aware Entropy Distillation for Anomaly Detection", 2024, arXiv
2405.06467. The released code trains neither gates nor divergence.
"""

from functools import partial

from torch import Tensor, nn

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator, LevelFusion
from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.functional import position_cosine_distance, spatial_kl_divergence
from anomalib_mkd.models.dcam.attention import Attention, AttentionKind
from anomalib_mkd.networks.student import Student
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid


class DcamModel(LevelwiseTeacherStudent):
    """Teacher, student and gates on the student's layers; arguments and errors as for ``Dcam``.

    The trunk never sees a gate, so leaving out the gates changes nothing in prediction. The paper's channel-wise cosine
    compares the channel vectors at each position, hence our different name for it.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        student_width: float,
        attention: AttentionKind,
        cosine_weight: float,
        kl_weight: float,
        raw_weight: float,
        hard_share: float,
        level_fusion: LevelFusion,
        sigma: float,
        score_share: float,
    ) -> None:
        weights = (cosine_weight, kl_weight, raw_weight)
        if not any(weights):
            msg = "Expected cosine_weight, kl_weight or raw_weight > 0, got 0 for all. Set one above 0."
            raise ValueError(msg)
        if attention == "none":  # attended and raw features are then the same: one term for both
            cosine_weight, raw_weight = cosine_weight + raw_weight, 0.0
        student = Student(teacher, student_width)  # before the gates: a seed then gives the same student without them
        cosine = partial(position_cosine_distance, share=hard_share)
        terms = {
            "cosine": Term(cosine, cosine_weight, teacher.layers),
            "divergence": Term(spatial_kl_divergence, kl_weight, teacher.layers),
            "raw": Term(cosine, raw_weight, [raw(layer) for layer in teacher.layers]),
        }
        loss = PyramidLoss(**{name: term for name, term in terms.items() if term.weight})
        super().__init__(teacher, student, loss, AnomalyMapGenerator(level_fusion, sigma), score_share)
        self.gates = nn.ModuleList(Attention(channels, attention) for channels in teacher.channels.values())

    def pyramids(self, images: Tensor, teacher: Pyramid | None = None) -> tuple[Pyramid, Pyramid]:
        """Apply attention to the student's features, and add the raw ones if the loss uses them."""
        teacher, student = super().pyramids(images, teacher)
        attended = {name: attend(student[name]) for name, attend in zip(student, self.gates, strict=True)}
        if "raw" in self.loss.parts:
            teacher = teacher | {raw(name): features for name, features in teacher.items()}
            attended |= {raw(name): features for name, features in student.items()}
        return teacher, attended


def raw(layer: str) -> str:
    """Return the name of a layer's features without gates."""
    return f"{layer} raw"
