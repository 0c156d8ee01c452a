# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Times of tiny graphs, in processes of their own; which time it is depends on the computer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino
import pytest
from openvino import opset13 as operators
from PIL import Image

from anomalib_mkd.compare import timing
from anomalib_mkd.compare.exports import disturbed
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


def test_first_verdict(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STARTS", 1)
    picture = tmp_path / "part.png"
    Image.new("L", (50, 40)).save(picture)
    found = time_first({"a": graph, "gone": tmp_path / "gone.xml"}, picture)
    assert [*found] == ["a"]
    assert found["a"] > 0


def test_restless_times_are_marked() -> None:
    calm = Row("Calm", latency=0.02, latency_spread=0.001)
    assert disturbed([calm, Row("Failed", reason="It broke.")]) == []
    (warning,) = disturbed([calm, Row("Restless", latency=0.02, latency_spread=0.01)])
    assert "those of Restless are spread over more than a fifth" in warning
