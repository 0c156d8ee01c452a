# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""From a score and a map to a verdict with boxes; NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomalib_mkd.deploy.boxes import Box, find_boxes
from anomalib_mkd.thresholds import highest_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomalib_mkd.deploy.metadata import Metadata


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about an image.

    Attributes:
        bad: The verdict. A score or a map that is not finite is bad.
        score: 0..1; above 0.5 (``label_above``) a part is bad, unless ``smallest_area`` asks for more.
        anomaly_map: ``(h, w)``, 0..1, in the model's own size; above 0.5 a pixel is above its threshold. Empty
            with ``maps=False``.
        mask: ``(h, w)``: the pixels of ``boxes``.
        boxes: Connected regions of a bad part above the pixel threshold, the highest score first; none for a good one.
    """

    bad: bool
    score: float
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    boxes: tuple[Box, ...]


def decide(score: float, anomaly_map: NDArray[np.float32], size: Sequence[int], metadata: Metadata) -> Prediction:
    """Decide about one image.

    Args:
        score: The graph's score, 0..1.
        anomaly_map: The graph's map ``(h, w)``, 0..1.
        size: Height and width of the image.
        metadata: Region, smallest area, and how a score follows from a map.

    Raises:
        ValueError: If the region is of another size than the image, or the smallest area larger than the image.
    """
    least = metadata.smallest_area
    if least > math.prod(size):
        msg = f"Expected smallest_area <= {math.prod(size)}, the pixels of the image, got {least}. Set it smaller."
        raise ValueError(msg)
    above = anomaly_map > metadata.mask_above
    if metadata.region is not None:
        inside = metadata.region.fit(size, anomaly_map.shape)
        score = score_inside(anomaly_map[inside], metadata)
        above &= inside
    labels, found = find_boxes(above, anomaly_map, size)
    large = {number: box for number, box in enumerate(found, start=1) if box.area >= least}
    broken = not (math.isfinite(score) and np.isfinite(anomaly_map).all())
    bad = broken or (score > metadata.label_above and (bool(large) or not least))
    if not bad:
        large = {}
    boxes = sorted(large.values(), key=lambda box: -box.score)
    return Prediction(bad, score, anomaly_map, np.isin(labels, [*large]), tuple(boxes))


def score_inside(values: NDArray[np.float32], metadata: Metadata) -> float:
    """Compute the score from the part of a map that is inside the region.

    Args:
        values: The map's values inside, 0..1, ``(pixels,)``.
        metadata: Its ``score_share`` says how many of the highest raw values a raw score is the mean of.

    Returns:
        The score, 0..1; NaN if one of the highest values is not finite.
    """
    if metadata.score_share is None:
        msg = f"Expected a model that scores by its map, got {metadata.model}. Leave out region, or crop the images."
        raise ValueError(msg)
    highest = highest_values(values, metadata.score_share)
    if not np.isfinite(highest).all():
        return math.nan
    return metadata.image.scaled(float(metadata.pixel.raw(highest).mean()))
