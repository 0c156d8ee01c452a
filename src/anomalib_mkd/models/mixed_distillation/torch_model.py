# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""STFPM with paths across levels: deep levels also learn from shallow ones, shallow levels also from deep ones.

Source: Cai and Xia, "Mixed Distillation for Unsupervised Anomaly Detection", MVA 2023. Only its abstract is public.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.models.mixed_distillation.fed_path import FedPath
from anomalib_mkd.models.mixed_distillation.linear_path import LinearPath
from anomalib_mkd.models.mixed_distillation.loss import mixed_loss
from anomalib_mkd.models.mixed_distillation.paths import find_crossings
from anomalib_mkd.models.mixed_distillation.review import Review
from anomalib_mkd.networks.student import Student
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid


class MixedDistillationModel(LevelwiseTeacherStudent):
    """Teacher, student and the paths between their levels; arguments and errors as for ``MixedDistillation``."""

    def __init__(
        self,
        teacher: Teacher,
        student_width: float = 0.5,
        skip_weight: float = 0.5,
        symmetric_weight: float = 0.5,
        pairs: Literal["extreme", "all"] = "extreme",
        path_mode: Literal["target", "feed"] = "target",
        adapter: Literal["linear", "review"] = "linear",
        align: Literal["coarse", "fine"] = "coarse",
        map_source: Literal["same", "mixed"] = "same",
        level_fusion: Literal["sum", "product"] = "sum",
        sigma: float = 0.0,
        score_share: float = 0.005,
        loss_reduction: Literal["mean", "anomalib"] = "mean",
        hard_share: float = 0.1,
    ) -> None:
        weights = {"skip": skip_weight, "symmetric": symmetric_weight}
        if not all(weight >= 0 for weight in weights.values()) or (len(teacher.layers) == 1 and any(weights.values())):
            msg = f"Expected weights of at least 0, and 0 with one layer, got {weights} with {list(teacher.layers)}."
            raise ValueError(msg)
        if student_width != 1 and (path_mode == "feed" or map_source == "mixed"):
            msg = f"Expected student_width=1 with path_mode='feed' or map_source='mixed', got {student_width}."
            raise ValueError(msg)
        if map_source == "mixed" and level_fusion == "product":
            msg = "Expected level_fusion='sum' with map_source='mixed', got 'product'. Change one of them."
            raise ValueError(msg)
        student = Student(teacher, student_width)  # before the adapters: a seed gives the same student without them
        paths: dict[str, LinearPath | FedPath | Review] = {}
        for kind in (kind for kind, weight in weights.items() if weight):
            crossings = find_crossings(teacher.layers, kind, pairs)
            if kind == "skip" and path_mode == "feed":
                paths[kind] = FedPath(student, crossings)
            elif adapter == "linear":
                paths[kind] = LinearPath(teacher.channels, crossings, align)
            else:
                order = reversed(teacher.layers) if kind == "skip" else teacher.layers
                paths[kind] = Review({name: teacher.channels[name] for name in order})
        weighted = {kind: (weights[kind], list(path.crossings)) for kind, path in paths.items()}
        loss = mixed_loss(teacher.layers, weighted, loss_reduction, hard_share)
        super().__init__(teacher, student, loss, AnomalyMapGenerator(level_fusion, sigma), score_share)
        self.paths = nn.ModuleDict(paths)
        self.map_weights = weights if map_source == "mixed" else {}

    def pyramids(self, images: Tensor, teacher: Pyramid | None = None) -> tuple[Pyramid, Pyramid]:
        """Add what the paths compare to what the levels compare."""
        teacher, student = super().pyramids(images, teacher)
        for targets, adapted in [path(teacher, student) for path in self.paths.values()]:
            teacher, student = teacher | targets, student | adapted
        return teacher, student

    def locate(self, teacher: Pyramid, student: Pyramid, size: torch.Size) -> Tensor:
        """Compute the map from the levels and, if it is mixed, from what the paths compare."""
        anomaly_map = super().locate(teacher, student, size)
        for kind, path in self.paths.items() if self.map_weights else ():
            targets, adapted = path(teacher, student)
            anomaly_map = anomaly_map + self.map_weights[kind] * self.anomaly_map(targets, adapted, size) / len(targets)
        return anomaly_map

    def observations(self) -> dict[str, Tensor]:
        """Tell how much a review carries on from the levels before; below 0.05, its path is idle."""
        return {f"{kind}_carried": path.carried for kind, path in self.paths.items() if isinstance(path, Review)}
