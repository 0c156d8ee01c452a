# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One model on several categories through anomalib's engine: our model, and anomalib's own."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch
import yaml
from anomalib.data import AnomalibDataModule, Folder
from anomalib.deploy import CompressionType, ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC, Evaluator
from anomalib.models import Patchcore, Stfpm
from anomalib.models.components.feature_extractors import timm as feature_extractors
from anomalib.pipelines.benchmark.job import BenchmarkJob
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from lightning.pytorch.loggers import CSVLogger
from sklearn.metrics import roc_auc_score
from torchvision.transforms.v2 import Resize

from anomalib_mkd import Dcam, MixedDistillation, Mkd
from anomalib_mkd.data import CategoryPostProcessor, MultiCategory, Parts, parts
from anomalib_mkd.deploy import Inferencer
from anomalib_mkd.deploy.graph import core
from anomalib_mkd.deploy.metadata import read
from anomalib_mkd.thresholds import Scale
from tests.category_folders import draw_category
from tests.life import make_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomalib.models.components import AnomalibModule

REPOSITORY = Path(__file__).parents[2]
METRICS = ("image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score")
SHARED = Path(os.environ.get("ANOMALIB_MKD_SHARED") or REPOSITORY.parent / "shared")
NOISE = (
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
    "ignore:Found .* in eval mode at the start of training:UserWarning",
    "ignore:The dirpath has changed:UserWarning",
    "ignore:You called .self.log.'train_loss'.*no logger:UserWarning",
    "ignore:'pin_memory' argument is set as true:UserWarning",  # of anomalib's predict
    "ignore:Trying to infer the `batch_size` from an ambiguous collection:UserWarning",  # in Stfpm
    "ignore:Argument embeddings is deprecated:DeprecationWarning",  # of Patchcore, by Patchcore
    "ignore:.*returned `None` from `training_step`:UserWarning",
    "ignore:`training_step` returned `None`:UserWarning",
    "ignore:`LightningModule.configure_optimizers` returned `None`:UserWarning",
)

pytestmark = [pytest.mark.filterwarnings(noise) for noise in NOISE]


def small() -> PreProcessor:
    return PreProcessor(Resize((64, 64), antialias=True))


def mkd(**parts: Any) -> Mkd:
    return Mkd(weights="quickstart", training_steps=4, pre_processor=small(), **parts)


def dcam(**parts: Any) -> Dcam:
    return Dcam(weights="quickstart", student_width=0.25, training_steps=4, pre_processor=small(), **parts)


def mixed_distillation(**parts: Any) -> MixedDistillation:
    quick = {"weights": "quickstart", "student_width": 0.25, "training_steps": 4}
    return MixedDistillation(**quick, pre_processor=small(), **parts)


def patchcore(**parts: Any) -> Patchcore:
    return Patchcore("resnet18", ["layer1"], pre_trained=False, pre_processor=small(), num_neighbors=1, **parts)


def stfpm(**parts: Any) -> Stfpm:
    """Without the download of the teacher's weights, for which anomalib has no switch."""
    create = feature_extractors.timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_extractors.timm, "create_model", lambda *a, **k: create(*a, **{**k, "pretrained": False}))
        return Stfpm(pre_processor=small(), **parts)


def engine(folder: Path, **arguments: Any) -> Engine:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Engine(default_root_dir=folder, accelerator="cpu", devices=1, max_epochs=1, **{**quiet, **arguments})


def multi(root: Path, **arguments: Any) -> MultiCategory:
    """Two categories of different size, format and number of images."""
    small = {"train_batch_size": 3, "eval_batch_size": 3, "num_workers": 0}
    return MultiCategory(**{"categories": ["bolt", "nut"], "root": root, **small, **arguments})


def single(root: Path, category: str) -> Parts:
    return Parts(root, category, train_batch_size=3, eval_batch_size=3, num_workers=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("categories")
    draw_category(folder / "bolt", train=10, defects={"dent": 2, "stain": 1})
    draw_category(folder / "nut", suffix=".png", size=48, mode="L")
    return folder


def callback_names(engine: Engine) -> list[str]:
    return [type(callback).__name__ for callback in engine.trainer.callbacks]


def alone_on(model: AnomalibModule, root: Path, category: str, folder: Path) -> dict[str, float]:
    """What a model scores on one category: F1 by anomalib, AUROC by scikit-learn on raw scores and maps."""
    data = single(root, category)
    (results,) = engine(folder).test(model, datamodule=data, verbose=False)
    model.eval()
    scores, labels, maps, masks = [], [], [], []
    for batch in data.test_dataloader():
        images, truth = model.pre_processor.transform(batch.image, batch.gt_mask)
        with torch.no_grad():
            predictions = model.model(images)
        scores += predictions.pred_score.flatten().tolist()
        labels += batch.gt_label.tolist()
        maps += predictions.anomaly_map.flatten().tolist()
        masks += truth.flatten().tolist()
    return {**results, "image_AUROC": roc_auc_score(labels, scores), "pixel_AUROC": roc_auc_score(masks, maps)}


# ------------------------------------------------------------------------------------------------------ every model


@pytest.mark.parametrize("build", [dcam, mixed_distillation, mkd, patchcore, stfpm])
def test_results_per_category_and_their_mean(
    build: Callable[[], AnomalibModule], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, run = build(), engine(tmp_path)
    (results,) = run.train(model, datamodule=multi(root, thresholds="global"))
    assert set(results) == {*METRICS, *(f"{name}/{category}" for name in METRICS for category in ("bolt", "nut"))}
    for name in METRICS:
        assert results[name] == pytest.approx((results[f"{name}/bolt"] + results[f"{name}/nut"]) / 2)
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    for row in ("bolt", "nut", "mean"):
        suffix = "" if row == "mean" else f"/{row}"
        assert [row, *(f"{results[name + suffix]:.4f}" for name in METRICS)] in rows
    for category in ("bolt", "nut"):
        alone = alone_on(model, root, category, tmp_path)
        for name in METRICS:
            assert alone[name] == pytest.approx(results[f"{name}/{category}"], abs=1e-6), (category, name)


def test_a_logger_gets_results_per_category(root: Path, tmp_path: Path) -> None:
    run = engine(tmp_path, logger=CSVLogger(tmp_path / "log"), log_every_n_steps=1)
    (results,) = run.train(patchcore(visualizer=False), datamodule=multi(root))
    (file,) = tmp_path.rglob("metrics.csv")
    logged = pd.read_csv(file).iloc[-1]
    assert {name: logged[name] for name in results} == pytest.approx(results)


def test_heat_maps_lie_in_a_folder_per_category(root: Path, tmp_path: Path) -> None:
    run = engine(tmp_path)
    run.train(patchcore(), datamodule=multi(root))
    images = tmp_path / "Patchcore" / "MultiCategory" / "v0" / "images"
    found = sorted(str(path.relative_to(images)) for path in images.rglob("*.*"))
    assert found == [
        *("bolt/dent/000.jpg", "bolt/dent/001.jpg", "bolt/good/000.jpg", "bolt/good/001.jpg", "bolt/stain/000.jpg"),
        *("nut/dent/000.png", "nut/dent/001.png", "nut/good/000.png", "nut/good/001.png"),
    ]


def test_the_trainer_gets_the_models_callbacks_back(root: Path, tmp_path: Path) -> None:
    """So the same engine can go on with data that knows no categories, and the other way round."""
    model, run = patchcore(visualizer=False), engine(tmp_path)
    run.fit(model, datamodule=multi(root))
    assert "Evaluator" in callback_names(run)
    assert "CategoryEvaluator" not in callback_names(run)
    (alone,) = run.test(model, datamodule=single(root, "bolt"))
    assert set(alone) == set(METRICS)
    (both,) = run.test(model, datamodule=multi(root))
    assert both["image_F1Score/bolt"] == pytest.approx(alone["image_F1Score"])
    (alone_again,) = run.test(model, datamodule=single(root, "nut"))
    assert set(alone_again) == set(METRICS)


def test_also_after_an_error(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        msg = "no test today"
        raise RuntimeError(msg)

    model, run = patchcore(), engine(tmp_path)
    monkeypatch.setattr(model, "test_step", fail)
    with pytest.raises(RuntimeError, match="no test today"):
        run.train(model, datamodule=multi(root))
    assert callback_names(run).count("Evaluator") == callback_names(run).count("ImageVisualizer") == 1
    assert not [name for name in callback_names(run) if name.startswith("Category")]


def test_the_users_own_metrics(root: Path, tmp_path: Path) -> None:
    """While training too; and a checkpoint that does not name its training data."""
    evaluator = Evaluator(
        val_metrics=[AUROC(fields=["pred_score", "gt_label"], prefix="image_")],
        test_metrics=[AUPRO(fields=["anomaly_map", "gt_mask"])],
    )
    model, run = mkd(evaluator=evaluator, visualizer=False), engine(tmp_path)
    plain = list(mkd(evaluator=evaluator).state_dict())
    run.fit(model, datamodule=multi(root, val_split_mode="same_as_test"))
    logged = run.trainer.callback_metrics
    assert logged["image_AUROC"] == (logged["image_AUROC/bolt"] + logged["image_AUROC/nut"]) / 2
    assert list(torch.load(run.best_model_path, weights_only=True)["state_dict"]) == plain
    (results,) = run.test(model, datamodule=multi(root))
    assert set(results) == {"AUPRO", "AUPRO/bolt", "AUPRO/nut"}


def test_without_evaluator_and_visualizer(root: Path, tmp_path: Path) -> None:
    model, run = mkd(evaluator=False, visualizer=False, post_processor=False), engine(tmp_path)
    assert run.train(model, datamodule=multi(root, balanced=True)) == [{}]
    assert not list(tmp_path.rglob("images"))


def test_anomalibs_benchmark(root: Path) -> None:
    """Its job hands the datamodule over as if it were a loader."""
    job = BenchmarkJob("cpu", patchcore(visualizer=False), multi(root), seed=0, flat_cfg={"data": "MultiCategory"})
    results = job.run()
    assert {"image_AUROC", "image_AUROC/bolt", "image_AUROC/nut", "data", "fit_duration"} <= set(results)


def test_the_model_sees_no_category(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    model, run = mkd(visualizer=False), engine(tmp_path)
    step = model.training_step

    def watched_step(batch: Any, *arguments: Any, **named: Any) -> Any:
        seen.append(batch)
        assert model._cache is not None  # the images are known to be fixed, whatever their category
        return step(batch, *arguments, **named)

    monkeypatch.setattr(model, "training_step", watched_step)
    run.fit(model, datamodule=multi(root))
    assert sum(len(batch) for batch in seen) == 12
    for batch in seen:
        known = {name: value for name, value in vars(batch).items() if value is not None and name != "image_path"}
        assert not [name for name, value in known.items() if "bolt" in str(value) or "nut" in str(value)]


# ------------------------------------------------------------------------------------------- thresholds per category


@pytest.mark.parametrize("build", [mkd, patchcore])
def test_thresholds_per_category_as_if_trained_alone(
    build: Callable[..., AnomalibModule], root: Path, tmp_path: Path
) -> None:
    rule = {"false_alarms": None} if build is mkd else {}  # anomalib's, which needs no learnt images
    model, run = build(visualizer=False, **rule), engine(tmp_path)
    own = functools.partial(type(model.post_processor), **rule)
    data = multi(root, thresholds="category")
    (trained,) = run.train(model, datamodule=data)
    assert set(model.post_processor.table) == {"bolt", "nut"}
    whole = own()
    whole.load_state_dict(model.post_processor.state_dict())
    for category in ("bolt", "nut"):  # the model's own post-processor, after a validation on this category alone
        model.post_processor = own()
        engine(tmp_path).validate(model, datamodule=single(root, category), verbose=False)
        alone = alone_on(model, root, category, tmp_path)
        for name in METRICS:
            assert alone[name] == pytest.approx(trained[f"{name}/{category}"], abs=1e-6), (category, name)

    # the same from the checkpoint, in a new model and a new engine
    (loaded,) = engine(tmp_path / "loaded").test(
        build(visualizer=False, **rule), datamodule=multi(root, thresholds="category"), ckpt_path=run.best_model_path
    )
    assert loaded == pytest.approx(trained)
    # and without categories the global thresholds hold
    other = build(visualizer=False, **rule)
    engine(tmp_path / "global").test(other, datamodule=multi(root), ckpt_path=run.best_model_path)
    assert type(other.post_processor) is own.func
    for name, value in whole.state_dict().items():
        assert torch.equal(other.post_processor.state_dict()[name], value)


def test_a_small_category_beside_a_large_one_has_its_own_thresholds(tmp_path: Path) -> None:
    draw_category(tmp_path / "data" / "large", train=200)
    draw_category(tmp_path / "data" / "small", train=8)
    model = mixed_distillation(evaluator=False, visualizer=False)
    data = multi(tmp_path / "data", categories=["large", "small"], train_batch_size=16)
    engine(tmp_path, max_steps=2).fit(model, datamodule=data)
    assert {name: len(row["good_scores"]) for name, row in model.post_processor.table.items()} == {
        "large": 72,
        "small": 8,
    }


def test_settings_that_change_scores_keep_no_thresholds_of_categories(root: Path, tmp_path: Path) -> None:
    model, run = mixed_distillation(evaluator=False, visualizer=False), engine(tmp_path)
    run.fit(model, datamodule=multi(root))
    assert {*model.post_processor.table} == {"bolt", "nut"}
    loaded = MixedDistillation.load_from_checkpoint(run.best_model_path, score_share=0.1)
    assert loaded.post_processor.table == {}


def test_global_thresholds_by_default(root: Path, tmp_path: Path) -> None:
    model, run = patchcore(visualizer=False), engine(tmp_path)
    run.fit(model, datamodule=multi(root))
    assert type(model.post_processor) is PostProcessor
    with_table, again = engine(tmp_path / "table"), engine(tmp_path / "again")
    with_table.validate(model, datamodule=multi(root, thresholds="category"), verbose=False)
    assert type(model.post_processor) is CategoryPostProcessor
    (once,) = run.test(model, datamodule=multi(root))  # the data decide, also about a model that has a table
    model.post_processor.table = {"bolt": dict.fromkeys(next(iter(model.post_processor.table.values())), 0.0)}
    (twice,) = again.test(model, datamodule=multi(root))
    assert once == twice


def test_thresholds_need_a_post_processor(root: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"thresholds='category', got NoneType\. Set thresholds='global'"):
        engine(tmp_path).fit(mkd(post_processor=False), datamodule=multi(root, thresholds="category"))


# ------------------------------------------------------------------------------------------------ predict and export


@pytest.mark.parametrize("thresholds", ["global", "category"])
def test_predict(root: Path, tmp_path: Path, thresholds: str) -> None:
    model, run = patchcore(), engine(tmp_path)
    data = multi(root, thresholds=thresholds)
    run.fit(model, datamodule=data)
    batches = run.predict(model, datamodule=data)
    assert [len(batch) for batch in batches] == [3, 2, 3, 1]
    assert [{*data.categories_of(batch)} for batch in batches] == [{"bolt"}, {"bolt"}, {"nut"}, {"nut"}]
    (known,) = (batch for batch in batches if batch.image_path[0].endswith("nut/test/good/001.png"))
    (unknown,) = run.predict(model, data_path=root / "nut" / "test" / "good" / "001.png")
    copy = tmp_path / "elsewhere" / "001.png"
    copy.parent.mkdir()
    copy.write_bytes((root / "nut" / "test" / "good" / "001.png").read_bytes())
    (foreign,) = run.predict(model, data_path=copy)
    assert torch.equal(unknown.anomaly_map, known.anomaly_map)
    assert torch.equal(foreign.anomaly_map, known.anomaly_map) == (thresholds == "global")
    assert list(tmp_path.rglob("images/nut/good/001.png"))
    assert list(tmp_path.rglob("images/elsewhere/001.png"))


@pytest.mark.filterwarnings("ignore:.max_epochs. was not set:UserWarning")
def test_training_steps_count_for_each_category(root: Path, tmp_path: Path) -> None:
    data, alone = multi(root), single(root, "bolt")
    for datamodule, epochs in ((data, 2), (alone, 1)):
        datamodule.setup("fit")
        model = mkd()
        model.hparams["training_steps"] = len(datamodule.train_dataloader())
        runner = make_engine(tmp_path)
        runner.fit(model, datamodule=datamodule)
        assert runner.trainer.current_epoch == epochs


@pytest.mark.slow
def test_exports_have_the_thresholds_of_all_and_of_each_category(root: Path, tmp_path: Path) -> None:
    model, run = mixed_distillation(visualizer=False), engine(tmp_path)
    data = multi(root)
    own = type(model.post_processor)
    run.fit(model, datamodule=data)
    assert {*model.post_processor.table} == {"bolt", "nut"}
    plain = mixed_distillation(visualizer=False)
    plain.load_state_dict(model.state_dict())
    assert type(plain.post_processor) is own
    data.setup()
    images = next(iter(data.test_dataloader())).image
    for each in (model, plain):
        each.eval()
    for ours, theirs in zip(model(images), plain(images), strict=True):
        assert torch.equal(ours, theirs)
    assert type(MixedDistillation.load_from_checkpoint(run.best_model_path).post_processor) is own
    path = run.export(model, ExportType.OPENVINO, export_root=tmp_path / "export")
    prediction = OpenVINOInferencer(path, "CPU").predict(images[0].permute(1, 2, 0).numpy())
    assert prediction.pred_score.item() == pytest.approx(plain(images).pred_score[0].item(), abs=1e-3)

    # from a checkpoint, without the data; each category as the test has it
    loaded = MixedDistillation.load_from_checkpoint(run.best_model_path)
    path = engine(tmp_path).export(loaded, ExportType.OPENVINO, export_root=tmp_path / "loaded")
    tested = {
        Path(file): (score.item(), bool(label))
        for batch in run.predict(model, datamodule=data)
        for file, score, label in zip(batch.image_path, batch.pred_score, batch.pred_label, strict=True)
    }
    for category in ("bolt", "nut"):
        inferencer = Inferencer(path, category=category)
        for file in (file for file in tested if file.parents[2].name == category):
            found = inferencer.predict(file)
            assert (found.score, found.bad) == (pytest.approx(tested[file][0], abs=1e-3), tested[file][1])

    # in 8 bits each category has a threshold of its own again
    path = engine(tmp_path).export(
        loaded,
        ExportType.OPENVINO,
        export_root=tmp_path / "int8",
        compression_type=CompressionType.INT8_PTQ,
        datamodule=multi(root),
    )
    in_8_bits = read(path).categories
    assert set(in_8_bits) == {"bolt", "nut"}
    for category, own in in_8_bits.items():
        before = model.post_processor.table[category]["image_threshold"]
        assert own.image.threshold == pytest.approx(before, rel=0.3)
        assert own.image.threshold != before


@pytest.mark.slow
@pytest.mark.parametrize("input_size", [None, (64, 64)])
def test_8_bits_are_calibrated_on_all_categories(
    tmp_path: Path, input_size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose photos have different sizes, and none of which is the model's."""
    draw_category(tmp_path / "data" / "bolt", size=96)
    draw_category(tmp_path / "data" / "nut", size=48)
    read: list[Path] = []
    original = parts.image_of
    monkeypatch.setattr(parts, "image_of", lambda path: read.append(Path(path)) or original(path))
    model = dcam(evaluator=False, visualizer=False)
    path = engine(tmp_path).export(
        model,
        ExportType.OPENVINO,
        export_root=tmp_path / "export",
        input_size=input_size,
        compression_type=CompressionType.INT8_PTQ,
        datamodule=multi(tmp_path / "data"),
    )
    assert {image.parents[2].name for image in read} == {"bolt", "nut"}
    assert all(image.parent == image.parents[2] / "train" / "good" for image in read)
    assert "FakeQuantize" in {each.get_type_name() for each in core().read_model(path).get_ops()}


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_8_bits_compare_the_same_good_parts_where_the_split_has_no_seed(
    root: Path, tmp_path: Path, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: dict[str, Any] = {"normal_dir": "train/good", "abnormal_dir": "test/dent"}
    split: dict[str, Any] = {"val_split_mode": "from_train", "val_split_ratio": 0.4}
    data: AnomalibDataModule = Folder("bolt", root=root / "bolt", num_workers=0, **kind, **split)
    if several:
        data = MultiCategory("Folder", ["bolt", "nut"], root=root, options=kind, **split)
    model = mixed_distillation(evaluator=False, visualizer=False)
    model.post_processor.set_scales(Scale(1, 1), Scale(1, 1))
    read: list[str] = []
    inputs = model.raw_inputs
    monkeypatch.setattr(model, "raw_inputs", lambda item: read.append(str(item.image_path)) or inputs(item))
    model.to_openvino(tmp_path, compression_type=CompressionType.INT8, datamodule=data)
    before, after = read[: len(read) // 2], read[len(read) // 2 :]
    assert before == after
    assert len(before) == len(data.train_data) + len(data.val_data)


# ------------------------------------------------------------------------------------------ categories that lack things


def test_what_is_not_defined_is_left_out_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    whole, maskless, only_good, only_bad = (tmp_path / name for name in ("whole", "maskless", "only_good", "only_bad"))
    draw_category(whole)
    draw_category(maskless, mask=None)
    draw_category(only_good, defects={})
    draw_category(only_bad)
    categories = ["whole", "maskless", "only_good"]
    data = MultiCategory(
        datamodules=[
            *(single(tmp_path, name) for name in categories),
            Parts(tmp_path, "only_bad", test_split_mode="none", num_workers=0),
        ],
        train_batch_size=4,
        eval_batch_size=8,
        num_workers=0,
    )
    model, run = patchcore(), engine(tmp_path / "results")
    with caplog.at_level(logging.WARNING, logger="anomalib_mkd"):
        (results,) = run.train(model, datamodule=data)
    assert "image_AUROC/only_good" not in results
    assert "image_AUROC/only_bad" not in results
    assert results["image_AUROC"] == (results["image_AUROC/whole"] + results["image_AUROC/maskless"]) / 2
    assert set(results) >= {"pixel_AUROC/whole", "pixel_AUROC/only_bad"}  # normal pixels are enough
    assert results["pixel_AUROC"] == pytest.approx((results["pixel_AUROC/whole"] + results["pixel_AUROC/only_bad"]) / 2)
    assert not {"pixel_AUROC/maskless", "pixel_AUROC/only_good", "pixel_F1Score/maskless"} & set(results)
    messages = [record.getMessage() for record in caplog.records if "Left out of the mean" in record.getMessage()]
    assert [message.split(" of ")[-1].split(",")[0] for message in messages] == ["maskless", "only_good", "only_bad"]
    assert "pixel_AUROC, pixel_F1Score of maskless" in messages[0]
    assert len(list((tmp_path / "results").rglob("images/*/*/*.jpg"))) == 4 + 4 + 2 + 2
    assert not [warning for warning in recwarn if "No positive samples" in str(warning.message)]


def test_a_part_of_the_test_set(root: Path, tmp_path: Path) -> None:
    """One batch, of the first category."""
    (results,) = engine(tmp_path, limit_test_batches=1).train(patchcore(visualizer=False), datamodule=multi(root))
    assert not [key for key in results if "nut" in key]
    assert results.get("pixel_AUROC/bolt") == results.get("pixel_AUROC")


# ------------------------------------------------------------------------------------------- configuration files, CLI


def test_the_configuration_file(root: Path, tmp_path: Path) -> None:
    path = REPOSITORY / "configs" / "data" / "multi_category.yaml"
    draw_category(tmp_path / "bottle")
    draw_category(tmp_path / "screw")
    section = tmp_path / "data.yaml"  # `--config` has a section for each of data, model and trainer
    section.write_text(yaml.safe_dump(yaml.safe_load(path.read_text(encoding="utf-8"))["data"]), encoding="utf-8")
    data = AnomalibDataModule.from_config(section, **{"data.root": tmp_path, "data.num_workers": 0})
    assert isinstance(data, MultiCategory)
    assert data.categories == ["bottle", "screw"]
    data.setup()
    assert len(data.train_data) == 8
    listed = tmp_path / "list.yaml"
    listed.write_text(
        f"""
class_path: anomalib_mkd.data.MultiCategory
init_args:
  thresholds: category
  datamodules:
    - class_path: anomalib_mkd.data.Parts
      init_args: {{root: {root}, category: bolt}}
    - class_path: anomalib.data.Folder
      init_args: {{name: own, root: {root / "nut"}, normal_dir: train/good, abnormal_dir: test/dent}}
""",
        encoding="utf-8",
    )
    data = AnomalibDataModule.from_config(listed)
    assert data.categories == ["bolt", "own"]
    assert data.thresholds == "category"


def command(folder: Path, *words: str) -> str:
    """Run the command line in a process that imports nothing of ours by hand, and give what it prints."""
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "anomalib_mkd", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_command_line(root: Path, tmp_path: Path) -> None:
    """``anomalib train --data MultiCategory``."""
    arguments = {
        "model": "Mkd",
        "model.weights": "quickstart",
        "data": "MultiCategory",
        "data.datamodule": "Parts",
        "data.categories": "[bolt, nut]",
        "data.root": str(root),
        "data.options.val_split_ratio": "0.4",
        "data.thresholds": "category",
        "data.num_workers": "0",
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": "1",
    }
    printed = command(tmp_path, "train", *(f"--{name}={value}" for name, value in arguments.items()))
    assert "image_AUROC/bolt" in printed
    assert "Test results per category" in printed
    (saved,) = (tmp_path / "results").rglob("config.yaml")
    assert "class_path: anomalib_mkd.data.MultiCategory" in saved.read_text(encoding="utf-8")
    assert len(list((tmp_path / "results").rglob("images/bolt/*/*.jpg"))) == 5


@pytest.mark.slow
def test_the_benchmark_command(root: Path, tmp_path: Path) -> None:
    """``anomalib benchmark`` with a grid: one row per model, with results per category."""
    (tmp_path / "benchmark.yaml").write_text(
        f"""
accelerator: [cpu]
benchmark:
  seed: 0
  model:
    class_path: Dcam
    init_args: {{weights: quickstart, training_steps: 2, attention: {{grid: [channel, none]}}}}
  data:
    class_path: MultiCategory
    init_args: {{root: {root}, categories: [bolt, nut], num_workers: 0}}
""",
        encoding="utf-8",
    )
    command(tmp_path, "benchmark", "--config", "benchmark.yaml")
    (file,) = tmp_path.rglob("results.csv")
    rows = pd.read_csv(file, keep_default_na=False)
    assert list(rows["model.init_args.attention"]) == ["channel", "none"]
    for name in METRICS:
        assert list(rows[name]) == pytest.approx(list((rows[f"{name}/bolt"] + rows[f"{name}/nut"]) / 2))


# ------------------------------------------------------------------------------------------------------ real images


@pytest.mark.slow
@pytest.mark.real
def test_two_real_categories(tmp_path: Path) -> None:
    """JPEG images of an object and a metal part, whose masks are PNG."""
    categories = ["mvtec/bottle", "mpdd/metal_plate"]
    missing = [name for name in categories if not (SHARED / "data" / name).is_dir()]
    if missing:
        pytest.skip(f"needs data/{missing[0]} in {SHARED}; set ANOMALIB_MKD_SHARED to the folder that has it")
    torch.manual_seed(0)
    data = multi(
        SHARED / "data",
        categories=categories,
        train_batch_size=16,
        eval_batch_size=16,
        balanced=True,
        thresholds="global",
    )
    model = mkd()
    (results,) = engine(tmp_path).train(model, datamodule=data)
    assert len(data.test_data) == 83 + 97
    for path in categories:
        category = Path(path).name
        alone = alone_on(model, SHARED / "data", path, tmp_path)
        for name in METRICS:
            assert alone[name] == pytest.approx(results[f"{name}/{category}"], abs=1e-5), (category, name)
        assert list(tmp_path.rglob(f"images/{category}/good/*.jpg"))
