# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Times of tiny graphs, in processes of their own; which time it is depends on the computer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import openvino
import pytest
from openvino import opset13 as operators
from PIL import Image

from anomalib_mkd.compare import exports, timing
from anomalib_mkd.compare.exports import disturbed
from anomalib_mkd.compare.page import measured
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.compare.timing import time_first, time_turns

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph whose score is the mean of its image."""
    picture = operators.parameter([-1, 3, 32, 32], np.float32, name="input")
    score = operators.reduce_mean(picture, np.array([1, 2, 3]), keep_dims=False)
    score.output(0).set_names({"pred_score"})
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model([score], [picture]), path)
    return path


def test_turns_of_exports_and_one_that_cannot_run(graph: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text("no graph")
    found = time_turns({"a": graph, "broken": broken})
    assert {"latency", "latency_spread", "throughput"} == found["a"].keys()
    assert found["a"]["latency"] > 0
    assert found["a"]["throughput"] > 0
    assert found["broken"]["error"]


def test_the_time_for_timing_grows_with_the_exports(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LIMIT", 0.01)
    with pytest.raises(RuntimeError, match=r"^Expected the exports to be timed within 0\.03 s, got no end\. Compare"):
        time_turns(dict.fromkeys("abc", graph))


def test_first_verdict(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STARTS", 1)
    picture = tmp_path / "part.png"
    Image.new("L", (50, 40)).save(picture)
    found = time_first({"a": graph, "gone": tmp_path / "gone.xml"}, picture)
    assert [*found] == ["a"]
    assert found["a"] > 0


def test_each_export_that_was_not_timed_has_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {f"Padim/{kind}": {"error": f"no {kind}."} for kind in ("f32", "int8")}
    monkeypatch.setattr(exports, "time_turns", lambda _: errors)
    monkeypatch.setattr(exports, "time_first", lambda *_: {})
    (tmp_path / "models").mkdir()
    (row,), _ = exports.time_all(tmp_path, [Row("Padim", notes=("A note.",), megabytes=1.0, int8_megabytes=1.0)])
    texts = [f"Its {kind} export was not timed: no {kind}." for kind in ("f32", "int8")]
    assert row.notes == ("A note.", *texts)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert "on 1 core, median" in " ".join(measured(validates_on_test=False))


def test_restless_times_are_marked() -> None:
    calm = Row("Calm", latency=0.02, latency_spread=0.001)
    assert disturbed([calm, Row("Failed", reason="It broke.")]) == []
    (warning,) = disturbed([calm, Row("Restless", latency=0.02, latency_spread=0.01)])
    assert "those of Restless are spread over more than a fifth" in warning
