# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Times of exports in an environment without torch; run by ``deployment.py`` as a file, with that environment's Python.

``first MODEL IMAGE [CACHE]`` prints a verdict and the peak memory in bytes, ``stream SIDE ROUNDS THREADS MODEL ...``
the seconds of each call, with the exports taking turns.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from anomalib_mkd.deploy import DepthInferencer, Inferencer
from anomalib_mkd.deploy.metadata import read

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP = 3
"""Turns that are not counted."""
BURST = 16
"""Images of a burst, whose throughput is timed."""


def first(model: str, picture: str, cache: str | None = None) -> None:
    """Predict on a file, with flat depth if the model takes it; ``cache`` is the folder of OpenVINO's model cache."""
    metadata = read(model)
    config = {"CACHE_DIR": cache} if cache else None
    if "depth" in metadata.inputs:
        depth = np.ones((metadata.inputs["depth"].channels, 256, 256), np.float32)
        found = DepthInferencer(model, config=config).predict(picture, depth)
    else:
        found = Inferencer(model, config=config).predict(picture)
    import resource  # noqa: PLC0415  # not on every system

    print(json.dumps({"bad": found.bad, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def stream(side: int, rounds: int, threads: int, models: list[str]) -> None:
    """Time single images, and bursts of them, with as many threads as are given."""
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(BURST)]
    calls = {}
    for model in models:
        for hint, count in (("LATENCY", 1), ("THROUGHPUT", BURST)):
            config = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": threads}
            calls[model, hint] = prepare(model, config, pictures[:count])
    seconds: dict[tuple[str, str], list[float]] = {name: [] for name in calls}
    for turn in range(WARM_UP + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in call():
                pass
            if turn >= WARM_UP:
                seconds[name].append((time.perf_counter() - start) / (1 if name[1] == "LATENCY" else BURST))
    print(json.dumps([{hint: seconds[model, hint] for hint in ("LATENCY", "THROUGHPUT")} for model in models]))


def prepare(model: str, config: dict[str, Any], pictures: list[Any]) -> Any:
    """Load an export, and return a call that predicts on all images."""
    metadata = read(model)
    if "depth" not in metadata.inputs:
        photos = Inferencer(model, config=config)
        return lambda: photos.predict_many(pictures)
    paired = DepthInferencer(model, config=config)
    depth = np.ones((metadata.inputs["depth"].channels, *pictures[0].shape[:2]), np.float32)

    def call() -> Iterator[Any]:
        return paired.predict_many((picture, depth) for picture in pictures)

    return call


if __name__ == "__main__":
    if sys.argv[1] == "first":
        first(*sys.argv[2:])
    else:
        side, rounds, threads = (int(word) for word in sys.argv[2:5])
        stream(side, rounds, threads, sys.argv[5:])
