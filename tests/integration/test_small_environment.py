# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A fresh environment of OpenVINO, NumPy, Pillow and our wheel, in which an export predicts, and is measured."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.deployment import PACKAGES, measure_deployment, small_environment
from benchmark.rows import read_rows
from tests.exports import METADATA, picture, write_export

EXAMPLES = Path(__file__).parents[2] / "examples"
UNREACHABLE = ("No matching distribution", "Could not find a version", "Connection", "Max retries")


def test_the_dockerfile_installs_the_same() -> None:
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    assert f"pip install --no-cache-dir {' '.join(PACKAGES)} " in text
    assert all((EXAMPLES / name).is_file() for name in re.findall(r"^COPY (\S+\.py)", text, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.network
def test_openvino_numpy_and_pillow_are_enough(tmp_path: Path) -> None:
    try:
        python = small_environment(tmp_path / "environment")
    except subprocess.CalledProcessError as error:
        if any(word in error.stderr for word in UNREACHABLE):
            pytest.skip(f"no package index can be reached: {error.stderr.splitlines()[-1]}")
        raise
    export = write_export(tmp_path)
    Image.fromarray(picture(spot=(slice(5, 10), slice(10, 30)))).save(tmp_path / "bad.png")
    for level in range(60, 120, 10):
        Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(tmp_path / f"good{level}.png")

    def run(*words: object) -> str:
        command = [str(word) for word in (python, *words)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout  # noqa: S603

    names = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    assert set(run("-c", names).split()) - {"openvino-telemetry"} == {*PACKAGES, "anomalib-mkd"}
    assert "bad.png: bad, score 0.92" in run(EXAMPLES / "predict.py", export, "bad.png")
    assert "now: threshold 0.5" in run("-m", "anomalib_mkd.deploy", "threshold", export)
    results = tmp_path / "deployment.csv"
    measure_deployment([export], python=python, results=results, rounds=2, threads=1, side=32, source="test")
    rows = {row.metric: row for row in read_rows(results)}
    assert {row.model for row in rows.values()} == {METADATA.model}
    assert rows["environment_megabytes"].value < 500
    assert all(row.value > 0 for row in rows.values())
    assert measure_deployment([export], python=python, results=results, rounds=2, threads=1, side=32) == []
