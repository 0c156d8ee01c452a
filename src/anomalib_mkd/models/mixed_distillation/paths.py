# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The paths of mixed distillation: pairs of features of different levels to compare.

A crossing names the teacher's layer, then the student's. Paths with adapters, which know nothing of mixed distillation,
are :mod:`anomalib_mkd.components.linear_path` and :mod:`anomalib_mkd.components.review`.
"""

from collections.abc import Sequence
from itertools import combinations

from torch import nn

from anomalib_mkd.components.student import Student
from anomalib_mkd.types import Pyramid


def find_crossings(layers: Sequence[str], kind: str, pairs: str) -> list[tuple[str, str]]:
    """Join the first layer with the last one (``"extreme"``), or every two (``"all"``), in the direction of a path.

    Example:
        >>> find_crossings(["layer1", "layer2", "layer3"], "skip", "extreme")
        [('layer1', 'layer3')]
    """
    joined = [(layers[0], layers[-1])] if pairs == "extreme" else list(combinations(layers, 2))
    return joined if kind == "skip" else [(deep, shallow) for shallow, deep in joined]


class FedPath(nn.Module):
    """The student's stages go on from the teacher's shallow features, so that no fault before them matters."""

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
