# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What to do about a result that no one would use: rules on counts and scores."""

from __future__ import annotations

from typing import NamedTuple

from anomalib_mkd.check.folder import ENOUGH_GOOD
from anomalib_mkd.check.words import listed

LEAST_CAUGHT = 0.5
"""Share of the bad parts; below it, few are caught."""
MOST_ALARMS = 0.2
"""Share of the good parts; above it, many are called bad."""
SEPARATED = 90.0
"""Image AUROC in percent from which on scores tell good parts from bad ones, and only the threshold is wrong."""


class Outcome(NamedTuple):
    """What a first run found.

    Attributes:
        good_pictures: Good images for training and threshold.
        bad: Bad parts of the test.
        caught: Those that were called bad.
        good: Good parts of the test.
        alarms: Those that were called bad.
        auroc: Image AUROC in percent.
        far: Names of images that set the threshold and whose score is far above the others'.
    """

    good_pictures: int
    bad: int
    caught: int
    good: int
    alarms: int
    auroc: float
    far: tuple[str, ...] = ()


def advice(outcome: Outcome) -> list[str]:
    """Say what to do about a result that no one would use.

    Args:
        outcome: What a run found.

    Returns:
        One text for each fault, the likeliest cause first; none if there is no fault.
    """
    few_caught = outcome.bad > 0 and outcome.caught < LEAST_CAUGHT * outcome.bad
    many_alarms = outcome.alarms > MOST_ALARMS * outcome.good
    found = []
    if outcome.far:
        found.append(
            f"Look at {listed(outcome.far)}: among the good images that set the threshold, the score is far above "
            "the others'. If the part is defective, or another one, remove the image from train/good and run again."
        )
    if outcome.good_pictures < ENOUGH_GOOD:
        found.append(
            f"Only {outcome.good_pictures} good images in train/good. Add more until there are at least "
            f"{ENOUGH_GOOD}, better 50, that show all that varies on good parts: position, light, material."
        )
    if few_caught and outcome.auroc >= SEPARATED:
        found.append(
            f"Only {outcome.caught} of {outcome.bad} bad parts were caught, although most score higher than good ones: "
            "the threshold is too high. Look in the report for bad parts among the good images, or allow more false "
            "alarms (docs/how_to/thresholds.md)."
        )
    elif few_caught:
        found.append(
            f"Only {outcome.caught} of {outcome.bad} bad parts were caught, and their scores do not differ from those "
            "of good ones. Move the camera closer, so that the defect is larger than a few pixels of 256, or use "
            "ImageNet's teacher (--weights imagenet) and more steps (--steps 1000)."
        )
    if many_alarms:
        found.append(
            f"{outcome.alarms} of {outcome.good} good parts were called bad: they differ from those in train/good. Add "
            "good images from the same camera, light and day as the test's, and run again."
        )
    return found
