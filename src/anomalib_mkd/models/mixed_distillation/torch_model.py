# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""STFPM with paths across levels: deep levels also learn from shallow ones, and shallow levels from deep ones.

Source: Cai and Xia, "Mixed Distillation for Unsupervised Anomaly Detection", MVA 2023. Only its abstract is public.
"""

from functools import partial

from torch import Tensor, nn

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator, LevelFusion
from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.functional import position_cosine_distance
from anomalib_mkd.models.mixed_distillation.paths import CrossPath
from anomalib_mkd.networks.student import Student
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid

SCALE = 2.0
"""STFPM's authors train on the squared distance of unit vectors, which is 2 (1 - cos)."""


class MixedDistillationModel(LevelwiseTeacherStudent):
    """Teacher, student and the paths between their levels; arguments and errors as for ``MixedDistillation``."""

    def __init__(
        self,
        teacher: Teacher,
        *,
        student_width: float,
        skip_weight: float,
        symmetric_weight: float,
        hard_share: float,
        level_fusion: LevelFusion,
        sigma: float,
        score_share: float,
    ) -> None:
        weights = {"skip": skip_weight, "symmetric": symmetric_weight}
        shallow, deep = teacher.layers[0], teacher.layers[-1]
        if shallow == deep and any(weights.values()):
            msg = (
                f"Expected skip_weight and symmetric_weight to be 0 with a single layer, got {skip_weight} and "
                f"{symmetric_weight} with {list(teacher.layers)}. Set both to 0, or choose two layers or more."
            )
            raise ValueError(msg)
        student = Student(teacher, student_width)  # before the paths: a seed then gives the same student without them
        paths = {}
        if skip_weight:
            paths["skip"] = CrossPath(teacher.channels, teacher_layer=shallow, student_layer=deep)
        if symmetric_weight:
            paths["symmetric"] = CrossPath(teacher.channels, teacher_layer=deep, student_layer=shallow)
        distance = partial(position_cosine_distance, share=hard_share)
        loss = PyramidLoss(
            base=Term(distance, SCALE, teacher.layers),
            **{kind: Term(distance, SCALE * weights[kind], [path.name]) for kind, path in paths.items()},
        )
        super().__init__(teacher, student, loss, AnomalyMapGenerator(level_fusion, sigma), score_share)
        self.paths = nn.ModuleDict(paths)

    def pyramids(self, images: Tensor, teacher: Pyramid | None = None) -> tuple[Pyramid, Pyramid]:
        """Add what the paths compare to what the levels compare."""
        teacher, student = super().pyramids(images, teacher)
        crossed = [path(teacher, student) for path in self.paths.values()]
        for target, adapted in crossed:
            teacher, student = teacher | target, student | adapted
        return teacher, student
