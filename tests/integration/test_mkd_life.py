# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mkd's life inside anomalib: fit, validate, test, predict, export, and the same answers from every file."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import pytest
import timm
import torch
from anomalib.data import Folder, PredictDataset
from anomalib.deploy import ExportType, OpenVINOInferencer
from lightning.pytorch.callbacks import EarlyStopping
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomalib_mkd import Mkd
from anomalib_mkd.deploy.graph import core
from tests.life import NOISE, make_data, make_engine
from tests.networks import pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anomalib.engine import Engine
    from numpy.typing import NDArray

    from anomalib_mkd.data import Quickstart

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_network"),
    *(pytest.mark.filterwarnings(noise) for noise in NOISE),
]

STEPS = 60
OFF: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


@dataclass(frozen=True)
class Life:
    """A quick-start model after a training whose length the user did not set."""

    engine: Engine
    module: Mkd
    data: Quickstart
    checkpoint: Path


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("life")
    torch.manual_seed(0)
    data = make_data(
        folder / "pictures", image_size=128, train_images=20, test_good=20, per_defect=2, train_batch_size=8
    )
    module = Mkd(weights="quickstart", training_steps=STEPS)
    engine = make_engine(folder / "results")
    engine.fit(module, datamodule=data)
    return Life(engine, module, data, next(folder.rglob("*.ckpt")))


@pytest.fixture(scope="module")
def raw(life: Life) -> Mkd:
    """The checkpoint without anomalib's post-processing, whose clipping to 0..1 would hide differences."""
    module = Mkd.load_from_checkpoint(life.checkpoint, weights_only=True)
    module.post_processor = None
    return module.eval()


@pytest.fixture(scope="module")
def pictured(life: Life) -> Tensor:
    """Normal test images at the model's size, ``(20, 3, 128, 128)``."""
    life.data.setup()
    images = torch.cat([batch.image[~batch.gt_label] for batch in life.data.test_dataloader()])
    assert images.shape == (20, 3, 128, 128)
    return images


@pytest.fixture(scope="module")
def onnx_file(raw: Mkd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw.to_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def openvino_file(raw: Mkd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw.to_openvino(tmp_path_factory.mktemp("openvino"))


# ------------------------------------------------------------------------------------------------------- length of life


def test_training_ends_by_itself_in_whole_epochs(life: Life) -> None:
    assert life.engine.trainer.global_step == STEPS  # 16 images in batches of 8: 30 epochs of 2 steps
    assert life.engine.trainer.current_epoch == 30
    assert torch.load(life.checkpoint, weights_only=True)["global_step"] == STEPS


@pytest.mark.parametrize(("limit", "steps"), [({"max_epochs": 2}, 8), ({"max_steps": 5}, 5)])
def test_the_users_own_length_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int], steps: int
) -> None:
    calibrated: list[int] = []
    monkeypatch.setattr(Mkd, "calibrate", lambda model: calibrated.append(model.global_step))
    engine = make_engine(tmp_path / "results", limit_val_batches=0, **limit)
    engine.fit(Mkd(weights="quickstart", training_steps=1, **OFF), datamodule=make_data(tmp_path, train_batch_size=2))
    assert engine.trainer.global_step == steps
    assert calibrated == [steps]  # once, at the end


@pytest.mark.parametrize(("limits", "steps", "warned"), [({}, 16, True), ({"limit_train_batches": 4}, 4, False)])
def test_an_epoch_far_longer_than_asked_for_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limits: dict[str, int], steps: int, warned: bool
) -> None:
    engine = make_engine(tmp_path / "results", limit_val_batches=0, **limits)
    data = make_data(tmp_path, train_images=20, train_batch_size=1)
    engine.fit(Mkd(weights="quickstart", training_steps=4, **OFF), datamodule=data)
    assert engine.trainer.global_step == steps
    assert ("16 steps, 4 times as many" in caplog.text and "limit_train_batches 4" in caplog.text) is warned


def test_without_validation_the_last_weights_are_calibrated_and_saved(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "results", limit_val_batches=0)
    engine.fit(Mkd(weights="quickstart", training_steps=4, **OFF), datamodule=make_data(tmp_path))
    (checkpoint,) = (tmp_path / "results").rglob("*.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert state["model.map_scale"] != 1


@pytest.mark.parametrize(("value_weight", "fixed"), [(0.5, True), ("auto", False)])
def test_the_units_of_the_levels_are_measured_once_and_kept(
    tmp_path: Path, value_weight: float | str, fixed: bool
) -> None:
    """Once: a training that goes on must not measure its score in other units."""
    module = Mkd(weights="quickstart", value_weight=value_weight, training_steps=4, **OFF)  # type: ignore[arg-type]
    make_engine(tmp_path / "first", limit_val_batches=0).fit(module, datamodule=make_data(tmp_path))
    units = module.model.units
    assert units is not None
    assert (units > 0).all()
    assert not (units == 1).any()
    assert (module.model.loss.weights[1] == 0.5) == fixed
    (checkpoint,) = (tmp_path / "first").rglob("*.ckpt")
    again = Mkd.load_from_checkpoint(checkpoint, weights_only=True, training_steps=2, **OFF)
    with torch.no_grad():
        again.model.units *= 2
    make_engine(tmp_path / "second", limit_val_batches=0).fit(again, datamodule=make_data(tmp_path))
    torch.testing.assert_close(again.model.units, 2 * units)


def test_where_a_callback_ends_the_training_the_weights_are_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated: list[int] = []
    monkeypatch.setattr(Mkd, "calibrate", lambda model: calibrated.append(model.global_step))
    stop = EarlyStopping("train_loss_epoch", min_delta=100.0, patience=1)
    engine = make_engine(tmp_path / "results", limit_val_batches=0, max_epochs=9, callbacks=[stop])
    engine.fit(Mkd(weights="quickstart", **OFF), datamodule=make_data(tmp_path, train_batch_size=2))
    assert calibrated[-1] == engine.trainer.global_step < 9 * 4


def test_the_learning_rate_ends_near_zero(life: Life) -> None:
    (schedule,) = life.engine.trainer.lr_scheduler_configs
    assert schedule.scheduler.get_last_lr()[0] < 1e-5


class Poison:
    """Makes the student's features not a number from a step on, as a training that diverges does."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, _module: object, _images: object, pyramid: dict[str, Tensor]) -> dict[str, Tensor]:
        self.left -= 1
        return pyramid if self.left >= 0 else {name: features * torch.nan for name, features in pyramid.items()}


def test_a_training_that_diverges_stops_and_says_so(tmp_path: Path) -> None:
    module = Mkd(weights="quickstart", value_weight=0.5, **OFF)
    module.model.student.register_forward_hook(Poison(2))
    engine = make_engine(tmp_path / "results", max_epochs=2, limit_val_batches=0)
    with pytest.raises(RuntimeError, match=r"Expected a finite loss, got nan in step 2\. Lower learning_rate"):
        engine.fit(module, datamodule=make_data(tmp_path))
    assert not list(tmp_path.rglob("*.ckpt"))


# ------------------------------------------------------------------------------------------------ verbs of the engine


def test_validate_test_and_predict_from_the_checkpoint_without_network(
    life: Life,
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    engine = make_engine(tmp_path)
    module = Mkd(weights="quickstart")
    engine.validate(module, datamodule=life.data, ckpt_path=life.checkpoint)
    (results,) = engine.test(module, datamodule=life.data, ckpt_path=life.checkpoint)
    assert results["image_AUROC"] > 0.6
    assert set(results) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    picture = next((life.data.root / "metal" / "test" / "scratch").glob("*.png"))
    (prediction,) = engine.predict(module, dataset=PredictDataset(picture), ckpt_path=life.checkpoint)
    assert prediction.anomaly_map.shape[-2:] == (128, 128)
    assert 0 <= prediction.pred_score.item() <= 1
    heat_maps = [path for path in tmp_path.rglob("*.png") if not path.is_symlink()]
    assert any("scratch" in str(path) for path in heat_maps)


def test_a_checkpoint_needs_neither_the_hub_nor_the_file_that_the_teacher_came_from(
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    file = tmp_path / "teacher.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), file)
    pre_processor = Mkd.configure_pre_processor((64, 64), imagenet=True)
    module = Mkd("resnet10t.c3_in1k", weights=file, pre_processor=pre_processor, **OFF)
    make_engine(tmp_path / "results", max_epochs=1).fit(module, datamodule=make_data(tmp_path))
    file.unlink()
    loaded = Mkd.load_from_checkpoint(next(tmp_path.rglob("*.ckpt")), weights_only=True)
    make_engine(tmp_path / "loaded").test(loaded, datamodule=make_data(tmp_path))
    images = pictures(2, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(images).anomaly_map, module.eval()(images).anomaly_map)


def test_a_model_that_was_never_trained_is_tested_with_its_teachers_weights(tmp_path: Path) -> None:
    module = Mkd(weights="quickstart", **OFF)
    make_engine(tmp_path / "results").test(module, datamodule=make_data(tmp_path))
    assert module.model.teacher.ready


def test_the_engine_exports_what_anomalibs_inferencer_reads(
    life: Life,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,  # noqa: ARG001
) -> None:
    path = life.engine.export(life.module, ExportType.OPENVINO, export_root=tmp_path, ckpt_path=str(life.checkpoint))
    files = sorted(file.name for file in tmp_path.rglob("*") if file.is_file())
    assert files == ["model.bin", "model.json", "model.xml"]
    monkeypatch.chdir(tmp_path)  # the inferencer leaves a cache where it runs
    inferencer = OpenVINOInferencer(path, config={"INFERENCE_PRECISION_HINT": "f32"})
    image = pictures(1, 128)
    prediction = inferencer.predict(image[0].permute(1, 2, 0).numpy())
    with torch.inference_mode():
        expected = Mkd.load_from_checkpoint(life.checkpoint).eval()(image)
    assert prediction.pred_score.item() == pytest.approx(expected.pred_score.item(), rel=1e-3)
    assert np.abs(prediction.anomaly_map - expected.anomaly_map.numpy()).max() < 1e-2


# -------------------------------------------------------------------------------------------- the same from every file


class MaxPool(OpRun):
    """ONNX's operator by torch: the reference evaluator's own fails on one-sided padding."""

    op_domain = ""

    def _run(self, x: NDArray[np.float32], **attributes: Any) -> tuple[NDArray[np.float32], ...]:
        shape, strides, pads = (attributes[name] for name in ("kernel_shape", "strides", "pads"))
        pooled = torch.nn.functional.max_pool2d(torch.from_numpy(x.copy()), shape, strides, pads[: len(shape)])
        return (pooled.numpy(),)


Predict: TypeAlias = "Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]"


def openvino_predict(file: Path, precision: str | None = "f32") -> Predict:
    """Predict with OpenVINO, which reads its own files and ONNX's; ``None`` is the precision that it chooses itself."""
    hints = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    compiled = core().compile_model(file, "CPU", hints)

    def predict(images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        result = compiled(images)
        return result["pred_score"], result["anomaly_map"]

    return predict


def expect_agreement(predict: Predict, raw: Mkd, images: Tensor) -> None:
    with torch.inference_mode():
        expected = raw(images)
    score, anomaly_map = predict(images.numpy())
    assert score.shape == (len(images),)
    assert anomaly_map.shape == (len(images), 1, 128, 128)
    np.testing.assert_allclose(score, expected.pred_score.numpy(), rtol=1e-3)
    tolerance = 1e-2 * expected.anomaly_map.max().item()  # rounding may swap which pixel was a pool's maximum
    assert np.abs(anomaly_map - expected.anomaly_map.numpy()).max() < tolerance


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("kind", ["onnx_file", "openvino_file"])
def test_exported_graphs_agree_with_the_checkpoint(
    request: pytest.FixtureRequest, raw: Mkd, pictured: Tensor, kind: str, batch: int
) -> None:
    expect_agreement(openvino_predict(request.getfixturevalue(kind)), raw, defective(pictured)[-batch:])


def test_the_onnx_graph_means_the_same_to_another_interpreter(onnx_file: Path, raw: Mkd, pictured: Tensor) -> None:
    evaluator = ReferenceEvaluator(onnx.load(onnx_file), new_ops=[MaxPool])
    expect_agreement(lambda images: evaluator.run(None, {"input": images}), raw, pictured[:2])


def test_the_torch_file_is_the_model(raw: Mkd, pictured: Tensor, tmp_path: Path) -> None:
    loaded = torch.load(raw.to_torch(tmp_path), weights_only=False)["model"]
    with torch.inference_mode():
        expected, actual = raw(pictured[:2]), loaded(pictured[:2])
    assert torch.equal(actual.pred_score, expected.pred_score)
    assert torch.equal(actual.anomaly_map, expected.anomaly_map)


@pytest.mark.parametrize("size", [(100, 180), (256, 256), (301, 97)])
def test_photos_of_any_size_are_resized_in_the_graph(openvino_file: Path, raw: Mkd, size: tuple[int, int]) -> None:
    expect_agreement(openvino_predict(openvino_file), raw, pictures(2, *size))


def defective(images: Tensor) -> Tensor:
    """Paint a square of 2 to 20 pixels on each image, so that some defects are hard to see and most are not."""
    generator = torch.Generator().manual_seed(0)
    images = images.clone()
    for index, image in enumerate(images):
        side = 2 + index % 19
        top, left = torch.randint(0, 128 - side, (2,), generator=generator).tolist()
        image[:, top : top + side, left : left + side] = torch.rand(3, 1, 1, generator=generator)
    return images


def expect_auroc(predict: Predict, raw: Mkd, normal: Tensor, tolerance: float) -> None:
    images = torch.cat((normal, defective(normal)))
    labels = np.repeat([0, 1], len(normal))
    with torch.inference_mode():
        scores = raw(images).pred_score.numpy()
    expected, actual = (roc_auc_score(labels, values) for values in (scores, predict(images.numpy())[0]))
    assert 0.7 < expected < 1  # at 1, a difference could hide
    assert actual == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("kind", ["onnx_file", "openvino_file"])
def test_auroc_in_f32(request: pytest.FixtureRequest, raw: Mkd, pictured: Tensor, kind: str) -> None:
    expect_auroc(openvino_predict(request.getfixturevalue(kind)), raw, pictured, tolerance=0.001)


def test_auroc_and_scores_in_openvinos_own_precision(openvino_file: Path, raw: Mkd, pictured: Tensor) -> None:
    precision = core().compile_model(openvino_file, "CPU").get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if precision == "f32":
        pytest.skip(f"OpenVINO's default precision on {core().get_property('CPU', 'FULL_DEVICE_NAME')} is f32")
    predict = openvino_predict(openvino_file, precision=None)
    expect_auroc(predict, raw, pictured, tolerance=0.005)
    with torch.inference_mode():
        expected = raw(pictured).pred_score.numpy()
    np.testing.assert_allclose(predict(pictured.numpy())[0], expected, rtol=0.03)


def test_operators_that_openvino_computes_wrongly_or_coarsely_are_not_in_the_graphs(
    onnx_file: Path, openvino_file: Path
) -> None:
    """A deconvolution can be wrong; what lies before a matrix product may be computed in bf16, 1 - cosine included."""
    graph = onnx.load(onnx_file).graph
    assert not any(weight.name.startswith(("balanced", "model.teacher.ready")) for weight in graph.initializer)
    operators = Counter(node.op_type for node in graph.node)
    assert operators["Conv"] > 0
    assert operators["ConvTranspose"] == 0
    assert (operators["MatMul"], operators["Gemm"], operators["Einsum"]) == (2, 0, 0)  # the resizing, before all else
    operators = Counter(node.get_type_name() for node in core().read_model(openvino_file).get_ops())
    assert operators["Convolution"] > 0
    assert (operators["MatMul"], operators["Einsum"]) == (2, 0)
    assert not any("Backprop" in name for name in operators)


def test_the_graph_repeats_and_stays_finite_on_constant_images(openvino_file: Path) -> None:
    predict = openvino_predict(openvino_file)
    images = torch.cat([torch.full((1, 3, 128, 128), level) for level in (0.0, 0.5, 1.0)]).numpy()
    for first, second in zip(predict(images), predict(images), strict=True):
        assert np.array_equal(first, second)
        assert np.isfinite(first).all()


# ------------------------------------------------------------------------------------------------------------ real ones


@pytest.mark.real
def test_real_bottles_with_real_weights(
    shared: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    no_network: None,  # noqa: ARG001
) -> None:
    weights = shared("weights/resnet18_tv_in1k_layers1-3_f16.safetensors")
    data = Folder(
        name="bottle",
        root=shared("data/mvtec/bottle"),
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=["test/broken_large"],
        mask_dir=["ground_truth/broken_large"],
        train_batch_size=4,
        num_workers=0,
    )
    module = Mkd("resnet18.tv_in1k", weights=weights, training_steps=3, **OFF)
    engine = make_engine(tmp_path, max_steps=3, limit_val_batches=0)
    with caplog.at_level(logging.INFO, "anomalib_mkd"):
        engine.fit(module, datamodule=data)
    assert f"resnet18.tv_in1k from {weights}" in caplog.text
    assert engine.trainer.global_step == 3
