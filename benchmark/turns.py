# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Times of several calls that take turns, so that whatever else slows the machine down slows them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def median_seconds(
    calls: Mapping[str, Callable[[], Any]], turns: int, before: Callable[[], Any] = lambda: None
) -> dict[str, float]:
    """Call each in turn, and give the median seconds of each; the first turn warms up and does not count.

    Args:
        calls: What is timed, by name.
        turns: Turns that count.
        before: Called before each of them, and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns + 1):
        for name, call in calls.items():
            before()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
