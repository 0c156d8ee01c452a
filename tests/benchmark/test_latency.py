# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Graphs take turns, PatchCore remembers as much as it would, and the rows hold what was measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from anomalib_mkd.compare.turns import take_turns
from benchmark.latency import GRAPHS, TEACHER, build, measure_latency
from benchmark.rows import read_rows

if TYPE_CHECKING:
    from pathlib import Path


def test_calls_take_turns_after_warming_up() -> None:
    calls: list[str] = []
    timed = {name: partial(calls.append, name) for name in ("a", "b")}
    seconds = take_turns(timed, rounds=4, warm_up=3, before=partial(calls.append, "before"))
    assert calls == ["before", "a", "before", "b"] * 7
    assert {name: len(own) for name, own in seconds.items()} == {"a": 4, "b": 4}


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
        assert 0.24 < values[model, "int8", "megabytes"] / values[model, "f32", "megabytes"] < 0.5
    assert values["Teacher", "f32", "megabytes"] < values["Dcam", "f32", "megabytes"]
    assert measure_latency(rounds=2, **options) == []
