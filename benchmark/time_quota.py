# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Time that threads cost which a container's limit does not allow: ``python -m benchmark.time_quota``.

Run it in a container with a limit, ``docker run --cpus 1``. A training step and the prediction of one image compute
with a thread for each visible core, and with those that the limit allows. Each runs for some seconds before the other
does, since what one leaves of a limit would help the other; mean and highest time are printed, of images also with
pauses between them, in which a limit recovers.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from anomalib_mkd import MixedDistillation
from anomalib_mkd.deploy.graph import EXACT, core
from anomalib_mkd.results.machine import machine
from anomalib_mkd.threads import allowed_cores, visible_cores
from anomalib_mkd.training.mixin import laid_out
from benchmark.time_precision import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROUNDS, SECONDS = 3, 4


def timed(call: Callable[[], object], pause: float) -> str:
    """Write mean and highest time of a call in milliseconds, called again and again."""
    call()
    taken: list[float] = []
    while sum(taken) < SECONDS * (1 if pause == 0 else 0.3):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
        time.sleep(pause)
    return f"{1000 * statistics.fmean(taken):.1f} ms, at most {1000 * max(taken):.1f} ms"


def show(title: str, calls: Mapping[int, Callable[[], object]], pause: float = 0.0) -> None:
    """Print the times of calls by their number of threads."""
    for _ in range(ROUNDS):
        for count, call in calls.items():
            print(f"{title}, {count} threads: {timed(call, pause)}")


def main() -> None:
    """Time both."""
    torch.manual_seed(0)
    print(machine())
    module = MixedDistillation(pre_trained=False)
    model, images = module.model.train(), laid_out(torch.randn(8, 3, 256, 256))
    with torch.no_grad():
        teacher = model.teacher(images)

    def train(count: int) -> None:
        torch.set_num_threads(count)
        step(model, images, teacher, "f32")

    counts = (visible_cores(), allowed_cores())
    show("training step", {count: partial(train, count) for count in counts})
    with TemporaryDirectory() as folder:
        graph = core().read_model(module.eval().to_openvino(Path(folder), input_size=(256, 256)))
        graph.reshape([1, 3, 256, 256])
        config = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False, **EXACT}
        image = [np.random.default_rng(0).random((1, 3, 256, 256), np.float32)]
        calls = {
            count: partial(core().compile_model(graph, "CPU", config | {"INFERENCE_NUM_THREADS": count}), image)
            for count in counts
        }
        show("image", calls)
        show("image after a pause", calls, pause=0.15)


if __name__ == "__main__":
    main()
