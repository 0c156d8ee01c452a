# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Times of exports on this computer, in processes of their own with OpenVINO, NumPy and Pillow alone.

All exports are in memory at once and take turns on the same image, so that other load slows them all.
``python -m anomalib_mkd.compare.timing`` is started by :func:`time_turns` and :func:`time_first`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from PIL import Image

from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.deploy.graph import EXACT, core
from anomalib_mkd.threads import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

THREADS = 1
"""Threads of one image's latency: what a line computer has for it is known, and others' work disturbs it least."""
ROUNDS = 30
"""Counted turns of single images."""
BURSTS = 5
"""Counted turns of many images."""
BURST = 16
"""Images of such a turn."""
WARM_UP = 2
"""Turns that are not counted."""
STARTS = 5
"""Starts of a process for each export."""
LIMIT = 1800
"""Seconds for each export after which their timing is given up."""


def quartiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the interquartile range.

    Example:
        >>> quartiles([1.0, 2.0, 3.0, 4.0, 10.0])
        (3.0, 5.5)
    """
    low, middle, high = statistics.quantiles(seconds, n=4)
    return middle, high - low


def time_turns(exports: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Time single images with one thread, and bursts with all cores; all exports take turns.

    Args:
        exports: The ``.xml`` files by any name.

    Returns:
        By name: ``latency`` and ``latency_spread`` in seconds, ``throughput`` in images per second; ``error`` instead
        if an export could not be run.

    Raises:
        RuntimeError: If the process fails.
    """
    words = json.dumps({name: str(path) for name, path in exports.items()})
    taken = json.loads(_output("turns", words, limit=LIMIT * len(exports)))
    found = {}
    for name, own in taken.items():
        if "error" in own:
            found[name] = own
            continue
        latency, spread = quartiles(own["single"])
        throughput = BURST / statistics.median(own["burst"])
        found[name] = {"latency": latency, "latency_spread": spread, "throughput": throughput}
    return found


def time_first(exports: Mapping[str, Path], picture: Path) -> dict[str, float]:
    """Time from the start of a process to its first verdict: imports, reading, compiling, and one image.

    Args:
        exports: The ``.xml`` files by any name.
        picture: A file.

    Returns:
        Median seconds by name; what fails is left out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in exports}
    for _ in range(STARTS):
        for name, path in exports.items():
            start = time.perf_counter()
            command = _command("first", str(path), str(picture))
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            with subprocess.Popen(command, **pipes) as process:  # noqa: S603
                assert process.stdout is not None  # noqa: S101  # for the type checker
                if process.stdout.readline():
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items() if taken}


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "anomalib_mkd.compare.timing", *words]


def _output(*words: str, limit: float) -> str:
    try:
        ended = subprocess.run(_command(*words), capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        msg = f"Expected the exports to be timed within {limit:g} s, got no end. Compare fewer models at a time."
        raise RuntimeError(msg) from error
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        msg = f"Expected the exports to be timed, got '{last}'. Compare fewer models at a time if memory is short."
        raise RuntimeError(msg)
    return ended.stdout


# --- in the process ---------------------------------------------------------------------------------------------------


def read_single(path: str) -> openvino.Model:
    """Read a graph and fix its batch at one image."""
    graph = core().read_model(path)
    graph.reshape({taken: [1, *list(taken.partial_shape)[1:]] for taken in graph.inputs})
    return graph


def inputs_of(graph: openvino.Model | openvino.CompiledModel) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Draw noise for each input of a graph of fixed size."""
    generator = np.random.default_rng(0)
    return [generator.random(tuple(taken.shape), dtype=np.float32) for taken in graph.inputs]


def first(path: str, picture: str) -> None:
    """Print the score of an image as soon as it is known."""
    graph = read_single(path)
    inputs = inputs_of(graph)
    height, width = inputs[0].shape[2:]
    with Image.open(picture) as opened:
        small = np.asarray(opened.convert("RGB").resize((width, height)), np.float32)
    inputs[0] = small.transpose(2, 0, 1)[None] / 255
    compiled = core().compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY", **EXACT})
    sys.stdout.write(f"{np.ravel(compiled(inputs)['pred_score'])[0]}\n")
    sys.stdout.flush()


def turns(paths: Mapping[str, str]) -> None:
    """Print the seconds of each turn."""
    found: dict[str, dict[str, Any]] = {}
    single: dict[str, Callable[[], object]] = {}
    burst: dict[str, Callable[[], object]] = {}
    for name, path in paths.items():
        try:
            graph = read_single(path)
            inputs = inputs_of(graph)
            latency = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, **EXACT}
            alone = core().compile_model(graph, "CPU", latency)
            many = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": allowed_cores(), **EXACT}
            queue = openvino.AsyncInferQueue(core().compile_model(graph, "CPU", many))
            single[name] = lambda alone=alone, inputs=inputs: alone(inputs)  # type: ignore[misc]
            burst[name] = lambda queue=queue, inputs=inputs: _burst(queue, inputs)  # type: ignore[misc]
            single[name]()
            found[name] = {}
        except RuntimeError as error:  # noqa: PERF203  # OpenVINO's
            found[name] = {"error": str(error).strip().splitlines()[-1]}
            single.pop(name, None)
            burst.pop(name, None)
    for kind, calls, rounds in (("single", single, ROUNDS), ("burst", burst, BURSTS)):
        for name, seconds in take_turns(calls, rounds, warm_up=WARM_UP).items():
            found[name][kind] = seconds
    sys.stdout.write(json.dumps(found))


def _burst(queue: openvino.AsyncInferQueue, inputs: Sequence[Any]) -> None:
    for _ in range(BURST):
        queue.start_async(inputs)
    queue.wait_all()


if __name__ == "__main__":
    if sys.argv[1] == "first":
        first(*sys.argv[2:])
    else:
        turns(json.loads(sys.argv[2]))
