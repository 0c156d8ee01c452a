# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Connected regions of a mask, with NumPy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """One connected region of a map above a threshold, in pixels of the image.

    Attributes:
        left: First column.
        top: First row.
        right: Column behind the last.
        bottom: Row below the last.
        area: Pixels of the region itself.
        score: Its highest value in the map.
    """

    left: int
    top: int
    right: int
    bottom: int
    area: int
    score: float


def find_boxes(
    mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32], size: Sequence[int]
) -> tuple[NDArray[np.int64], list[Box]]:
    """Find the connected regions of a mask; pixels that touch at a corner are connected.

    Args:
        mask: ``(h, w)``.
        anomaly_map: ``(h, w)``.
        size: Height and width of the image, which the mask covers.

    Returns:
        For each pixel of the mask the number of its region, 0 outside, and the regions: number 1 comes first.

    Example:
        >>> mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
        >>> labels, boxes = find_boxes(mask, mask.astype(np.float32), size=(8, 6))
        >>> labels.tolist()
        [[1, 0, 0], [0, 1, 0], [0, 0, 0], [2, 2, 0]]
        >>> boxes[1]
        Box(left=0, top=6, right=4, bottom=8, area=8, score=1.0)
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int64), []
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    rows, starts = np.nonzero(np.diff(padded, axis=1) == 1)
    ends = np.nonzero(np.diff(padded, axis=1) == -1)[1]  # runs of pixels: rows[i], starts[i]..ends[i] - 1
    owner = _join(rows, starts, ends)
    names, numbers = np.unique(owner, return_inverse=True)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(numbers + 1, ends - starts)
    highest = np.full(len(names) + 1, -np.inf)
    np.maximum.at(highest, labels[mask], anomaly_map[mask])
    down, across = size[0] / height, size[1] / width
    boxes = []
    for number in range(len(names)):
        own = numbers == number
        area = int((ends - starts)[own].sum()) * down * across
        boxes.append(
            Box(
                left=math.floor(starts[own].min() * across),
                top=math.floor(rows[own].min() * down),
                right=math.ceil(ends[own].max() * across),
                bottom=math.ceil((rows[own].max() + 1) * down),
                area=round(area),
                score=float(highest[number + 1]),
            )
        )
    return labels, boxes


def _join(rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each run the first run of its region; runs of neighbouring rows that touch are of one region."""
    owner = list(range(len(rows)))

    def first(run: int) -> int:
        while owner[run] != run:
            owner[run] = owner[owner[run]]
            run = owner[run]
        return run

    above = 0
    for run in range(len(rows)):
        while above < run and (
            rows[above] < rows[run] - 1 or (rows[above] == rows[run] - 1 and ends[above] < starts[run])
        ):
            above += 1
        other = above
        while other < run and rows[other] == rows[run] - 1 and starts[other] <= ends[run]:
            joined = sorted((first(run), first(other)))
            owner[joined[1]] = joined[0]
            other += 1
    return np.array([first(run) for run in range(len(rows))], dtype=np.int64)
