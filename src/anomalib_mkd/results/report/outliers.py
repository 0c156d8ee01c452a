# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which training images score so high among the others that they may show a defect."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch

from anomalib_mkd.files import no_formula
from anomalib_mkd.results.predictions import word, write_table
from anomalib_mkd.thresholds import center_and_spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from anomalib_mkd.results.predictions import Prediction


def robust_distances(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure how far scores lie above their median, in robust standard deviations.

    Args:
        scores: ``(N,)``, finite.

    Returns:
        ``(N,)``; all 0 if all scores are equal.

    Example:
        >>> robust_distances(np.array([1.0, 2.0, 3.0, 4.0, 13.0])).round(2)
        array([-1.35, -0.67,  0.  ,  0.67,  6.74])
    """
    center, spread = center_and_spread(scores)
    return (scores - center) / spread if spread > 0 else np.zeros_like(scores)


def most_suspicious(
    training: Sequence[Prediction], scale: Callable[[Tensor], Tensor] = lambda scores: scores
) -> list[tuple[Prediction, float]]:
    """Order training images by how far their score lies above that of others, each within its category.

    Args:
        training: Predictions of images that are alike: those that the model learnt, or those that set its threshold.
        scale: Makes the distances between scores comparable.

    Returns:
        Images with their robust distance, the most suspicious first. Where a score is not finite, the distance is
        infinity.
    """
    ranked = [(row, math.inf) for row in training if not math.isfinite(row.score)]
    categories: dict[str, list[Prediction]] = defaultdict(list)
    for row in training:
        if math.isfinite(row.score):
            categories[row.category].append(row)
    for rows in categories.values():
        scores = scale(torch.tensor([row.score for row in rows], dtype=torch.float64))
        ranked += zip(rows, robust_distances(scores.numpy()).tolist(), strict=True)
    return sorted(ranked, key=lambda pair: -pair[1])


HEADER = ("file", "distance", "score", "label", "category")


def write_suspicious(path: Path, ranked: Sequence[tuple[Prediction, float]]) -> None:
    """Write the table of training images, whole or not at all.

    Args:
        path: Final name of the file.
        ranked: See :func:`most_suspicious`; ``distance`` is in robust standard deviations.
    """
    rows = (
        [no_formula(row.file), f"{distance:.2f}", f"{row.score:.6g}", word(row.bad), row.category]
        for row, distance in ranked
    )
    write_table(path, HEADER, rows)
