# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The paths of mixed distillation: a level of the student that also learns from a teacher level of another depth."""

from collections.abc import Mapping

from torch import nn

from anomalib_mkd.functional import resize
from anomalib_mkd.types import Pyramid


class CrossPath(nn.Module):
    """Compare a student level with another teacher level through a linear 1x1 convolution.

    Being linear, the convolution cannot learn in the student's place. The two are compared at the size of the deeper
    level, which cannot restore the detail of the shallower one.

    Args:
        channels: Channels per layer.
        teacher_layer: Layer to learn from.
        student_layer: Layer that learns.

    Shape:
        The teacher's and the student's pyramid in; the teacher's and the adapted student's features to compare, out.

    Example:
        >>> import torch
        >>> path = CrossPath({"layer1": 8, "layer2": 16}, teacher_layer="layer1", student_layer="layer2")
        >>> pyramid = {"layer1": torch.ones(2, 8, 4, 4), "layer2": torch.ones(2, 16, 2, 2)}
        >>> {name: tuple(features.shape) for name, features in path(pyramid, pyramid)[1].items()}
        {'layer2 for layer1': (2, 8, 2, 2)}
    """

    def __init__(self, channels: Mapping[str, int], *, teacher_layer: str, student_layer: str) -> None:
        super().__init__()
        self.teacher_layer, self.student_layer = teacher_layer, student_layer
        self.name = f"{student_layer} for {teacher_layer}"
        # a list, so that checkpoints of commit 0a145f3 still load
        self.adapters = nn.ModuleList([nn.Conv2d(channels[student_layer], channels[teacher_layer], 1)])

    def forward(self, teacher: Pyramid, student: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Adapt the student's features to the teacher's layer."""
        target, source = teacher[self.teacher_layer], student[self.student_layer]
        size = min(target.shape[-2:], source.shape[-2:])
        return {self.name: resize(target, size)}, {self.name: self.adapters[0](resize(source, size))}
