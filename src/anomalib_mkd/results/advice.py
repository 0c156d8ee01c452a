# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What to do about a result that no one would use: rules on counts and scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from anomalib_mkd.check.folder import ENOUGH_GOOD
from anomalib_mkd.check.words import listed
from anomalib_mkd.results.report.plots import area, sweep
from anomalib_mkd.results.verdicts import Alternative, counts, short_names, total

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomalib_mkd.results.predictions import Prediction

LEAST_CAUGHT = 0.5
"""Share of the bad parts; below it, few are caught."""
MOST_ALARMS = 0.2
"""Share of the good parts; above it, many are called bad."""
SEPARATED = 90.0
"""Image AUROC in percent from which on scores tell good parts from bad ones, and only the threshold is wrong."""


class Outcome(NamedTuple):
    """What a test found.

    Attributes:
        good_pictures: Good images for training and threshold; ``None`` if unknown.
        bad: Bad parts of the test.
        caught: Those that were called bad.
        good: Good parts of the test.
        alarms: Those that were called bad.
        auroc: Image AUROC in percent; NaN without both good and bad parts.
        far: Names of images that set the threshold and whose score is far above the others'.
        others: What other thresholds would do, in the order of the false alarms that they allow.
    """

    good_pictures: int | None
    bad: int
    caught: int
    good: int
    alarms: int
    auroc: float
    far: tuple[str, ...] = ()
    others: tuple[Alternative, ...] = ()


def advice(outcome: Outcome) -> list[str]:
    """Say what to do about a result that no one would use.

    Args:
        outcome: What a test found.

    Returns:
        One text for each fault, the likeliest cause first; none if there is no fault.
    """
    few_caught = outcome.bad > 0 and outcome.caught < LEAST_CAUGHT * outcome.bad
    many_alarms = outcome.alarms > MOST_ALARMS * outcome.good
    looser = looser_threshold(outcome.caught, outcome.bad, outcome.others)
    found = []
    if outcome.far:
        found.append(
            f"Look at {listed(outcome.far)}: among the good images that set the threshold, the score is far above "
            "the others'. Remove each that shows a bad part, or another kind of part, from the good images and train again."
        )
    if outcome.good_pictures is not None and outcome.good_pictures < ENOUGH_GOOD:
        found.append(
            f"Only {outcome.good_pictures} good images for training and threshold. Add more until there are at least "
            f"{ENOUGH_GOOD}, better 50, that show all that varies on good parts: position, light, material."
        )
    if few_caught and outcome.auroc >= SEPARATED:
        found.append(
            f"Only {outcome.caught} of {outcome.bad} bad parts were caught, although most score higher than good ones: "
            "the threshold is too high. Look in the report for bad parts among the good images, or allow more false "
            f"alarms (docs/how_to/thresholds.md){f': {looser}' if looser else ''}."
        )
    elif few_caught:
        overlap = "" if math.isnan(outcome.auroc) else ", and their scores overlap those of good ones"
        found.append(
            f"Only {outcome.caught} of {outcome.bad} bad parts were caught{overlap}. Move the camera closer, so that a "
            "defect is more than a few pixels wide at 256 x 256; use ImageNet's teacher instead of the embedded one; "
            "or train for more steps."
        )
    if many_alarms:
        found.append(
            f"{outcome.alarms} of {outcome.good} good parts were called bad: they probably differ from the training images. "
            "Add good images with the camera, light and day of the test images, and train again."
        )
    return found


def looser_threshold(caught: int, bad: int, others: Sequence[Alternative]) -> str:
    """Say which share of false alarms catches enough, or else the most, and at what price.

    Args:
        caught: Bad parts that are caught now.
        bad: All bad parts.
        others: See :class:`Outcome`.

    Returns:
        Part of a sentence; empty if none of them catches more.
    """
    more = [each for each in others if each.bad.called_bad > caught]
    if not more:
        return ""
    chosen = next((each for each in more if each.bad.called_bad >= LEAST_CAUGHT * bad), more[-1])
    return (
        f"--model.false_alarms {chosen.false_alarms:g} would catch {chosen.bad.called_bad} and call "
        f"{chosen.good.called_bad} of {chosen.good.parts} good ones bad"
    )


def outcome(
    predictions: Sequence[Prediction],
    good_pictures: int | None = None,
    far: Sequence[str] = (),
    others: Sequence[Alternative] = (),
) -> Outcome | None:
    """Count what a test found.

    Args:
        predictions: Of the test.
        good_pictures: See :class:`Outcome`.
        far: Files of the images that :class:`Outcome` names.
        others: See :class:`Outcome`.

    Returns:
        ``None`` if no part has both a truth and a verdict.
    """
    groups = counts(predictions)
    if not groups:
        return None
    judged = [row for row in predictions if row.bad is not None and math.isfinite(row.score)]
    scores = {truth: np.array([row.above for row in judged if row.truth is truth]) for truth in (False, True)}
    both = all(values.size for values in scores.values())
    auroc = 100 * area(*sweep(scores[False], scores[True])[1:]) if both else math.nan
    (caught, bad), (alarms, good) = (total(groups, defective=defective) for defective in (True, False))
    return Outcome(good_pictures, bad, caught, good, alarms, auroc, tuple(short_names(far)), tuple(others))
