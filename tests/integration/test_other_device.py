# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Models and checkpoints of a GPU, on a machine that need not have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Resize

from anomalib_mkd import MixedDistillation, Mmrd
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(noise) for noise in NOISE]

GPU = "cuda:0"


def build() -> MixedDistillation:
    pre_processor = PreProcessor(Resize((64, 64), antialias=True))
    return MixedDistillation(weights="quickstart", visualizer=False, pre_processor=pre_processor)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the images."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    make_engine(folder, max_epochs=1).fit(build(), datamodule=make_data(root))
    return next(folder.rglob("*.ckpt"))


def trained_on(device: str, checkpoint: Path, folder: Path) -> Path:
    """Write a checkpoint as a training on that device does."""
    path = folder / "other.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: device)
        torch.save(content, path)
    return path


# --------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_of_a_gpu_is_validated_tested_and_predicted_with(
    root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    def results(path: Path, way: str) -> Any:
        return getattr(make_engine(tmp_path), way)(build(), datamodule=make_data(root), ckpt_path=path)

    other = trained_on(GPU, checkpoint, tmp_path)
    for way in ("validate", "test"):
        assert results(other, way) == results(checkpoint, way)
    for one, same in zip(results(other, "predict"), results(checkpoint, "predict"), strict=True):
        assert torch.equal(one.pred_score, same.pred_score)


def test_a_training_on_a_gpu_goes_on(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    def resumed(path: Path) -> dict[str, torch.Tensor]:
        module = build()
        make_engine(tmp_path, max_epochs=2).fit(module, datamodule=make_data(root), ckpt_path=path)
        return dict(module.state_dict())

    expected = resumed(checkpoint)
    found = resumed(trained_on(GPU, checkpoint, tmp_path))
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("device", [GPU, "cuda:99", "xpu:0", "mps"])
def test_a_checkpoint_of_any_device_is_loaded(checkpoint: Path, tmp_path: Path, device: str) -> None:
    loaded = MixedDistillation.load_from_checkpoint(trained_on(device, checkpoint, tmp_path)).state_dict()
    expected = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(loaded[name].cpu(), value) for name, value in expected.items())


# ------------------------------------------------------------------------------------------------------------- exports


def put_on_a_gpu(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a model say that it is on a GPU, and list where it is moved from there."""
    moves: list[str] = []

    def to(self: Any, device: Any) -> Any:
        moves.append(str(device))
        self._device = torch.device(device)
        return self

    monkeypatch.setattr(type(module), "to", to)
    module._device = torch.device(GPU)
    return moves


@pytest.mark.parametrize("way", ["to_torch", "to_onnx", "to_openvino"])
def test_a_model_on_a_gpu_is_exported_on_the_cpu(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    module = MixedDistillation.load_from_checkpoint(checkpoint, map_location="cpu")
    moves = put_on_a_gpu(module, monkeypatch)
    assert getattr(module, way)(tmp_path).is_file()
    assert set(moves[:-1]) == {"cpu"}
    assert moves[-1] == GPU


def test_so_is_one_of_photo_and_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Mmrd(backbone="resnet18.tv_in1k", pre_trained=False, num_prototypes=8, visualizer=False)
    moves = put_on_a_gpu(module, monkeypatch)
    assert module.to_onnx(tmp_path, input_size=(64, 64)).is_file()
    assert moves == ["cpu", GPU]


def test_a_model_is_back_on_the_gpu_after_an_export_that_fails(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MixedDistillation.load_from_checkpoint(checkpoint, map_location="cpu")
    moves = put_on_a_gpu(module, monkeypatch)
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(OSError, match="writable folder"):
        module.to_torch(taken)
    assert moves == ["cpu", GPU]
