# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every configuration file trains two batches through anomalib's command line, with the embedded teacher."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from anomalib.cli.cli import AnomalibCLI

from anomalib_mkd import Dcam, MixedDistillation, Mkd, Mmrd
from anomalib_mkd.check.command import main as check
from anomalib_mkd.data import Parts, Recipe, make_dataset

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT / "configs" / "model").glob("*.yaml"))
CLASSES: dict[str, Any] = {"dcam": Dcam, "mixed_distillation": MixedDistillation, "mkd": Mkd, "mmrd": Mmrd}
DATA = sorted((ROOT / "configs" / "data").glob("*.yaml"))
# where each data configuration expects pictures, besides those that are drawn anyway
FOLDERS = {
    "depth_folder": ["my_scans/part"],
    "multi_category": ["my_parts/bottle", "my_parts/screw"],
    "parts": ["my_parts"],
    "quickstart": [],
}
WITH_VALIDATION = {"depth_folder"}
DEPTH = next(path for path in DATA if path.stem == "depth_folder")


def teacher(name: str) -> dict[str, Any]:
    """Arguments for a teacher that needs no network: the embedded one, or a ResNet where a decoder must fit it."""
    return {"backbone": "resnet18.tv_in1k", "pre_trained": False} if name == "mmrd" else {"weights": "quickstart"}


def data_for(model: Path) -> Path:
    """A data configuration that suits the model."""
    return DEPTH if model.stem.startswith("mmrd") else DATA[-1]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the command line turns on everything that the libraries have to say
]


def train(tmp_path: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> AnomalibCLI:
    monkeypatch.chdir(tmp_path)
    layout: Any = "mvtec3d" if data.stem == "depth_folder" else "mvtec"
    recipe = Recipe("washer", picture_size=64, train_images=6, test_good=1, per_defect=1, layout=layout)
    drawn = make_dataset(tmp_path / "datasets" / "quickstart", recipe)
    for folder in FOLDERS[data.stem]:
        shutil.copytree(drawn, tmp_path / "datasets" / folder)
    tiny = ["--data.picture_size=64", "--data.train_images=6", "--data.test_good=1", "--data.per_defect=1"]
    return AnomalibCLI(
        [
            "fit",
            f"--config={model}",
            *(f"--model.{key}={value}" for key, value in teacher(model.stem.removesuffix("_paper")).items()),
            f"--config={data}",
            *(tiny if data.stem == "quickstart" else []),
            "--data.train_batch_size=2",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=2",
            "--trainer.logger=false",
            "--trainer.enable_progress_bar=false",
        ],
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = train(tmp_path, model, data_for(model), monkeypatch)
    assert type(cli.model) is CLASSES[model.stem.removesuffix("_paper")]
    assert cli.engine.trainer.global_step == 2


@pytest.mark.parametrize("data", DATA, ids=lambda path: path.stem)
def test_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = train(tmp_path, MODELS[0], data, monkeypatch)
    assert cli.engine.trainer.global_step == 2
    home = "validation" if data.stem in WITH_VALIDATION else "train"
    assert f"/{home}/good/" in cli.datamodule.val_data.samples.image_path.iloc[0].replace("\\", "/")


@pytest.mark.parametrize("name", CLASSES)
def test_the_users_preset_is_the_class(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ROOT / "configs" / "model" / f"{name}.yaml"
    cli = train(tmp_path, model, data_for(model), monkeypatch)
    assert dict(cli.model.hparams) == dict(CLASSES[name](**teacher(name)).hparams)


def test_the_file_that_trained_serves_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``check`` writes it; ``train``, ``test``, ``predict`` and an export in 8 bits, which needs images, read it."""
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path, Recipe("washer", picture_size=64, train_images=20, test_good=1, per_defect=1))
    assert check(["washer", "--write-config", "washer.yaml"]) == 0
    words = ["--model=MixedDistillation", "--model.weights=quickstart", "--config=washer.yaml"]
    data = AnomalibCLI(["train", *words, "--data.num_workers=0", "--trainer.max_steps=2"]).datamodule
    assert (type(data), len(data.train_data), data.train_batch_size) == (Parts, 16, 8)
    checkpoint = "--ckpt_path=results/MixedDistillation/Parts/washer/latest/weights/lightning/model.ckpt"
    for command in ("test", "predict"):
        assert type(AnomalibCLI([command, *words, checkpoint]).datamodule) is Parts
    kinds = ["--export_type=openvino", "--compression_type=INT8_PTQ", "--export_root=int8"]
    AnomalibCLI(["export", *words, checkpoint, *kinds])
    layers = (tmp_path / "int8" / "weights" / "openvino" / "model.xml").read_text(encoding="utf-8")
    assert layers.count('type="FakeQuantize"') > 10
