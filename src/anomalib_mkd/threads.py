# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How many threads compute, and how those of a training wait for each other on a busy computer."""

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


def visible_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def allowed_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores that this process may keep busy.

    ``docker run --cpus 2``, Kubernetes' limits and systemd's ``CPUQuota`` limit time, not cores, and neither torch nor
    OpenVINO knows (OpenVINO's issue 37838): with a thread for each visible core, all of them wait most of the time.
    loky counts as well, but it is not part of an environment without torch, and it rounds up, to one thread too many.

    Args:
        groups: Where Linux mounts its control groups, of version 2 or 1.
        own: The groups of this process.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return visible_cores()
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        inner = root / path.lstrip("/")  # not there in a container, which sees its own group as the root
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root):
                quotas += _quota(folder)
    return max(1, min([visible_cores(), *map(int, quotas)]))


def _quota(folder: Path) -> list[float]:
    """Return the cores' time that a control group may use; nothing without a limit."""
    try:
        if (file := folder / "cpu.max").exists():
            quota, period = file.read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return [int(quota) / int(period)] if int(quota) > 0 else []
    except (OSError, ValueError):  # no such group; "max"
        return []
