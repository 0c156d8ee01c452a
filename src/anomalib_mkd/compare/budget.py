# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The time that a comparison may take, and how the models share it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST = 60.0
"""Fewest seconds for one model: libraries are loaded, and test and export take their time, too."""
TRAINING = 0.6
"""Part of a model's share after which its training ends; the rest is for test and export."""


def seconds(text: str) -> float:
    """Read a duration.

    Args:
        text: Numbers with the units ``s``, ``m`` and ``h``.

    Raises:
        ValueError: If it is none.

    Example:
        >>> seconds("30m"), seconds("1h30m"), seconds("90s")
        (1800.0, 5400.0, 90.0)
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    if not found or not any(found.groups()):
        msg = (
            f"Expected a --budget such as 30m, 1h30m or 90s, got '{text}'. Write hours, minutes and seconds like that."
        )
        raise ValueError(msg)
    return sum(float(value or 0) * unit for value, unit in zip(found.groups(), (3600, 60, 1), strict=True))


class Budget:
    """Time that the models of a comparison share: each gets what is left, divided by the models left.

    Args:
        total: Seconds.
        models: Their number.
        clock: Seconds that pass.

    Raises:
        ValueError: If it is too small for so many models.

    Example:
        >>> now = iter([0.0, 0.0, 100.0])
        >>> budget = Budget(600, 3, clock=lambda: next(now))
        >>> budget.share(3), budget.share(2)
        (200.0, 250.0)
    """

    def __init__(self, total: float, models: int, clock: Callable[[], float] = time.monotonic) -> None:
        least = LEAST * models
        if total < least:
            msg = (
                f"Expected a --budget of at least {least / 60:g}m, a minute for each of {models} models, got "
                f"{total / 60:g}m. Allow more time, or name fewer --models."
            )
            raise ValueError(msg)
        self.total, self.clock, self.start = total, clock, clock()

    @property
    def used(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.start

    @property
    def left(self) -> float:
        """Seconds left, 0 or more."""
        return max(0.0, self.total - self.used)

    def share(self, models_left: int) -> float:
        """Return the seconds of the next of so many models."""
        return self.left / models_left
