# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Timing of several calls that take turns, so that other load on the machine slows them all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

K = TypeVar("K")


def take_turns(
    calls: Mapping[K, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    before: Callable[[], object] = lambda: None,
) -> dict[K, list[float]]:
    """Call each in turn, and return the seconds of each call in each turn.

    Args:
        calls: Calls to time, by name.
        rounds: Counted turns.
        warm_up: Turns before them, which are not counted.
        before: Called before each call, without being timed.
    """
    seconds: dict[K, list[float]] = {name: [] for name in calls}
    for _ in range(warm_up + rounds):
        for name, call in calls.items():
            before()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: taken[warm_up:] for name, taken in seconds.items()}
