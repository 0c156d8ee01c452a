# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Graphs take turns, PatchCore remembers as much as it would, and the rows hold what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmark.latency import GRAPHS, TEACHER, WARM_UP, build, measure_latency, take_turns
from benchmark.rows import read_rows

if TYPE_CHECKING:
    from pathlib import Path


def test_graphs_take_turns_after_warming_up() -> None:
    calls: list[str] = []

    seconds = take_turns([lambda: calls.append("a"), lambda: calls.append("b")], rounds=4)
    assert calls == ["a", "b"] * (WARM_UP + 4)
    assert [len(own) for own in seconds] == [4, 4]


@pytest.mark.parametrize(("training_set", "rows"), [("bottle", 133), ("joint4", 516)])
def test_patchcore_remembers_1_percent_of_its_patches(training_set: str, rows: int) -> None:
    """64 px give 8 x 8 patches of 128 + 256 channels an image."""
    model = build("Patchcore", training_set, "resnet18.tv_in1k", 64)
    assert model.model.memory_bank.shape == (rows, 384)
    assert not model.model.training


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_rows_of_four_graphs_in_two_precisions(tmp_path: Path) -> None:
    graphs = [TEACHER, ("Dcam", "width0.25"), ("Mmrd", "default"), ("Patchcore", "bottle")]
    assert set(graphs) <= set(GRAPHS)
    options: dict[str, Any] = {"results": tmp_path / "speed.csv", "threads": 1, "graphs": graphs, "side": 64}
    rows = measure_latency(rounds=2, source="abc", **options)
    assert len(read_rows(tmp_path / "speed.csv")) == len(rows) == 4 * 2 * 4
    values = {(row.model, row.precision, row.metric): row.value for row in rows}
    assert values["Teacher", "f32", "latency_ratio"] == 1
    assert all(value > 0 for (_, _, metric), value in values.items() if metric != "latency_spread")
    for model in ("Teacher", "Dcam", "Mmrd"):
        assert values[model, "int8", "megabytes"] < 0.5 * values[model, "f32", "megabytes"]
    assert values["Teacher", "f32", "megabytes"] < values["Dcam", "f32", "megabytes"]
    assert measure_latency(rounds=2, **options) == []
