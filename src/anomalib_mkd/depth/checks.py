# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Whether depth can belong to its image, and to the depth of training."""

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike

ASPECT_TOLERANCE = 0.02
UNIT_TOLERANCE = 100
"""Metres read as millimetres differ 1000 times, scans of one product hardly ever 100 times."""


def check_aspect(image: tuple[int, ...], depth: tuple[int, ...], place: str = "the depth map") -> None:
    """Reject depth that cannot show the same section as its image: aspect ratios that differ by more than 2 %.

    Args:
        image: Height and width.
        depth: Height and width.
        place: Origin of the depth, for the message.

    Raises:
        ValueError: If the aspect ratios differ.
    """
    (height, width), (rows, columns) = image, depth
    if abs(columns * height / (rows * width) - 1) > ASPECT_TOLERANCE:
        msg = (
            f"Expected depth of the image's aspect ratio in {place}, got {rows}x{columns} for an image of "
            f"{height}x{width}. Register the depth to the image."
        )
        raise ValueError(msg)


def warn_of_unit(depth: ArrayLike, usual: tuple[float, float], place: str = "a depth map") -> None:
    """Warn of depth that seems to be in another unit than that of training.

    Or that was not prepared alike: where no plane was found, a map holds depths instead of heights. This is no error:
    where a part is missing, heights can be that small.

    Args:
        depth: Depths or heights of one scan, of any shape; NaN or infinite where missing.
        usual: Lowest and highest depth in training.
        place: Origin of the depth, for the message.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_unit([[40.0, 45.0]], (0.0, 0.05))
        >>> print(caught[0].message)
        Expected depths up to about 0.05, as in training, in a depth map, got 45. Use the unit
        and the preparation of training.
    """
    values = np.abs(np.asarray(depth))
    values = values[np.isfinite(values)]
    rank, known = math.ceil(0.99 * (values.size - 1)), max(map(abs, usual))
    largest = float(np.partition(values, rank)[rank]) if values.size else 0.0  # np.quantile takes five times as long
    if known and largest and not 1 / UNIT_TOLERANCE < largest / known < UNIT_TOLERANCE:
        msg = (
            f"Expected depths up to about {known:.3g}, as in training, in {place}, got {largest:.3g}. Use the unit and "
            "the preparation of training."
        )
        warnings.warn(msg, RuntimeWarning, stacklevel=2)
