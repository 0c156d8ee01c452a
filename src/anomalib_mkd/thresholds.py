# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds from good parts alone, without torch: for trainings, exports and the line.

A maximum depends on a single image: with one odd part among the good ones, everything up to that part is good. Here
a threshold lies a number of robust standard deviations above the median, which a few odd parts hardly move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anomalib_mkd.arguments import check_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

LEAST_GOOD = 5
"""Fewest scores from which a threshold can be estimated."""

FALSE_ALARMS = 0.01
"""Default of the expected share of good parts that are called bad."""

ALLOWED = (FALSE_ALARMS, 0.02, 0.05, 0.1)
"""Shares of false alarms by which thresholds are shown, for users to choose from."""

LEARNT = 64
"""Most good parts that the model has learnt whose scores join in."""

PEAK_SHARE = 0.005
"""Share of a map, the highest part, whose mean stands for it in the threshold of pixels."""

UPPER_TAIL = 1.35
"""Factor on the distance from the median, because scores have a longer upper tail than a normal distribution has.

With it, on five data sets that did not choose it, 5.9 % of good test images are called bad at the default share, and
on none of them more than 11.7 % (``docs/results/thresholds.md``).
"""

SUSPECT = 7.0
"""Robust standard deviations above the median from which a good part is suspected to be bad.

Twice the 3.5 of Iglewicz and Hoaglin (1993) for normal distributions, because scores have a longer upper tail.
"""


def soft_scale(values: Any) -> Any:
    """Map any number into 0..1 without ties: ``0.5 + x / (1 + 2 |x|)``, which is 0.5 with slope 1 at 0.

    Args:
        values: A number, an array or a tensor of any shape.

    Example:
        >>> soft_scale(np.array([-9.0, 0.0, 1.0, 1000.0])).round(4).tolist()
        [0.0263, 0.5, 0.8333, 0.9998]
    """
    return 0.5 + values / (1 + 2 * abs(values))


@dataclass(frozen=True)
class Scale:
    """A threshold, and the scale on which it is 0.5: raw values become ``soft_scale((raw - threshold) / scale)``.

    Attributes:
        threshold: The raw value that becomes 0.5, finite.
        scale: The raw distance from it that becomes 0.5 +- 1/3, above 0: of typical good parts, which become 1/6.

    Example:
        >>> scale = Scale(threshold=2.0, scale=4.0)
        >>> round(scale.scaled(6.0), 4), float(scale.raw(0.5))
        (0.8333, 2.0)
    """

    threshold: float
    scale: float

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite, or a scale that is not above 0."""
        if not (math.isfinite(self.threshold) and math.isfinite(self.scale) and self.scale > 0):
            msg = f"Expected a finite threshold and a scale > 0, got {self.threshold} and {self.scale}. Export again."
            raise ValueError(msg)

    def scaled(self, raw: float) -> float:
        """Return where a raw value lies on the scale 0..1; NaN for a value that is not finite."""
        distance = (raw - self.threshold) / self.scale
        return float(soft_scale(distance)) if math.isfinite(distance) else math.nan

    def raw(self, scaled: ArrayLike) -> Any:
        """Return the raw values of places on the scale, elementwise; infinite at 0 and 1."""
        distance = np.asarray(scaled, np.float64) - 0.5
        with np.errstate(divide="ignore"):
            return self.threshold + self.scale * distance / (1 - 2 * np.abs(distance))


def highest_values(values: NDArray[Any], share: float) -> NDArray[Any]:
    """Return the highest share of values ``(..., N)``, at least one; NaN counts as the highest of all."""
    count = 1 + int(share * (values.shape[-1] - 1))
    return np.partition(values, -count)[..., -count:]


def peak_and_median(maps: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what stands for a map in the threshold of pixels, and its typical pixel.

    Args:
        maps: Raw maps, ``(..., pixels)``.

    Returns:
        Mean of the highest :data:`PEAK_SHARE` of each map, and its median, ``(...)`` each.

    Example:
        >>> peak, median = peak_and_median(np.arange(600.0).reshape(2, 300))
        >>> peak.tolist(), median.tolist()
        ([298.5, 598.5], [149.5, 449.5])
    """
    return highest_values(maps, PEAK_SHARE).mean(axis=-1), np.median(maps, axis=-1)


class Fitted(NamedTuple):
    """Thresholds of one category, and what they were estimated from."""

    image: Scale
    """Of scores."""
    pixel: Scale
    """Of maps."""
    good_scores: tuple[float, ...]
    """Raw scores of the good parts that set the threshold of scores, in ascending order."""


def strictest(fits: Sequence[Fitted]) -> Fitted:
    """Return the thresholds that are common to several categories: the highest of theirs."""
    highest = max(fits, key=lambda fit: fit.image.threshold)
    return highest._replace(pixel=max((fit.pixel for fit in fits), key=lambda pixel: pixel.threshold))


def in_another_precision(fitted: Fitted, before: ArrayLike, after: ArrayLike) -> Fitted:
    """Move thresholds to the scores and maps of the same network in another precision.

    A straight line through what both give for the same good parts moves them. To estimate the thresholds anew would be
    rougher: rounding changes the spread of a few dozen scores by far more than their mean.

    Args:
        fitted: The thresholds.
        before: Score, highest part and median of the map of N good parts, ``(N, 3)``.
        after: The same of the same parts in the other precision.
    """
    score, peak, median = map(_line, np.asarray(before, np.float64).T, np.asarray(after, np.float64).T)
    image, pixel, good_scores = fitted
    typical, background = (scale.threshold - scale.scale for scale in (image, pixel))
    return Fitted(
        Scale(score(image.threshold), score(image.threshold) - score(typical)),
        Scale(peak(pixel.threshold), max(peak(pixel.threshold) - median(background), 1e-6)),
        tuple(map(score, good_scores)),
    )


def _line(before: NDArray[np.float64], after: NDArray[np.float64]) -> Callable[[float], float]:
    """Return the line of Theil and Sen, by the median of all slopes: odd parts do not tilt it, few parts only shift."""
    across, up = np.subtract.outer(before, before), np.subtract.outer(after, after)
    slopes = up[across > 0] / across[across > 0]
    slope = float(np.median(slopes)) if len(before) >= LEAST_GOOD and len(slopes) else 1.0
    start = float(np.median(after - slope * before)) if len(before) else 0.0
    return lambda value: start + slope * value


def center_and_spread(scores: ArrayLike) -> tuple[float, float]:
    """Estimate mean and standard deviation of the bulk of scores.

    The standard deviation is 1.4826 times the median absolute deviation from the median. If that is 0, because more
    than half of the scores are equal, it is 1.2533 times the mean absolute deviation. Neither is moved much by a few
    defects among many good parts. Both factors make it that of a normal distribution.

    Args:
        scores: ``(N,)``, finite.

    Returns:
        The median, and the standard deviation; 0 if all scores are equal.

    Example:
        >>> center_and_spread([1.0, 2.0, 3.0, 4.0, 13.0])
        (3.0, 1.4826)
    """
    values = np.asarray(scores, dtype=np.float64)
    center = float(np.median(values))
    deviations = np.abs(values - center)
    return center, float(1.4826 * np.median(deviations) or math.sqrt(math.pi / 2) * deviations.mean())


def as_varied(learnt: ArrayLike, held_out: ArrayLike) -> NDArray[np.float64]:
    """Undo what training did to the spread of the scores of learnt parts.

    The longer a model learns parts, the lower they score and the less they vary. So their distances from their median
    are multiplied by the square of the ratio of both medians, at least 1. Why the square:
    ``docs/decisions/0013-thresholds-from-good-parts.md``.

    Args:
        learnt: ``(M,)``.
        held_out: Scores of good parts that were held out from the same training, ``(N,)``.

    Returns:
        ``(M,)``, with the same median; unchanged if none were held out.

    Example:
        >>> as_varied([3.0, 4.0, 5.0], held_out=[7.0, 8.0, 9.0]).tolist()
        [0.0, 4.0, 8.0]
    """
    known, own = (np.asarray(scores, dtype=np.float64).ravel() for scores in (learnt, held_out))
    if not (known.size and own.size):
        return known
    center = np.median(known)
    ratio = max(1.0, np.median(own) / center) if center > 0 else 1.0
    return np.asarray(center + ratio**2 * (known - center))


def pooled(held_out: ArrayLike, learnt: ArrayLike) -> NDArray[np.float64]:
    """Join scores of good parts that were held out with those of parts that the model has learnt.

    Args:
        held_out: ``(N,)``; if there are none, the others stay where they are.
        learnt: ``(M,)``, as varied as those held out (:func:`as_varied`); they are moved to the same median.

    Returns:
        ``(N + M,)``, in ascending order.

    Example:
        >>> pooled([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]).tolist()
        [4.0, 4.0, 5.0, 5.0, 6.0, 6.0]
    """
    own, known = (np.asarray(scores, dtype=np.float64).ravel() for scores in (held_out, learnt))
    if own.size and known.size:
        known = known + np.median(own) - np.median(known)
    return np.sort(np.concatenate([own, known]))


def threshold_from_good(scores: ArrayLike, false_alarms: float = FALSE_ALARMS) -> float:
    """Estimate the score that a share of good parts exceeds.

    Args:
        scores: Raw scores of N good parts, ``(N,)``.
        false_alarms: Expected share of good parts above the threshold, in 0..0.5, both excluded.

    Returns:
        The threshold, in the unit of the scores and above their median.

    Raises:
        ValueError: If there are fewer than :data:`LEAST_GOOD` scores, one is not finite, or the share is out of range.

    Example:
        >>> round(threshold_from_good([1.0, 2.0, 3.0, 4.0, 5.0], 0.05), 2)
        7.64
    """
    check_arguments({"false_alarms": false_alarms})
    values = np.asarray(scores, dtype=np.float64).ravel()
    if len(values) < LEAST_GOOD:
        msg = f"Expected the scores of at least {LEAST_GOOD} good parts, got {len(values)}. Add good parts."
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = f"Expected finite scores of good parts, got {values[~np.isfinite(values)][0]}. Check model and images."
        raise ValueError(msg)
    center, spread = center_and_spread(values)
    floor = 1e-3 * abs(center) or 1e-6  # equal scores say nothing of how others vary
    return center + max(spread, floor) * UPPER_TAIL * prediction_quantile(1 - false_alarms, len(values))


def scale_from_good(scores: ArrayLike, typical: ArrayLike, false_alarms: float = FALSE_ALARMS) -> Scale:
    """Scale scores or maps so that what is typical of good parts becomes 1/6.

    Args:
        scores: Raw scores of N good parts, or what stands for their maps, ``(N,)``.
        typical: Raw values ``(M,)`` whose median becomes 1/6: the scores themselves, or typical pixels.
        false_alarms: As for :func:`threshold_from_good`, which also says what is raised.

    Example:
        >>> scores = [1.0, 2.0, 3.0, 4.0, 5.0]
        >>> scale = scale_from_good(scores, scores, 0.05)
        >>> round(scale.threshold, 2), round(scale.scaled(3.0), 4)
        (7.64, 0.1667)
    """
    threshold = threshold_from_good(scores, false_alarms)
    return Scale(threshold, threshold - min(float(np.median(np.asarray(typical, dtype=np.float64))), threshold - 1e-6))


def prediction_quantile(share: float, count: int) -> float:
    """Return how many standard deviations above the mean of ``count`` numbers a next one lies below, with a chance.

    Both are estimated from the same numbers, of a normal distribution: a quantile of Student's t, by its expansion
    around the normal one (Abramowitz and Stegun, 26.7.5), times the square root of 1 + 1 / count.

    Example:
        >>> round(prediction_quantile(0.99, 41), 2), round(prediction_quantile(0.99, 5), 2)
        (2.45, 3.96)
    """
    z, free = NormalDist().inv_cdf(share), count - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return t * math.sqrt(1 + 1 / count)
