# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a run leaves in its folder and on the terminal: table, report page, heat maps, counts."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import PredictDataset
from anomalib.models import Patchcore
from lightning.pytorch import Callback
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import MultiCategory, Parts
from anomalib_mkd.results import callback
from anomalib_mkd.results.callback import PAGE, SUSPECTS, TABLE, Results
from anomalib_mkd.results.heat_maps import STRIP
from anomalib_mkd.results.report.page import SUSPICIOUS, command_of
from anomalib_mkd.thresholds import SUSPECT
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anomalib.engine import Engine

PATCHCORE = (
    "ignore:.*configure_optimizers. returned .None.:UserWarning",
    "ignore:Argument embeddings is deprecated:DeprecationWarning",
)

pytestmark = [pytest.mark.filterwarnings(noise) for noise in (*NOISE, *PATCHCORE)]


def model(**arguments: Any) -> MixedDistillation:
    return MixedDistillation(weights="quickstart", training_steps=2, evaluator=False, **arguments)


def folder(engine: Engine) -> Path:
    return Path(engine.trainer.default_root_dir)


def table(engine: Engine) -> list[dict[str, str]]:
    with (folder(engine) / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A model after ``Engine.train``: a fit and a test."""
    root = tmp_path_factory.mktemp("trained")
    engine = make_engine(root)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        engine.train(model(), datamodule=make_data(root))
    return engine


def test_a_model_trained_without_metrics_is_tested_with_them(trained: Engine, tmp_path: Path) -> None:
    """A checkpoint says which parts its training lacked, and anomalib then takes them from a model that has them."""
    engine, whole = make_engine(tmp_path), MixedDistillation(weights="quickstart")
    (found,) = engine.test(whole, datamodule=trained.trainer.datamodule, ckpt_path=trained.best_model_path)  # type: ignore[attr-defined]
    assert 0 <= found["image_AUROC"] <= 1
    assert whole.evaluator is not None


def test_a_test_leaves_a_row_for_every_picture(trained: Engine) -> None:
    rows = table(trained)
    files = [Path(row["file"]) for row in rows]
    assert sorted(files) == sorted(Path(str(path)) for path in trained.trainer.datamodule.test_data.samples.image_path)  # type: ignore[attr-defined]
    assert all(path.is_file() for path in files)
    assert {row["threshold"] for row in rows} == {"0.5"}
    for row, path in zip(rows, files, strict=True):
        assert row["truth"] == ("good" if path.parent.name == "good" else "bad")
        assert row["label"] == ("bad" if float(row["score"]) > 0.5 else "good")
        assert row["kind"] == path.parent.name
        assert (row["x0"] != "") is (row["label"] == "bad")
        if row["x0"]:
            left, top, right, bottom = (int(row[edge]) for edge in ("x0", "y0", "x1", "y1"))
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64


def test_the_page_shows_the_test_and_the_training(trained: Engine) -> None:
    page = (folder(trained) / PAGE).read_text(encoding="utf-8")
    results = next(each for each in trained.trainer.callbacks if isinstance(each, Results))  # type: ignore[attr-defined]
    learnt = [Path(row.file) for row in results.training]
    assert len(set(learnt)) == 8  # six to learn from, and the two that set the threshold
    assert {path.parent.name for path in learnt} == {"good"}
    assert "MixedDistillation" in page
    assert Path(results.training[0].file).name in page
    distances = [distance for _, distance in results.suspicious]
    assert distances == sorted(distances, reverse=True)
    with (folder(trained) / SUSPECTS).open(encoding="utf-8") as file:
        listed = list(csv.DictReader(file))
    assert [row["file"] for row in listed] == [row.file for row in results.training]
    assert [float(row["distance"]) for row in listed] == pytest.approx(distances, abs=0.01)
    assert any("Only 8 good images" in text for text in results.advice)
    assert "Only 8 good images" in page


def test_a_test_keeps_the_report_of_the_training(tmp_path: Path) -> None:
    """Only that one shows the suspicious training images."""
    engine = make_engine(tmp_path)
    engine.train(model(), datamodule=make_data(tmp_path))
    where, checkpoint = folder(engine), engine.best_model_path
    written = {name: (where / name).read_text(encoding="utf-8") for name in (TABLE, PAGE)}
    for _ in range(2):
        make_engine(tmp_path).test(model(), datamodule=make_data(tmp_path), ckpt_path=checkpoint)
        assert {name: (where / f"train_{name}").read_text(encoding="utf-8") for name in written} == written
        assert command_of(where / PAGE) == "test"


def test_so_does_one_of_the_same_model(tmp_path: Path) -> None:
    engine, trained, data = make_engine(tmp_path), model(), make_data(tmp_path)
    engine.train(trained, datamodule=data)
    page = (folder(engine) / PAGE).read_text(encoding="utf-8")
    engine.test(trained, datamodule=data)
    assert command_of(folder(engine) / PAGE) == "test"
    assert (folder(engine) / f"train_{PAGE}").read_text(encoding="utf-8") == page


def test_the_time_of_a_resumed_training_is_not_called_that_of_the_whole(tmp_path: Path) -> None:
    engine, data = make_engine(tmp_path), make_data(tmp_path)
    engine.train(model(), datamodule=data)
    assert "<dt>Training</dt>" in (folder(engine) / PAGE).read_text(encoding="utf-8")
    longer, again = MixedDistillation(weights="quickstart", training_steps=4, evaluator=False), make_engine(tmp_path)
    again.fit(longer, datamodule=data, ckpt_path=engine.best_model_path)
    assert (folder(again) / SUSPECTS).is_file()  # which its log names; a test may never come
    again.test(longer, datamodule=data)
    assert f"<dt>Training since step {engine.trainer.global_step}</dt>" in (folder(again) / PAGE).read_text(
        encoding="utf-8"
    )


class Failing(Callback):
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        del trainer, pl_module
        raise RuntimeError


def test_latest_is_not_a_training_that_failed(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.fit(model(), datamodule=make_data(tmp_path))
    latest = folder(engine).parent / "latest"
    before = latest.resolve()
    engine = make_engine(tmp_path, callbacks=[Failing()])
    with pytest.raises(RuntimeError):
        engine.fit(model(), datamodule=make_data(tmp_path))
    assert folder(engine).resolve() != before
    assert latest.resolve() == before


def test_pictures_are_captioned(trained: Engine) -> None:
    paths = list((folder(trained) / "images").rglob("*.png"))
    assert len(paths) == 5
    for path in paths:
        with Image.open(path) as picture:
            assert picture.size == (4 * 256, 256 + STRIP)


def test_the_training_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    weights = []
    for report in (True, False):
        torch.manual_seed(0)
        made = model(visualizer=report)
        make_engine(tmp_path / str(report)).fit(made, datamodule=make_data(tmp_path))
        weights.append(made.state_dict())
    assert all(torch.equal(values, weights[1][name]) for name, values in weights[0].items())


def test_a_prediction_is_listed_on_the_terminal(trained: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = Path(str(trained.trainer.datamodule.root)) / "metal" / "test" / "dent"  # type: ignore[attr-defined]
    engine = make_engine(Path(trained.trainer.default_root_dir).parent / "predicted")
    engine.predict(model(), dataset=PredictDataset(pictures), ckpt_path=trained.best_model_path)
    (row,) = table(engine)
    assert (row["truth"], row["kind"], Path(row["file"]).name) == ("", "", "000.png")
    printed = capsys.readouterr().out
    assert "000.png" in printed
    assert f"{float(row['score']):.3f}" in printed
    assert "of 1 parts called bad" in printed
    assert "dent" in (folder(engine) / PAGE).read_text(encoding="utf-8")


def test_very_many_predictions_are_written_but_not_kept(
    trained: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callback, "MOST_RETURNED", 1)
    pictures = Path(str(trained.trainer.datamodule.root)) / "metal" / "test" / "good"  # type: ignore[attr-defined]
    engine = make_engine(Path(trained.trainer.default_root_dir).parent / "many")
    assert engine.predict(model(), dataset=PredictDataset(pictures), ckpt_path=trained.best_model_path) is None
    assert len(table(engine)) == 2
    assert "Predictions of 2 images, more than 1, are not returned" in caplog.text


def test_without_validation_learnt_pictures_set_the_threshold(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.train(model(), datamodule=make_data(tmp_path))
    assert {row["threshold"] for row in table(engine)} == {"0.5"}
    assert len(engine.trainer.lightning_module.post_processor.good_scores) == 7  # one of eight is held out


def test_without_a_threshold_nothing_is_called_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.train(model(false_alarms=None), datamodule=make_data(tmp_path))
    assert {(row["label"], row["threshold"]) for row in table(engine)} == {("", "")}
    assert "No threshold" in capsys.readouterr().out


def test_without_a_visualizer_there_is_a_table_only(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.train(model(visualizer=False), datamodule=make_data(tmp_path))
    assert (folder(engine) / TABLE).is_file()
    assert not (folder(engine) / PAGE).exists()
    assert not (folder(engine) / "images").exists()


def test_several_categories_are_kept_apart(tmp_path: Path) -> None:
    single = make_data(tmp_path)
    single.prepare_data()
    shutil.copytree(tmp_path / "metal", tmp_path / "alloy")
    engine = make_engine(tmp_path)
    data = MultiCategory(categories=["metal", "alloy"], root=tmp_path, train_batch_size=4, num_workers=0)
    engine.train(model(), datamodule=data)
    assert {row["category"] for row in table(engine)} == {"metal", "alloy"}
    results = next(each for each in engine.trainer.callbacks if isinstance(each, Results))  # type: ignore[attr-defined]
    assert {row.category for row in results.training} == {"metal", "alloy"}


def test_every_category_has_the_names_of_its_own_data(tmp_path: Path) -> None:
    """Below a folder called "test", with equal names in two lots."""
    make_data(tmp_path).prepare_data()
    home = tmp_path / "test" / "lot" / "metal"
    for lot, defect in (("lot1", "dent"), ("lot2", "scratch")):
        shutil.copytree(tmp_path / "metal" / "test" / defect, home / lot / "bad")
    shutil.copytree(tmp_path / "metal" / "train" / "good", home / "good")
    engine, folders = make_engine(tmp_path), {"normal_dir": "good", "abnormal_dir": ["lot1/bad", "lot2/bad"]}
    options: dict[str, Any] = {"val_split_mode": "from_train", "train_batch_size": 4, "num_workers": 0}
    data = MultiCategory("Folder", ["metal"], home.parent, options=folders, **options)
    engine.train(model(), datamodule=data)
    assert {row["kind"] for row in table(engine)} == {"good", "bad"}
    results = next(each for each in engine.trainer.callbacks if isinstance(each, Results))  # type: ignore[attr-defined]
    assert {row.kind for row in results.training} == {"good"}
    images = folder(engine) / "images"
    maps = {path.relative_to(images) for path in images.rglob("*.*")}
    assert len(maps) == len(table(engine))
    assert {path.parent.as_posix() for path in maps} == {"metal/good", "metal/lot1/bad", "metal/lot2/bad"}


def test_a_model_of_anomalib_is_reported_too(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, callbacks=[Results()], max_epochs=1)
    untrained: dict[str, Any] = {"pre_trained": False, "pre_processor": Patchcore.configure_pre_processor((64, 64))}
    patchcore = Patchcore("resnet18", ["layer1"], num_neighbors=1, evaluator=False, visualizer=False, **untrained)
    engine.train(patchcore, datamodule=make_data(tmp_path))
    assert len(table(engine)) == 5
    assert all(0 <= float(row["score"]) <= 1 for row in table(engine))  # behind the post-processor
    assert {row["label"] for row in table(engine)} <= {"good", "bad"}
    assert "Patchcore" in (folder(engine) / PAGE).read_text(encoding="utf-8")


def test_a_model_of_anomalib_after_one_of_ours_is_tested_as_if_alone(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    untrained: dict[str, Any] = {"pre_trained": False, "pre_processor": Patchcore.configure_pre_processor((64, 64))}
    patchcore = Patchcore("resnet18", ["layer1"], num_neighbors=1, visualizer=False, **untrained)
    alone = make_engine(tmp_path / "alone")
    alone.fit(patchcore, datamodule=data)
    engine = make_engine(tmp_path / "both")
    ours = model()
    engine.test(ours, datamodule=data)
    assert engine.test(patchcore, datamodule=data) == alone.test(patchcore, datamodule=data)
    assert not {ours.pre_processor, ours.post_processor, ours.visualizer} & {*engine.trainer.callbacks}  # type: ignore[attr-defined]


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Images without a number of them."""

    def __init__(self, files: PredictDataset) -> None:
        self.files = files

    def __iter__(self) -> Iterator[Any]:
        return map(self.files.__getitem__, range(len(self.files)))


def test_a_stream_of_pictures_is_predicted(tmp_path: Path) -> None:
    make_data(tmp_path).prepare_data()
    files = PredictDataset(path=tmp_path / "metal" / "test" / "good")
    loader = DataLoader(Stream(files), batch_size=2, collate_fn=files.collate_fn)
    engine = make_engine(tmp_path)
    engine.predict(model(), dataloaders=loader)
    assert len(table(engine)) == 2


@pytest.mark.slow
@pytest.mark.real
def test_defects_among_real_training_pictures_are_the_most_suspicious(
    shared: Callable[[str], Path],
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    """One pass over 209 bottles and three defects; seeds 1 to 3 gave the same."""
    parts = tmp_path / "bottle"
    shutil.copytree(shared("data/mvtec/bottle"), parts)
    shutil.rmtree(parts / "ground_truth")
    for kind in ("broken_large", "broken_small", "contamination"):
        shutil.move(parts / "test" / kind / "000.jpg", parts / "train" / "good" / f"{kind}.jpg")
    engine = make_engine(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MixedDistillation(weights="quickstart", training_steps=26, evaluator=False)
        engine.fit(module, datamodule=Parts(parts, num_workers=0))
    results = next(each for each in engine.trainer.callbacks if isinstance(each, Results))  # type: ignore[attr-defined]
    slipped = {"broken_large", "broken_small", "contamination"}
    names = [Path(row.file).stem for row in results.training]
    assert len(names) == 212
    assert set(names[:2]) < slipped  # those that the model learnt; the third helps to set the threshold
    assert slipped <= set(names[:SUSPICIOUS])
    assert results.suspicious[1][1] > SUSPECT
