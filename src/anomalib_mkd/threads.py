# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How the threads of a training wait for each other on a busy computer."""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "OMP_WAIT_POLICY"
"""OpenMP's variable: with ``PASSIVE``, threads sleep while they wait; otherwise they keep a core busy."""
BUSY = 0.25
"""Share of the cores' time; if other work takes more, threads sleep while they wait."""
LOOK_SECONDS = 0.2


def sleep_if_busy(statistics: Path = Path("/proc/stat")) -> None:
    """Let threads sleep while they wait, if other work keeps this computer busy and the user has not chosen.

    Threads that stay awake take the cores from the threads that they wait for. On two idle cores neither way is faster
    (``python -m benchmark.time_waiting``); with more it is not known. Call this before torch is imported.

    Args:
        statistics: Linux's count of the time that its cores spent; on other systems nothing is changed.
    """
    if VARIABLE in os.environ or not statistics.exists():
        return
    before = _spent(statistics)
    time.sleep(LOOK_SECONDS)
    worked, total = (now - then for now, then in zip(_spent(statistics), before, strict=True))
    if worked > BUSY * total:
        os.environ[VARIABLE] = "PASSIVE"


def _spent(statistics: Path) -> tuple[int, int]:
    """Return how long the cores have worked and existed, in ticks."""
    first_line = statistics.read_text(encoding="ascii").split("\n", maxsplit=1)[0]
    user, nice, system, idle, waiting, *_ = map(int, first_line.split()[1:])
    worked = user + nice + system
    return worked, worked + idle + waiting
