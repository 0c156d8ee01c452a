# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What an export takes on the line: the small environment's size, the start, one image, and many of them."""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anomalib_mkd.deploy.metadata import read
from anomalib_mkd.results.machine import machine
from benchmark.rows import ROOT, Key, Row, append_rows, commit, has_run, noise_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

PACKAGES = ("openvino", "numpy", "pillow")
"""All that a deployment needs, besides our package."""
PROGRAM = Path(__file__).parent / "on_the_line.py"
STARTS = 5
"""Starts of a process, of whose times the median counts."""


def small_environment(folder: Path) -> Path:
    """Make a virtual environment with ``PACKAGES``, of the tested versions, and our package alone.

    Args:
        folder: Where it goes; must not exist.

    Returns:
        Its Python.

    Raises:
        subprocess.CalledProcessError: If pip fails, for example as no index can be reached; its ``stderr`` says why.
    """
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    with tempfile.TemporaryDirectory() as wheels:
        build = f"import hatchling.build as b; b.build_wheel({wheels!r})"
        _call([sys.executable, "-c", build])
        (wheel,) = Path(wheels).iterdir()
        _call([*pip, "--constraint", str(ROOT / "constraints.txt"), *PACKAGES])
        _call([*pip, "--no-deps", str(wheel)])
    return python


def measure_deployment(
    exports: Sequence[Path],
    *,
    python: Path | None = None,
    results: Path,
    rounds: int,
    threads: int,
    side: int = 256,
    source: str | None = None,
) -> list[Row]:
    """Measure exports in the small environment and append the rows, unless the file already has them.

    Args:
        exports: The ``.xml`` files.
        python: That of a :func:`small_environment`; None makes one, and removes it at the end.
        results: CSV file.
        rounds: Counted turns, at least 2.
        threads: Threads of OpenVINO.
        side: Side of the images, which are noise, in pixels.
        source: Commit of the code; determined if ``None``.

    Returns:
        The new rows per export: megabytes of the environment and of the export, seconds from the start of a process to
        its first verdict, without and with OpenVINO's model cache, peak memory in megabytes, latency in seconds with
        its interquartile range, and images per second with the ``THROUGHPUT`` hint.
    """
    metadata = [read(path) for path in exports]
    named = "+".join(f"{own.model}-{own.precision}" for own in metadata)
    key = Key(f"deployment-{named}-{side}px-t{threads}-{rounds}rounds", batch=1, steps=0)
    if has_run(results, key):
        logger.info("%s: already measured, skipped", key.run_id)
        return []
    source = source or commit()
    with tempfile.TemporaryDirectory() as work:
        python = python or small_environment(Path(work) / "environment")
        picture = Path(work) / "noise.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(picture)
        environment = megabytes(python.parents[1])
        words = [str(python), str(PROGRAM), "stream", str(side), str(rounds), str(threads), *map(str, exports)]
        streams = json.loads(_call(words))
        values = []
        for path, stream in zip(exports, streams, strict=True):
            words = [str(python), str(PROGRAM), "first", str(path), str(picture)]
            peaks, seconds = zip(*(_start(words) for _ in range(STARTS)), strict=True)
            cached = [*words, str(Path(work) / "cache")]
            _start(cached)  # fills the cache
            low, _, high = statistics.quantiles(stream["LATENCY"], n=4)
            values.append(
                {
                    "environment_megabytes": environment,
                    "megabytes": sum(path.with_suffix(end).stat().st_size for end in (".xml", ".bin", ".json")) / 1e6,
                    "first_verdict_seconds": statistics.median(seconds),
                    "cached_first_verdict_seconds": statistics.median(_start(cached)[1] for _ in range(STARTS)),
                    "peak_memory_megabytes": peaks[-1] / 1e6,
                    "latency_seconds": statistics.median(stream["LATENCY"]),
                    "latency_spread": high - low,
                    "pictures_per_second": 1 / statistics.median(stream["THROUGHPUT"]),
                }
            )
    rows = [
        row
        for own, numbers in zip(metadata, values, strict=True)
        for row in noise_rows(
            key,
            numbers,
            model=own.model,
            variant="default",
            image_size=side,
            precision=own.precision,
            weights=str(own.arguments.get("weights") or own.arguments.get("backbone") or "unknown"),
            protocol="deployment",
            machine=machine(threads),
            commit=source,
        )
    ]
    append_rows(results, rows)
    for own, numbers in zip(metadata, values, strict=True):
        logger.info("%s, %s: %s", own.model, own.precision, {name: round(value, 4) for name, value in numbers.items()})
    return rows


def _start(words: Sequence[str]) -> tuple[float, float]:
    """Start a process; return its peak memory in bytes, and its seconds from start to end."""
    start = time.perf_counter()
    peak = json.loads(_call(words))["peak"]
    return peak, time.perf_counter() - start


def megabytes(folder: Path) -> float:
    """Return the size of all files in a folder; what links point to elsewhere does not count."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6


def _call(words: Sequence[str]) -> str:
    """Run a command in the repository, out of reach of our own environment, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANOMALIB_MKD"))}
    done = subprocess.run(  # noqa: S603
        words, check=True, capture_output=True, text=True, cwd=ROOT, env=inherited
    )
    return done.stdout
