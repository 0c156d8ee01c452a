# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One model's process opens the data that a user named, and says what went wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd import MixedDistillation
from anomalib_mkd.check.configuration import configuration
from anomalib_mkd.check.layout import find_layout
from anomalib_mkd.compare import worker
from anomalib_mkd.compare.recipes import FAST, RECIPES
from anomalib_mkd.compare.runs import RESULT, DataError, Job, kept
from anomalib_mkd.compare.worker import build, main, open_data, reason
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_reasons_are_sentences() -> None:
    assert reason(ValueError("Expected a, got b.\nRemedy.")) == "Expected a, got b. Remedy."
    assert reason(RuntimeError("\n  what it is  \nwhere")) == "RuntimeError: what it is."
    assert reason(KeyError()) == "KeyError."


def test_data_of_a_configuration(tmp_path: Path) -> None:
    parts = draw_category(tmp_path / "parts", train=10)
    file = tmp_path / "data.yaml"
    file.write_text(str(configuration(find_layout(parts))))
    data = open_data(file, RECIPES["EfficientAd"])
    assert (data.train_batch_size, data.num_workers, len(data.train_data)) == (1, 0, 8)
    assert open_data(file, RECIPES["Padim"]).train_batch_size == 8


def test_several_categories_as_one(tmp_path: Path) -> None:
    for name in ("bottle", "screw"):
        draw_category(tmp_path / name, train=10)
    file = tmp_path / "data.yaml"
    arguments = {"root": str(tmp_path), "categories": ["bottle", "screw"], "train_batch_size": 4}
    content = {"data": {"class_path": "anomalib_mkd.data.MultiCategory", "init_args": arguments}}
    file.write_text(json.dumps(content))  # JSON is YAML, too
    data = open_data(file, RECIPES["MixedDistillation"])
    assert (data.train_batch_size, len(data.train_data), len(data.test_data)) == (4, 16, 8)


@pytest.mark.parametrize("text", ["", "data: [", "data:\n  class_path: Nothing\n", "model: 1\n"])
def test_what_is_no_configuration(text: str, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=r"^Expected a configuration of a datamodule in '.*', got .+ Write one with: "):
        open_data(file, RECIPES["Padim"])


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
