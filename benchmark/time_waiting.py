# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Time of a training step by how threads wait for each other: ``python -m benchmark.time_waiting``.

Steps of MixedDistillation with the embedded teacher, on 8 images of 256 pixels, with as many threads as cores.
Alone, and beside as many processes that compute all the time. Both ways to wait take turns; each turn is a process of
its own, since OpenMP reads its variables once. The median step of each is printed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from functools import partial

from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.results.machine import machine
from anomalib_mkd.threads import VARIABLE

STEPS, TURNS = 4, 3
STEP = "step"
WAITING = {"awake (OpenMP's default)": {}, "asleep (PASSIVE)": {VARIABLE: "PASSIVE"}}
OTHER_WORK = (sys.executable, "-c", "while True: pass")


def time_steps() -> None:
    """Print the median seconds of a step in this process."""
    import torch  # noqa: PLC0415  # after the variables are set

    from anomalib_mkd.models import MixedDistillation  # noqa: PLC0415

    torch.manual_seed(0)
    model = MixedDistillation(weights="quickstart").model
    model.teacher.prepare()
    images = torch.rand(8, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.learned_parameters(), lr=1e-3)

    def step() -> None:
        teacher, student = model.pyramids(images, model.teacher(images))
        optimizer.zero_grad()
        model.loss(teacher, student)["loss"].backward()
        optimizer.step()

    print(statistics.median(take_turns({STEP: step}, STEPS)[STEP]))


def main() -> None:
    """Compare both ways to wait."""
    free = {name: value for name, value in os.environ.items() if name not in {VARIABLE, "OMP_NUM_THREADS"}}
    cores = os.cpu_count() or 1
    print(machine(cores))
    for others in (0, cores):
        found: dict[str, list[float]] = {name: [] for name in WAITING}

        def measure(name: str, found: dict[str, list[float]] = found) -> None:
            command = [sys.executable, "-W", "ignore", "-m", "benchmark.time_waiting", STEP]
            ended = subprocess.run(command, env=free | WAITING[name], stdout=subprocess.PIPE, check=True)  # noqa: S603
            found[name].append(float(ended.stdout.split()[-1]))

        working = [subprocess.Popen(OTHER_WORK) for _ in range(others)]  # noqa: S603
        try:
            take_turns({name: partial(measure, name) for name in WAITING}, TURNS, warm_up=0)
        finally:
            for process in working:
                process.kill()
        for name, seconds in found.items():
            print(f"{others} other processes, {name:24} {statistics.median(seconds):5.2f} s per step")


if __name__ == "__main__":
    time_steps() if STEP in sys.argv else main()
