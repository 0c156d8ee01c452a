# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Levels of a student computed from other levels of the teacher."""

from collections.abc import Sequence

from torch import nn

from anomalib_mkd.networks.student import Student
from anomalib_mkd.types import Pyramid


class FedPath(nn.Module):
    """The student's stages go on from the teacher's shallow features, so that no fault before them matters.

    Args:
        student: Whose stages run; one that is as wide as the teacher.
        crossings: The layer that the stages go on from, then the layer that they lead to, of each pair to compare.

    Shape:
        The teacher's and the student's pyramid in; pairs to compare, the teacher's and the fed ones, out.

    Raises:
        NotImplementedError: If the student is no plain sequence of stages.

    Example:
        >>> import torch
        >>> from anomalib_mkd.networks.teacher import Teacher
        >>> teacher = Teacher("resnet18.tv_in1k", pre_trained=False)
        >>> path = FedPath(Student(teacher), [("layer1", "layer3")])
        >>> pyramid = teacher(torch.ones(2, 3, 64, 64))
        >>> {name: tuple(features.shape) for name, features in path(pyramid, pyramid)[1].items()}
        {'layer3 fed with layer1': (2, 256, 4, 4)}
    """

    def __init__(self, student: Student, crossings: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        student.stages()  # refuses what cannot be fed
        self.feed = student.feed  # not the module itself, whose parameters the model has already
        self.crossings = {f"{deep} fed with {shallow}": (shallow, deep) for shallow, deep in crossings}

    def forward(self, teacher: Pyramid, student: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Run the stages."""
        del student
        fed = {name: self.feed(teacher[start], start, stop) for name, (start, stop) in self.crossings.items()}
        return {name: teacher[stop] for name, (_, stop) in self.crossings.items()}, fed
