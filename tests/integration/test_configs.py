# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every configuration file trains two batches through anomalib's command line, with the embedded teacher."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.engine import engine
from anomalib.models.components.feature_extractors import timm as feature_extractors
from anomalib.pipelines.components.base import pipeline
from lightning.pytorch import Trainer
from safetensors.torch import save_file

from anomalib_mkd import Dcam, MixedDistillation, Mkd, Mmrd
from anomalib_mkd.check.command import main as check
from anomalib_mkd.compare.recipes import ACCURATE, FAST, RECIPES
from anomalib_mkd.data import Parts, Recipe, make_dataset
from anomalib_mkd.networks import pretrained

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT / "configs" / "model").glob("*.yaml"))
CLASSES: dict[str, Any] = {"dcam": Dcam, "mixed_distillation": MixedDistillation, "mkd": Mkd, "mmrd": Mmrd}
DATA = sorted((ROOT / "configs" / "data").glob("*.yaml"))
# where each data configuration expects images, besides those that are drawn anyway
FOLDERS = {
    "depth_folder": ["my_scans/part"],
    "multi_category": ["my_parts/bottle", "my_parts/screw"],
    "parts": ["my_parts"],
    "quickstart": [],
}
WITH_VALIDATION = {"depth_folder"}
DEPTH = next(path for path in DATA if path.stem == "depth_folder")


def base(model: Path) -> str:
    """The name without that of the preset."""
    return re.sub("_(paper|fast|accurate)$", "", model.stem)


def teacher(name: str) -> dict[str, Any]:
    """Arguments for a teacher that needs no network: the embedded one, or a ResNet where decoder or images fit it."""
    fits = name in {"mmrd", "mixed_distillation_fast", "mixed_distillation_accurate"}
    return {"backbone": "resnet18.tv_in1k", "pre_trained": False} if fits else {"weights": "quickstart"}


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
    recipe = Recipe("washer", image_size=64, train_images=6, test_good=1, per_defect=1, layout=layout)
    drawn = make_dataset(tmp_path / "datasets" / "quickstart", recipe)
    for folder in FOLDERS[data.stem]:
        shutil.copytree(drawn, tmp_path / "datasets" / folder)
    tiny = ["--data.image_size=64", "--data.train_images=6", "--data.test_good=1", "--data.per_defect=1"]
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
    assert type(cli.model) is CLASSES[base(model)]
    assert cli.engine.trainer.global_step == 2


@pytest.mark.parametrize(("file", "name"), [("fast", FAST), ("accurate", ACCURATE)])
def test_other_presets_are_the_class_on_images_of_another_size(
    file: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ROOT / "configs" / "model" / f"mixed_distillation_{file}.yaml"
    resize, normalize = train(tmp_path, model, DATA[-1], monkeypatch).model.pre_processor.transform.transforms
    assert (resize.size, resize.antialias) == ([RECIPES[name].image_size] * 2, True)
    usual = MixedDistillation.configure_pre_processor().transform.transforms[-1]
    assert (list(normalize.mean), list(normalize.std)) == (list(usual.mean), list(usual.std))


@pytest.mark.parametrize("data", DATA, ids=lambda path: path.stem)
def test_data(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = train(tmp_path, MODELS[0], data, monkeypatch)
    assert cli.engine.trainer.global_step == 2
    home = "validation" if data.stem in WITH_VALIDATION else "train"
    assert f"/{home}/good/" in cli.datamodule.val_data.samples.image_path.iloc[0].replace("\\", "/")
    categories = getattr(cli.datamodule, "categories", ())
    assert sorted(cli.model.post_processor.table) == sorted(categories)  # a threshold for each


@pytest.mark.parametrize("name", CLASSES)
def test_the_users_preset_is_the_class(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ROOT / "configs" / "model" / f"{name}.yaml"
    cli = train(tmp_path, model, data_for(model), monkeypatch)
    assert dict(cli.model.hparams) == dict(CLASSES[name](**teacher(name)).hparams)


def test_the_file_that_trained_serves_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``check`` writes it; ``train``, ``test``, ``predict`` and an export in 8 bits, which needs images, read it."""
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path, Recipe("washer", image_size=64, train_images=20, test_good=1, per_defect=1))
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


def test_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's own runner trains ours beside its own, and writes a row for each."""
    monkeypatch.chdir(tmp_path)
    drawn = make_dataset(tmp_path, Recipe("washer", image_size=64, train_images=10, test_good=2, per_defect=1))
    shutil.copytree(drawn, tmp_path / "datasets" / "my_parts")
    create = timm.create_model
    torch.manual_seed(1)
    save_file(create("resnet18").state_dict(), tmp_path / "resnet18.safetensors")
    anomalibs = SimpleNamespace(create_model=lambda *a, **options: create(*a, **options | {"pretrained": False}))
    monkeypatch.setattr(pipeline, "redirect_logs", lambda _: None)  # it replaces the handlers of all loggers
    monkeypatch.setattr(feature_extractors, "timm", anomalibs)
    monkeypatch.setattr(pretrained, "_hub_file", lambda _: str(tmp_path / "resnet18.safetensors"))
    monkeypatch.setattr(Parts, "num_workers", property(lambda _: 0, lambda *_: None), raising=False)
    monkeypatch.setattr(engine, "Trainer", lambda **options: Trainer(**options | {"max_epochs": 1}))
    AnomalibCLI(["benchmark", f"--config={ROOT / 'configs' / 'benchmark' / 'parts.yaml'}"])
    (table,) = tmp_path.glob("runs/benchmark/*/results.csv")
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row["model.class_path"] for row in rows] == ["MixedDistillation", "Patchcore", "Padim"]
    assert all(0 <= float(row["image_AUROC"]) <= 1 and float(row["fit_duration"]) > 0 for row in rows)
