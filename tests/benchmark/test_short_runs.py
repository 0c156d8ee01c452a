# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A short run is judged by held-out normal images, and one that goes wrong has its row too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Recipe, make_dataset
from anomalib_mkd.training.divergence import DivergenceGuard
from benchmark.rows import read_rows
from benchmark.runs import Run
from benchmark.short_runs import measure_short_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    recipe = Recipe("metal", picture_size=64, train_images=20, test_good=1, per_defect=1)
    root = make_dataset(tmp_path / "data", recipe).parent
    return {"results": tmp_path / "a.csv", "shared": tmp_path, "data_root": root, "source": "abc", "build": build}


def build(run: Run, shared: Path) -> MixedDistillation:
    del shared
    arguments: Any = {"training_steps": run.steps, "student_width": 0.25, **run.arguments}
    off: Any = {"post_processor": False, "evaluator": False, "visualizer": False}
    return MixedDistillation(weights="quickstart", **off, **arguments)


def short_run(**arguments: Any) -> Run:
    return Run("MixedDistillation", "default", "metal", 0, "quickstart", "short", 8, 4, arguments)


@pytest.mark.parametrize(
    ("learning_rate", "collapsed", "told"),
    [(4e-3, 0, "no sign of a collapse"), (1e2, 1, "a variance of"), (1e30, 1, "Expected a finite loss")],
)
def test_one_row_per_run(
    options: dict[str, Any], learning_rate: float, collapsed: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = short_run(learning_rate=learning_rate)
    with caplog.at_level(logging.INFO, logger="benchmark.short_runs"):
        (row,) = measure_short_run(run, **options)
    assert told in caplog.messages[-1]
    assert (row.metric, row.value, row.epochs, row.image_size) == ("collapsed", collapsed, 2, 128)
    assert read_rows(options["results"]) == [row]
    assert measure_short_run(run, **options) == []


def test_images_that_judge_train_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    judged, trained = set(), set()
    signs, step = DivergenceGuard.signs, MixedDistillation.training_step

    def judge(guard: DivergenceGuard, number: int, module: Any, batch: Any) -> list[str]:
        if type(guard) is not DivergenceGuard:  # the model has its own guard, too
            judged.update(batch.image_path)
        return signs(guard, number, module, batch)

    def learn(module: Any, batch: Any, *arguments: Any) -> Any:
        trained.update(batch.image_path)
        return step(module, batch, *arguments)

    monkeypatch.setattr(DivergenceGuard, "signs", judge)
    monkeypatch.setattr(MixedDistillation, "training_step", learn)
    measure_short_run(short_run(), **options)
    assert (len(trained), len(judged)) == (16, 4)
    assert not trained & judged
    assert all("/train/good/" in path for path in judged)
