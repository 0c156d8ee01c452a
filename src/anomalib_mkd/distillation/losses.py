# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Training losses, and Mkd's score: weighted distances, summed over the levels of a pyramid."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from anomalib_mkd.types import Pyramid

Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(teacher, student)``, both ``(N, C, H, W)``, to ``(N,)``: see :mod:`anomalib_mkd.functional`."""


class Term(NamedTuple):
    """One term of a loss.

    Attributes:
        distance: Distance to sum over levels.
        weight: Factor of the sum.
        levels: Levels to sum over; ``None`` for all of the student's.
    """

    distance: Distance
    weight: float
    levels: Sequence[str] | None = None


class PyramidLoss(nn.Module):
    """Weighted sum of named distances over levels.

    Args:
        terms: Name of a term to a :class:`Term`, or to its distance and weight. Weights are a buffer and so part of the
            checkpoint.

    Example:
        >>> import torch
        >>> from anomalib_mkd.functional import value_distance
        >>> loss = PyramidLoss(value=(value_distance, 0.5))
        >>> teacher, student = {"layer1": torch.ones(2, 3, 4, 4)}, {"layer1": torch.zeros(2, 3, 4, 4)}
        >>> loss.per_image(teacher, student)
        tensor([0.5000, 0.5000])
    """

    weights: Tensor

    def __init__(self, **terms: Term | tuple[Distance, float]) -> None:
        super().__init__()
        self.parts = {name: Term(*term) for name, term in terms.items()}
        self.register_buffer("weights", torch.tensor([float(term.weight) for term in self.parts.values()]))

    def terms(self, teacher: Pyramid, student: Pyramid, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute each term, unweighted and summed over levels.

        Args:
            teacher: Features per level, ``(N, C_l, H_l, W_l)``.
            student: Features per level, of the same shapes.
            layers: Levels to sum over instead of each term's own.

        Returns:
            Name of the term to ``(N,)``.

        Raises:
            ValueError: If teacher and student differ in shape at a level.
        """
        sums = {}
        for term, part in self.parts.items():
            names = list(layers or part.levels or student)
            for name in names:
                _check_level(name, teacher[name], student[name])
            sums[term] = torch.stack([part.distance(teacher[name], student[name]) for name in names]).sum(dim=0)
        return sums

    def per_image(self, teacher: Pyramid, student: Pyramid, layers: Sequence[str] | None = None) -> Tensor:
        """Compute the weighted sum for each image, ``(N,)``; arguments as for :meth:`terms`."""
        terms = torch.stack(list(self.terms(teacher, student, layers).values()))  # terms x (N,) -> (T, N)
        # no matrix product: OpenVINO may compute whatever precedes one in bf16, and a score is 1 minus almost 1
        return (self.weights[:, None] * terms).sum(dim=0)

    def forward(self, teacher: Pyramid, student: Pyramid) -> dict[str, Tensor]:
        """Average over the batch.

        Returns:
            Each unweighted term under its name, detached, for logging; under ``"loss"`` the scalar to minimise.
        """
        means = torch.stack([term.mean() for term in self.terms(teacher, student).values()])
        parts: Mapping[str, Tensor] = dict(zip(self.parts, means.detach(), strict=True))
        return {**parts, "loss": (self.weights * means).sum()}


def _check_level(name: str, teacher: Tensor, student: Tensor) -> None:
    if teacher.shape != student.shape:
        msg = (
            f"Expected teacher and student of equal shape at {name!r}, got {tuple(teacher.shape)} and "
            f"{tuple(student.shape)}. Build the student with the teacher's layers."
        )
        raise ValueError(msg)
