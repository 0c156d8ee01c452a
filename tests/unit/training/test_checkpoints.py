# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints that are damaged, or do not fit the model that is to load them: one sentence each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import ColorJitter, Compose, Pad, Resize

from anomalib_mkd import MixedDistillation
from tests.conftest import REPOSITORY
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]


def state_of(model: MixedDistillation) -> dict[str, Any]:
    """What a checkpoint of an untrained model holds."""
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content["pytorch-lightning_version"] = "2.6.0"
    model.on_save_checkpoint(content)
    return content


def saved(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "model.ckpt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "folder", "gone"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    whole = saved(tmp_path, {"state_dict": {}}).read_bytes()
    path = tmp_path / "damaged.ckpt"
    if kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.write_bytes({"empty": b"", "truncated": whole[:-100], "text": b"hello" * 99}[kind])
    what = {"empty": "is empty", "folder": "is a folder", "gone": "does not exist"}.get(
        kind, "is truncated or of another"
    )
    error = FileNotFoundError if kind == "gone" else ValueError
    sentence = rf"^Expected a checkpoint, got '{path}', which {what}.*\. (Name|Check)"
    with pytest.raises(error, match=sentence):
        MixedDistillation.load_from_checkpoint(path)
    if kind != "gone":  # Lightning names that one itself
        with pytest.raises(error, match=sentence):
            make_engine(tmp_path).test(MixedDistillation(weights="quickstart"), ckpt_path=path)


@pytest.mark.parametrize("had", [True, False])
def test_a_pre_processor_or_none_is_that_of_the_training(tmp_path: Path, *, had: bool) -> None:
    trained, other = (MixedDistillation(weights="quickstart", pre_processor=own) for own in (had, not had))
    trained.model.teacher.prepare()
    path = saved(tmp_path, state_of(trained))
    what = "a pre-processor" if had else "no pre-processor, pre_processor=False"
    with pytest.raises(ValueError, match=rf"^Expected {what}, as when the checkpoint was trained"):
        make_engine(tmp_path).test(other, datamodule=make_data(tmp_path), ckpt_path=path)


def test_a_blur_too_wide_for_the_pictures_stops_before_the_training(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match=r"Expected maps of at least 160 pixels"):
        engine.fit(MixedDistillation(weights="quickstart", sigma=40), datamodule=make_data(tmp_path))
    assert engine.trainer.global_step == 0


def test_numbers_of_numpy_are_kept_as_pythons(tmp_path: Path) -> None:
    model = MixedDistillation(weights="quickstart", training_steps=np.int64(3), sigma=np.float32(2))
    assert [type(model.hparams[name]) for name in ("training_steps", "sigma")] == [int, float]
    model.model.teacher.prepare()
    loaded = MixedDistillation.load_from_checkpoint(saved(tmp_path, state_of(model)))
    assert (loaded.hparams["training_steps"], loaded.hparams["sigma"]) == (3, 2)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: str) -> None:
    content = state_of(MixedDistillation(weights="quickstart"))
    name = next(name for name in content["state_dict"] if name.startswith("model.student"))
    content["state_dict"][name].view(-1)[0] = float(value)
    path = saved(tmp_path, content)
    with pytest.raises(
        ValueError, match=rf"got '{path}': Expected finite weights, got others in '{name}'\. Take another"
    ):
        MixedDistillation.load_from_checkpoint(path)


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        (
            {"weights": "quickstart"},
            {},
            r"weights='quickstart', got one with weights=None\. Pass --model.weights=quickstart to the command",
        ),
        (
            {"weights": "quickstart"},
            {"weights": "quickstart", "student_width": 1.0},
            r"student_width=0.5, got one with student_width=1.0\. Pass --model.student_width=0.5 to the command",
        ),
    ],
)
def test_a_checkpoint_of_another_network_names_the_argument(
    was: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    content = state_of(MixedDistillation(**was))
    with pytest.raises(ValueError, match=rf"^Expected the network of the checkpoint, with {words}"):
        MixedDistillation(**now).on_load_checkpoint(content)


def test_another_width_given_on_loading_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, state_of(MixedDistillation(weights="quickstart")))
    with pytest.raises(
        ValueError, match=r"the same arguments, got one with another 'model\..*'\. Pass the arguments of"
    ):
        MixedDistillation.load_from_checkpoint(path, student_width=1.0)


def test_arguments_that_are_equal_in_yaml_fit() -> None:
    layers = ("pool1", "pool2")
    content = state_of(MixedDistillation(weights="quickstart", layers=layers))
    MixedDistillation(weights="quickstart", layers=list(layers)).on_load_checkpoint(content)


def test_nothing_is_unpickled_but_weights() -> None:
    """What reads a pickle says ``weights_only=True`` where it is called."""
    sources = [file for folder in ("src", "benchmark", "scripts") for file in (REPOSITORY / folder).rglob("*.py")]
    lines = [line for file in sources for line in file.read_text(encoding="utf-8").splitlines()]
    reading = r"torch\.load\(|\.load_checkpoint\(|load_state_dict\(file|pickle\.load|joblib"
    calls = [line for line in lines if re.search(reading, line)]
    assert len(calls) >= 6
    assert [line for line in calls if "weights_only=True" not in line] == []


# -------------------------------------------------------------------------------------------------- pre-processors

JITTER = Compose([Resize((64, 64), antialias=True), ColorJitter(0.1)])
OTHER = Compose([Resize((96, 96), antialias=True)])


def saved_with(transform: Any, folder: Path) -> Path:
    model = MixedDistillation(weights="quickstart", student_width=0.25, pre_processor=PreProcessor(transform))
    return saved(folder, state_of(model))


def test_a_transform_that_no_checkpoint_can_hold_is_given_again_or_refused(tmp_path: Path) -> None:
    path = saved_with(JITTER, tmp_path)
    with pytest.raises(ValueError, match=r"(?s)which a checkpoint cannot hold, Compose.*ColorJitter.*Pass it to the"):
        MixedDistillation.load_from_checkpoint(path)
    loaded = MixedDistillation.load_from_checkpoint(path, pre_processor=PreProcessor(JITTER))
    assert loaded.pre_processor.transform is JITTER


def test_a_pre_processor_that_is_given_is_kept_without_the_thresholds_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved_with(Compose([Pad(3, fill=0.5), Resize((64, 64), antialias=True)]), tmp_path)
    loaded = MixedDistillation.load_from_checkpoint(path, pre_processor=PreProcessor(OTHER))
    assert loaded.pre_processor.transform is OTHER
    assert "its thresholds hold for no other" in caplog.text
    same = PreProcessor(Compose([Pad(3, fill=0.5), Resize([64, 64], antialias=True)]))
    caplog.clear()
    assert MixedDistillation.load_from_checkpoint(path, pre_processor=same).pre_processor is same
    assert "thresholds" not in caplog.text
    pad, resize = MixedDistillation.load_from_checkpoint(path).pre_processor.transform.transforms
    assert (pad.padding, pad.fill, resize.size) == (3, 0.5, [64, 64])
