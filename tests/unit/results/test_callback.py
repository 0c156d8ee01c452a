# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The callback at its edges: several processes, unusual loaders, what it leaves untouched. Runs: integration tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import Folder
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Trainer
from torch import nn

from anomalib_mkd.data import MultiCategory, Parts
from anomalib_mkd.results import callback
from anomalib_mkd.results.callback import Results
from anomalib_mkd.results.predictions import Prediction, thresholds
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from pathlib import Path

if TYPE_CHECKING:
    from pathlib import Path


def test_predictions_of_all_processes_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler gives the last image twice if their number cannot be divided."""
    rows = [Prediction(f"{i}.png", i / 10, False, 0.5) for i in range(3)]
    shares = [rows[::2], [rows[1], rows[0]]]

    def gather(parts: list[Any], own: Any) -> None:
        assert own == shares[0]
        parts[:] = shares

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    joined = callback._of_all_processes(SimpleNamespace(world_size=2), shares[0])
    assert sorted(joined) == rows


def test_all_processes_write_to_the_folder_of_the_first(tmp_path: Path) -> None:
    own, first = tmp_path / "v1", tmp_path / "v0"
    own.mkdir()
    trainer = Trainer(accelerator="cpu", default_root_dir=own, logger=False)
    sent: list[str] = []
    trainer.strategy.broadcast = lambda folder: sent.append(folder) or str(first)
    callback._share_folder(trainer)
    assert (sent, trainer.default_root_dir) == ([], str(own))  # alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "world_size", 2)
        callback._share_folder(trainer)
    assert (sent, trainer.default_root_dir) == ([str(own)], str(first))
    assert not own.exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "from 16 of them"),
        ({"bolt": {}}, "from 16 of them"),
        ({"bolt": {"good_scores": [0.1]}}, "from 16 of them in the category of the highest"),
    ],
)
def test_the_rule_says_whose_parts_are_counted(table: dict[str, Any], said: str) -> None:
    assert callback._rule(SimpleNamespace(rule="from 16 of them", table=table)) == said
    assert callback._rule(None) == ""


@pytest.mark.parametrize("loader", [[], {"a": None}, SimpleNamespace(dataset=iter(()))])
def test_training_pictures_that_cannot_be_picked_are_left_out(loader: Any) -> None:
    module: Any = nn.Dropout()
    module.eval()
    module.post_processor = None
    trainer: Any = SimpleNamespace(
        train_dataloader=loader,
        callbacks=[],
        global_step=0,
        is_global_zero=True,
        default_root_dir="run",
        val_dataloaders=None,
    )
    results = Results()
    results.on_train_start(trainer, module)
    results.on_train_end(trainer, module)
    assert results.suspicious == []


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("mode", ["from_train", "synthetic", "from_test", "same_as_test", "none"])
def test_the_good_images_of_a_training_are_all_that_its_folder_has(tmp_path: Path, mode: str, *, several: bool) -> None:
    """Images of the test are none, wherever validation takes its own from; painted ones are what they were."""
    for name in ("bottle", "nut"):
        draw_category(tmp_path / name, train=10, good=4)
    folders = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/dent"}
    bottle = Folder("bottle", root=tmp_path / "bottle", val_split_mode=mode, num_workers=0, **folders)
    data = MultiCategory(datamodules=[bottle, Parts(tmp_path / "nut")]) if several else bottle
    data.prepare_data()
    data.setup()
    trainer = SimpleNamespace(train_dataloader=data.train_dataloader(), datamodule=data)
    assert callback._count_good(trainer, callback._good_datasets(trainer)) == (20 if several else 10)


def test_good_images_that_cannot_be_counted_are_unknown() -> None:
    trainer = SimpleNamespace(train_dataloader=[])
    assert callback._count_good(trainer, callback._good_datasets(trainer)) is None


def test_each_part_of_the_model_keeps_its_mode() -> None:
    module: Any = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    module.post_processor = None
    trainer: Any = SimpleNamespace(
        train_dataloader=[],
        callbacks=[],
        global_step=0,
        is_global_zero=True,
        default_root_dir="run",
        val_dataloaders=None,
    )
    results = Results()
    results.on_train_start(trainer, module)
    results.on_train_end(trainer, module)
    assert [part.training for part in (module[0], module[1])] == [True, False]


def test_thresholds_are_those_that_labels_come_from() -> None:
    post_processor = PostProcessor(image_sensitivity=0.7)
    assert thresholds(post_processor) == (None, None)
    post_processor._image_threshold.fill_(3.0)
    assert thresholds(post_processor) == (pytest.approx(0.3), 0.5)  # anomalib shares one that is missing
    post_processor.enable_threshold_matching = False
    assert thresholds(post_processor) == (pytest.approx(0.3), None)
    post_processor.enable_thresholding = False
    assert thresholds(post_processor) == thresholds(None) == (None, None)


def test_the_page_names_the_device_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(callback, "write_report", lambda _, run, *__: written.append(run))
    module: Any = nn.Linear(1, 1)  # on the CPU, as after a run
    module.hparams, module.post_processor = {}, None
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("mps")),
        world_size=1,
        is_global_zero=True,
        default_root_dir=tmp_path,
        callback_metrics={},
        ckpt_path=None,
        checkpoint_callback=None,
    )
    results = Results()
    results.predictions = [Prediction("parts/0.png", 0.1, False, 0.5)]
    results._write(trainer, module, "predict")
    assert written[0].machine.startswith("mps; ")
