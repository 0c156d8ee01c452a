# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A short run is tested on held-out normal images, and one that goes wrong has its row too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Recipe, make_dataset
from benchmark import short_runs
from benchmark.rows import read_rows
from benchmark.runs import Run
from benchmark.short_runs import measure_short_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    recipe = Recipe("metal", image_size=64, train_images=20, test_good=1, per_defect=1)
    root = make_dataset(tmp_path / "data", recipe).parent
    return {"results": tmp_path / "a.csv", "data_root": root, "source": "abc", "build": build}


def build(run: Run) -> MixedDistillation:
    arguments: Any = {"training_steps": run.steps, "student_width": 0.25, **run.arguments}
    off: Any = {"post_processor": False, "evaluator": False, "visualizer": False}
    return MixedDistillation(weights="quickstart", **off, **arguments)


def short_run(**arguments: Any) -> Run:
    return Run("MixedDistillation", "default", "metal", 0, "quickstart", 8, 4, "short", arguments=arguments)


@pytest.mark.parametrize(
    ("learning_rate", "collapsed", "message"),
    [(4e-3, 0, "no sign of a collapse"), (1000.0, 1, "Expected a finite loss")],
)
def test_one_row_per_run(
    options: dict[str, Any], learning_rate: float, collapsed: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = short_run(learning_rate=learning_rate)
    with caplog.at_level(logging.INFO, logger="benchmark.short_runs"):
        (row,) = measure_short_run(run, **options)
    assert message in caplog.messages[-1]
    assert (row.metric, row.value, row.epochs, row.image_size) == ("collapsed", collapsed, 2, 128)
    assert read_rows(options["results"]) == [row]
    assert measure_short_run(run, **options) == []


def test_images_that_show_a_collapse_train_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    held_out, trained = set(), set()
    signs, step = short_runs.signs, MixedDistillation.training_step

    def look(module: Any, batch: Any, step: int) -> list[str]:
        held_out.update(batch.image_path)
        return signs(module, batch, step)

    def learn(module: Any, batch: Any, *arguments: Any) -> Any:
        trained.update(batch.image_path)
        return step(module, batch, *arguments)

    monkeypatch.setattr(short_runs, "signs", look)
    monkeypatch.setattr(MixedDistillation, "training_step", learn)
    measure_short_run(short_run(), **options)
    assert (len(trained), len(held_out)) == (16, 4)
    assert not trained & held_out
    assert all("/train/good/" in path for path in held_out)


def test_a_far_student_and_equal_scores_are_signs() -> None:
    model = build(short_run()).model
    images = torch.rand(4, 3, 128, 128)
    batch: Any = None

    class Module:
        def __init__(self, student: Any) -> None:
            self.model = model
            model.student.forward = student

        def inputs(self, batch: Any) -> torch.Tensor:
            del batch
            return images

    with torch.no_grad():
        teacher = model.teacher(images)
    opposite = {name: -features for name, features in teacher.items()}
    *far, tied = short_runs.signs(Module(lambda _: opposite), batch, 100)
    assert far == [f"a mean distance of 2.00 at {name!r}" for name in teacher]
    assert tied.startswith("the same score, ")
    assert short_runs.signs(Module(lambda _: opposite), batch, 99) == [tied]
