# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which images a report shows, and their maps and masks until it is written."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from anomalib_mkd.results.predictions import Prediction

SIDE = 256
"""Longest side of a map, a mask and a thumbnail in pixels."""


class Group(NamedTuple):
    """Images that are shown together.

    Attributes:
        name: Of the group.
        belongs: Whether a prediction is one of them.
        order: The lowest values come first.
        size: How many are shown.
        per_category: Whether so many are kept of every category.
    """

    name: str
    belongs: Callable[[Prediction], bool]
    order: Callable[[Prediction], float]
    size: int
    per_category: bool = False


def _finite(row: Prediction) -> bool:
    return math.isfinite(row.score)


def _rising(row: Prediction) -> float:
    return row.score


def _falling(row: Prediction) -> float:
    return -row.score if _finite(row) else -math.inf


TESTED = (
    Group("no score", lambda row: not _finite(row), _falling, 12),
    Group("missed", lambda row: row.truth is True and row.bad is False, _rising, 12),
    Group("false alarms", lambda row: row.truth is False and row.bad is True and _finite(row), _falling, 12),
    Group("bad, highest", lambda row: row.truth is True and _finite(row), _falling, 4),
    Group("bad, lowest", lambda row: row.truth is True and _finite(row), _rising, 4),
    Group("good, highest", lambda row: row.truth is False and _finite(row), _falling, 4),
    Group("good, lowest", lambda row: row.truth is False and _finite(row), _rising, 4),
    Group("highest", lambda row: row.truth is None and _finite(row), _falling, 12),
    Group("lowest", lambda row: row.truth is None and _finite(row), _rising, 4),
)
"""What is shown of a test or a prediction."""

TRAINED = (Group("training", lambda _: True, _falling, 12, per_category=True),)
"""What may be shown of the training images."""


class Exhibit(NamedTuple):
    """An image of a gallery.

    Attributes:
        prediction: Its file, score and verdict.
        anomaly_map: ``(h, w)``, at most :data:`SIDE` pixels long; ``None`` without one.
        mask: ``(h, w)``, true where a defect is marked; ``None`` if the data have no mask of this image.
    """

    prediction: Prediction
    anomaly_map: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None


class Gallery:
    """Keep the few images of each group that a report shows, however many are added.

    Only maps and masks are kept, reduced; images are read again when the report is written.

    Args:
        groups: :data:`TESTED`, or :data:`TRAINED` for training images.

    Example:
        >>> from anomalib_mkd.results.predictions import Prediction
        >>> gallery = Gallery()
        >>> for number in range(10_000):
        ...     gallery.add(Prediction(f"{number}.png", number / 10_000, True, 0.0, truth=True))
        >>> [exhibit.prediction.file for exhibit in gallery.shown("bad, highest")]
        ['9999.png', '9998.png', '9997.png', '9996.png']
    """

    def __init__(self, groups: Sequence[Group] = TESTED) -> None:
        self.groups = tuple(groups)
        self._kept: dict[tuple[str, str], list[tuple[float, str, Exhibit]]] = {}

    def add(self, prediction: Prediction, anomaly_map: Tensor | None = None, mask: Tensor | None = None) -> None:
        """Keep an image as long as it is among the first ones of a group.

        Args:
            prediction: What the model predicted.
            anomaly_map: ``(1, H, W)`` or ``(H, W)``.
            mask: ``(1, H, W)`` or ``(H, W)``; a pixel other than 0 belongs to a defect.
        """
        exhibit: Exhibit | None = None
        for group in self.groups:
            if not group.belongs(prediction):
                continue
            kept = self._kept.setdefault((group.name, prediction.category if group.per_category else ""), [])
            rank = group.order(prediction), prediction.file
            if len(kept) < group.size or rank < kept[-1][:2]:
                if exhibit is None:  # once for all groups, and only for those that are kept
                    reduced = None if mask is None else _reduced(mask != 0) > 0
                    exhibit = Exhibit(prediction, None if anomaly_map is None else _reduced(anomaly_map), reduced)
                bisect.insort(kept, (*rank, exhibit), key=lambda entry: entry[:2])
                del kept[group.size :]

    def shown(self, name: str) -> list[Exhibit]:
        """Return the images of a group, of all categories, the first ones first."""
        entries = [entry for key, kept in self._kept.items() if key[0] == name for entry in kept]
        return [exhibit for *_, exhibit in sorted(entries, key=lambda entry: entry[:2])]


def _reduced(values: Tensor) -> NDArray[np.float32]:
    """Reduce a map to :data:`SIDE` pixels by maxima, so that a small defect stays visible."""
    values = values.detach().float().cpu().reshape(1, *values.shape[-2:])
    scale = min(1, SIDE / max(values.shape))
    size = [max(1, round(scale * side)) for side in values.shape[-2:]]
    return np.asarray(F.adaptive_max_pool2d(values, size)[0].numpy(), np.float32)
