# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One model's process builds its model, and says what went wrong."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from anomalib_mkd import MixedDistillation
from anomalib_mkd.compare import worker
from anomalib_mkd.compare.recipes import FAST, RECIPES
from anomalib_mkd.compare.runs import RESULT, Job, kept
from anomalib_mkd.compare.worker import build, main, reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path


def test_reasons_are_sentences() -> None:
    assert reason(ValueError("Expected a, got b.\nRemedy.")) == "Expected a, got b. Remedy."
    assert reason(RuntimeError("\n  what it is  \nwhere")) == "RuntimeError: what it is."
    assert reason(KeyError()) == "KeyError."


def test_the_fast_preset_is_the_model_on_smaller_pictures(shared: Callable[[str], Path]) -> None:
    model, sentence = build(RECIPES[FAST], str(shared("weights/resnet18_tv_in1k_layers1-3_f16.safetensors")))
    assert (type(model), model.input_size) == (MixedDistillation, (144, 144))
    assert sentence.startswith("Teacher: resnet18.tv_in1k from ")
    with pytest.raises(ValueError, match=r"^Expected ImageNet's ResNet-18 for images of 144 px, got the embedded"):
        build(RECIPES[FAST], "quickstart")


def test_a_failure_leaves_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: Job) -> None:
        msg = f"{job.recipe} broke"
        raise RuntimeError(msg)

    monkeypatch.setattr(worker, "work", fail)
    job = Job("Padim", tmp_path / "job", tmp_path / "data.yaml", "auto", 0, 60.0, "key")
    assert main(str(job.write())) == 1
    assert '"RuntimeError: Padim broke."' in (job.folder / RESULT).read_text()
    assert kept(job) is None


def test_what_a_test_found_is_kept_before_the_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        trainer = SimpleNamespace(should_stop=False, global_step=5)

        def __init__(self, **_: object) -> None:
            pass

        def fit(self, **_: object) -> None:
            pass

        test = fit

    class Collector:
        predictions: ClassVar[list[Any]] = []

        def figures(self) -> dict[str, float]:
            return {"image_auroc": 0.9, "caught": 1, "bad": 4}

        def image_aurocs(self) -> dict[str, float]:
            return {"bottle": 1.0, "screw": 0.8}

    def die(*_: object) -> None:
        raise SystemExit

    def timer(left: timedelta) -> None:
        budget.append(left.total_seconds())

    budget: list[float] = []
    job = Job("Padim", tmp_path / "job", tmp_path / "data.yaml", "auto", 0, 60.0, "key", started=time.time() - 20)
    os.utime(job.write(), (0, 0))  # the clock of a file server
    (job.folder / "int8").mkdir()  # of a shorter training
    data = SimpleNamespace(train_data=range(5), val_data=None)
    fakes = {"Engine": Engine, "Collector": Collector, "open_data": lambda *_: data, "export": die, "Timer": timer}
    fakes |= {"build": lambda *_: (SimpleNamespace(post_processor=None), "Backbone: none.")}
    for name, fake in fakes.items():
        monkeypatch.setattr(worker, name, fake)
    with pytest.raises(SystemExit):
        worker.work(job)
    assert budget == [pytest.approx(40, abs=5)], "of 60 s, 20 s went by"
    content = json.loads((job.folder / RESULT).read_text())
    assert content["goes_on"]
    assert (content["row"]["image_auroc"], content["row"]["unfinished"], content["row"]["stopped"]) == (
        0.9,
        True,
        False,
    )
    assert content["row"]["notes"] == [
        "Backbone: none.",
        "Image AUROC by category: bottle 100.0 %, screw 80.0 %.",
        "Not exported: its process ended before that.",
        "Caught only 1 of 4 bad parts, although most score higher than good ones: its threshold is too high for them.",
    ]
    assert not (job.folder / "int8").exists()
