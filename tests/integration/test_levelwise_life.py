# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The life of the models that compare level by level: fit, test, predict, export in f32 and in 8 bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import openvino
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder, PredictDataset
from anomalib.data.datasets.base import image as image_dataset
from anomalib.deploy import CompressionType, ExportType, OpenVINOInferencer
from anomalib.metrics import AUROC, Evaluator
from onnx.reference import ReferenceEvaluator
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from anomalib_mkd import Dcam, MixedDistillation
from anomalib_mkd.deploy import Inferencer
from anomalib_mkd.deploy.graph import core
from anomalib_mkd.deploy.metadata import read
from anomalib_mkd.thresholds import center_and_spread, threshold_from_good
from tests.life import NOISE, make_data, make_engine
from tests.networks import pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomalib.engine import Engine
    from numpy.typing import NDArray

    from anomalib_mkd.data import Quickstart

Model: TypeAlias = "type[MixedDistillation | Dcam]"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_network"),
    *(pytest.mark.filterwarnings(noise) for noise in NOISE),
]

MODELS = [MixedDistillation, Dcam]
STEPS = 60
PICTURES = {"image_size": 96, "train_images": 20, "test_good": 20, "per_defect": 10, "train_batch_size": 8}
OFF: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}
RESNET: dict[str, Any] = {"backbone": "resnet18.tv_in1k", "pre_trained": False}
PLAIN: dict[type, dict[str, Any]] = {
    MixedDistillation: {"skip_weight": 0.0, "symmetric_weight": 0.0},
    Dcam: {"attention": "none"},
}
"""What leaves out all that only training needs."""
ADDED: dict[type, list[dict[str, Any]]] = {
    MixedDistillation: [],
    Dcam: [{"attention": "both"}],
}
"""What brings it in, beyond the defaults."""


@dataclass(frozen=True)
class Life:
    """A quick-start model after a training whose length the user did not set."""

    engine: Engine
    module: Any
    data: Quickstart
    checkpoint: Path

    @property
    def raw(self) -> Any:
        """The checkpoint without anomalib's post-processing, whose clipping to 0..1 would hide differences."""
        module = type(self.module).load_from_checkpoint(self.checkpoint, weights_only=True)
        module.post_processor = None
        return module.eval()

    def photos(self) -> tuple[Tensor, NDArray[np.bool_]]:
        """The test images ``(N, 3, 96, 96)``, which the model enlarges, and which of them are defective."""
        data = make_data(self.data.root, **PICTURES)  # one that no engine has set to resize
        data.setup()
        batches = list(data.test_dataloader())
        return torch.cat([batch.image for batch in batches]), torch.cat([batch.gt_label for batch in batches]).numpy()


def test_batches_of_one_leave_statistics_of_the_student(tmp_path: Path) -> None:
    model = Dcam(weights="quickstart", training_steps=4, **OFF)
    make_engine(tmp_path, limit_val_batches=0).fit(model, datamodule=make_data(tmp_path, train_batch_size=1))
    variances = [norm.running_var for norm in model.model.student.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    assert variances
    assert not any(torch.all(variance == 1) for variance in variances)


@pytest.fixture(params=MODELS, scope="module")
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("life")
    torch.manual_seed(0)
    data = make_data(folder / "pictures", **PICTURES)
    module = request.param(weights="quickstart", training_steps=STEPS)
    engine = make_engine(folder / "results")
    engine.fit(module, datamodule=data)
    return Life(engine, module, data, next(folder.rglob("*.ckpt")))


def compiled(file: Path) -> Callable[[NDArray[np.float32]], Any]:
    return core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def expect_agreement(predict: Callable[[NDArray[np.float32]], Any], raw: Any, images: Tensor) -> None:
    with torch.inference_mode():
        expected = raw(images)
    result = predict(images.numpy())
    assert result["pred_score"].shape == (len(images),)
    np.testing.assert_allclose(result["pred_score"], expected.pred_score.numpy(), rtol=1e-3)
    np.testing.assert_allclose(result["anomaly_map"], expected.anomaly_map.numpy(), rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------ verbs of the engine


def test_training_ends_by_itself_at_a_learning_rate_of_0(life: Life) -> None:
    assert life.engine.trainer.global_step == STEPS
    (schedule,) = life.engine.trainer.lr_scheduler_configs
    assert schedule.scheduler.get_last_lr()[0] < 1e-5


def test_validate_test_and_predict_from_the_checkpoint_without_network(
    life: Life,
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    engine, module = make_engine(tmp_path), type(life.module)(weights="quickstart")
    engine.validate(module, datamodule=life.data, ckpt_path=life.checkpoint)
    assert module.post_processor.scales == life.module.post_processor.scales  # from held-out and learnt images, too
    (results,) = engine.test(module, datamodule=life.data, ckpt_path=life.checkpoint)
    assert results["image_AUROC"] > 0.7
    assert results["pixel_AUROC"] > 0.8
    picture = next((life.data.root / "metal" / "test" / "scratch").glob("*.png"))
    (prediction,) = engine.predict(module, dataset=PredictDataset(picture), ckpt_path=life.checkpoint)
    assert prediction.anomaly_map.shape[-2:] == (128, 128)
    assert 0 <= prediction.pred_score.item() <= 1


def test_the_engine_exports_what_anomalibs_inferencer_reads(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = life.engine.export(life.module, ExportType.OPENVINO, export_root=tmp_path, ckpt_path=str(life.checkpoint))
    monkeypatch.chdir(tmp_path)  # the inferencer leaves a cache where it runs
    image = pictures(1, 128)
    prediction = OpenVINOInferencer(path, config={"INFERENCE_PRECISION_HINT": "f32"}).predict(
        image[0].permute(1, 2, 0).numpy()
    )
    with torch.inference_mode():
        expected = type(life.module).load_from_checkpoint(life.checkpoint).eval()(image)
    assert prediction.pred_score.item() == pytest.approx(expected.pred_score.item(), rel=1e-3)
    assert np.abs(prediction.anomaly_map - expected.anomaly_map.numpy()).max() < 1e-3


# -------------------------------------------------------------------------------------------- the same from every file


def test_exported_graphs_agree_with_the_checkpoint(life: Life, tmp_path: Path) -> None:
    """Batches of 1, 2 and 7 of a fixed and of any size, in ONNX and in OpenVINO."""
    raw, (images, _) = life.raw, life.photos()
    assert images.shape[2:] == (96, 96)
    for export in (raw.to_onnx, raw.to_openvino):
        fixed, free = (
            compiled(export(tmp_path / f"{export.__name__}-{size}", input_size=size)) for size in ((128, 128), None)
        )
        for batch in (1, 2, 7):
            expect_agreement(fixed, raw, pictures(batch, 128, 128))
            expect_agreement(free, raw, images[-batch:])
        expect_agreement(free, raw, pictures(2, 100, 180))


def test_the_onnx_graph_means_the_same_to_another_interpreter(model: Model, tmp_path: Path) -> None:
    module = small(model).eval()
    evaluator = ReferenceEvaluator(onnx.load(module.to_onnx(tmp_path)))
    names = [output.name for output in evaluator.proto_.graph.output]
    expect_agreement(
        lambda images: dict(zip(names, evaluator.run(None, {"input": images}), strict=True)), module, pictures(1, 64)
    )


def test_the_torch_file_is_the_model(life: Life, tmp_path: Path) -> None:
    raw = life.raw
    loaded = torch.load(raw.to_torch(tmp_path), weights_only=False)["model"]
    with torch.inference_mode():
        for images in (pictures(1, 128), pictures(2, 100, 180), pictures(7, 128)):
            assert torch.equal(loaded(images).anomaly_map, raw(images).anomaly_map)
            assert torch.equal(loaded(images).pred_score, raw(images).pred_score)


# ---------------------------------------------------------------------------------------------- thresholds in exports


def verdicts(inferencer: Inferencer, files: list[Path]) -> list[bool]:
    return [prediction.bad for prediction in inferencer.predict_many(files)]


def test_the_export_decides_as_the_checkpoint_and_its_threshold_can_be_moved(life: Life, tmp_path: Path) -> None:
    module = type(life.module).load_from_checkpoint(life.checkpoint).eval()
    path = module.to_openvino(tmp_path)
    metadata = read(path)
    assert (metadata.image, metadata.pixel) == module.post_processor.scales
    assert (metadata.false_alarms, metadata.score_share) == (0.01, 0.005)
    assert list(metadata.good_scores) == module.post_processor.good_scores
    files = sorted((life.data.root / "metal" / "test").rglob("*.png"))
    images, _ = life.photos()
    with torch.inference_mode():
        expected = module(images)
    found = list(Inferencer(path).predict_many(files))
    assert [prediction.bad for prediction in found] == expected.pred_label.tolist()
    np.testing.assert_allclose([prediction.score for prediction in found], expected.pred_score, atol=1e-5)
    strict = verdicts(Inferencer(path, false_alarms=0.4), files)
    assert sum(strict) > expected.pred_label.sum()


def export_by_command(life: Life, folder: Path) -> Path:
    model = ["--model", type(life.module).__name__, "--model.weights=quickstart", f"--ckpt_path={life.checkpoint}"]
    drawn = {"root": life.data.root, "category": "metal", **PICTURES}
    data = ["--data", "Quickstart", *(f"--data.{name}={value}" for name, value in drawn.items())]
    kind = ["--export_type", "openvino", "--compression_type", "INT8_PTQ", "--export_root", str(folder)]
    AnomalibCLI(["export", *model, *data, *kind])
    (file,) = folder.rglob("*.xml")
    types = Counter(operator.get_type_name() for operator in core().read_model(file).get_ops())
    assert types["FakeQuantize"] > 10
    return file


@pytest.mark.filterwarnings("ignore")  # the command line turns on everything that the libraries have to say
def test_8_bits_have_thresholds_of_their_own_scores(life: Life, tmp_path: Path) -> None:
    module = type(life.module).load_from_checkpoint(life.checkpoint).eval()
    data = make_data(life.data.root, **PICTURES)
    if isinstance(life.module, Dcam):
        path = module.to_openvino(tmp_path, compression_type=CompressionType.INT8, datamodule=data)
    else:
        path = export_by_command(life, tmp_path)
        data.setup()
    metadata = read(path)
    assert metadata.precision == "int8"
    assert metadata.image.threshold == pytest.approx(threshold_from_good(metadata.good_scores))
    good = Inferencer(path).predict_many(data.val_data.samples["image_path"])
    own = [float(metadata.image.raw(prediction.score)) for prediction in good]
    assert len(own) == 4
    assert len(metadata.good_scores) == 20  # learnt ones show how scores vary
    _, spread = center_and_spread(metadata.good_scores)
    assert all(min(abs(score - each) for score in metadata.good_scores) < spread / 4 for each in own)
    assert metadata.good_scores != tuple(module.post_processor.good_scores)


def test_accuracy_control_is_refused_by_name(life: Life, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got INT8_ACQ"):
        life.module.to_openvino(tmp_path, compression_type=CompressionType.INT8_ACQ, datamodule=life.data)
    assert not list(tmp_path.iterdir())


def test_a_setting_that_changes_scores_does_not_keep_the_thresholds(life: Life, tmp_path: Path) -> None:
    if isinstance(life.module, Dcam):
        pytest.skip("one model shows what the shared code does")
    changed = type(life.module)(weights="quickstart", score_share=0.1)
    with pytest.raises(ValueError, match=r"Expected score_share=0.005, .* got 0.1. Pass --model.score_share=0.005"):
        make_engine(tmp_path).test(changed, datamodule=life.data, ckpt_path=life.checkpoint)
    loaded = type(life.module).load_from_checkpoint(life.checkpoint, score_share=0.1)
    assert loaded.post_processor.scales is None
    make_engine(tmp_path).validate(loaded, datamodule=make_data(life.data.root, **PICTURES, val_split_ratio=0.5))
    before, after = life.module.post_processor.scales[0].threshold, loaded.post_processor.scales[0].threshold
    assert after < before  # a mean over more pixels is lower


# --------------------------------------------------------------------------------------- what only training needs


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return request.param


def small(model: Model, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return model(**{**RESNET, **OFF, "pre_processor": model.configure_pre_processor((64, 64)), **arguments})


def test_adapters_and_gates_are_in_no_graph(model: Model, tmp_path: Path) -> None:
    """The same operators and the same numbers as of a model that has none, in ONNX and in the OpenVINO made of it."""
    modules = [small(model, **arguments) for arguments in (PLAIN[model], *ADDED[model])]
    files = [module.to_onnx(tmp_path / str(number)) for number, module in enumerate(modules)]
    graphs = [onnx.load(file).graph for file in files]
    operators = [[node.op_type for node in graph.node] for graph in graphs]
    weights = [{each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer} for graph in graphs]
    for module, own_operators, own_weights in zip(modules[1:], operators[1:], weights[1:], strict=True):
        assert len(list(module.model.paths if model is MixedDistillation else module.model.gates)) > 1
        assert own_operators == operators[0]
        assert own_weights.keys() == weights[0].keys()
        for name, values in own_weights.items():
            np.testing.assert_array_equal(values, weights[0][name])
    types = [Counter(operator.get_type_name() for operator in openvino.convert_model(file).get_ops()) for file in files]
    assert all(each == types[0] for each in types[1:])


# -------------------------------------------------------------------------------------------------------------- 8 bits


def test_8_bits_keep_the_auroc(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The photos are smaller than the model; calibration reads training images only."""
    input_size = (128, 128) if isinstance(life.module, Dcam) else None
    raw, (images, labels) = life.raw, life.photos()
    read: list[str] = []
    original = image_dataset.read_image
    monkeypatch.setattr(
        image_dataset, "read_image", lambda path, **kwargs: read.append(path) or original(path, **kwargs)
    )
    file = raw.to_openvino(
        tmp_path,
        input_size=input_size,
        compression_type=CompressionType.INT8_PTQ,
        datamodule=make_data(life.data.root, **PICTURES),
    )
    assert len(set(read)) == 16
    assert all("/train/good/" in Path(path).as_posix() for path in read)
    types = Counter(operator.get_type_name() for operator in core().read_model(file).get_ops())
    assert types["FakeQuantize"] > 10
    if input_size:
        images = torch.nn.functional.interpolate(images, input_size, mode="bilinear")
    with torch.inference_mode():
        expected = raw(images).pred_score.numpy()
    scores = compiled(file)(images.numpy())["pred_score"]
    # a model of a few steps and 60 photos, whose scores lie close together; the committed table has real ones
    assert spearmanr(expected, scores).statistic > 0.85
    assert roc_auc_score(labels, scores) > roc_auc_score(labels, expected) - 0.05


@pytest.mark.parametrize(
    ("model", "input_size", "sigma"), [(MixedDistillation, (64, 64), 4.0), (Dcam, None, 0.0)], indirect=["model"]
)
def test_8_bits_compile_in_every_precision(
    model: Model, tmp_path: Path, input_size: tuple[int, int] | None, sigma: float
) -> None:
    """bf16 is what OpenVINO chooses where the CPU has it; there it refused the default graph once."""
    file = small(model, sigma=sigma).to_openvino(
        tmp_path,
        input_size=input_size,
        compression_type=CompressionType.INT8_PTQ,
        datamodule=make_data(tmp_path / "pictures"),
    )
    for hints in ({}, {"INFERENCE_PRECISION_HINT": "f32"}, {"INFERENCE_PRECISION_HINT": "bf16"}):
        result = core().compile_model(file, "CPU", hints)(pictures(2, 64).numpy())
        assert np.isfinite(result["anomaly_map"]).all()
    expect_distances_in_f32(file)


def expect_distances_in_f32(file: Path) -> None:
    """bf16 and 8 bits apply up to the last operator of a few kinds; 1 - cosine must come after them all."""
    operators = core().read_model(file).get_ops()
    pending, behind = [operator for operator in operators if operator.get_type_name() == "ReduceL2"], {}
    assert len(pending) == 6  # norms of teacher and student, at three levels
    while pending:
        operator = pending.pop()
        if operator.get_friendly_name() in behind:
            continue
        behind[operator.get_friendly_name()] = operator.get_type_name()
        pending += [entry.get_node() for output in operator.outputs() for entry in output.get_target_inputs()]
    kinds = set(behind.values())
    assert kinds >= {"Divide", "Gather", "Result"}
    assert not kinds & {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul", "Interpolate"}
    assert "FakeQuantize" not in kinds


def test_8_bits_need_images(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected a datamodule for INT8_PTQ"):
        small(model).to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ)
    assert not list(tmp_path.rglob("*.*"))


# ------------------------------------------------------------------------------------------------------------ real ones


@pytest.mark.real
def test_real_bottles_are_separated_after_one_pass(
    model: Model,
    shared: Callable[[str], Path],
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    """An untrained student has 0.51, one of 12 steps 0.81 (MixedDistillation), one pass over the images 0.99."""
    data = Folder(
        name="bottle",
        root=shared("data/mvtec/bottle"),
        normal_dir="train/good",
        abnormal_dir=["test/broken_large", "test/contamination"],
        normal_test_dir="test/good",
        train_batch_size=8,
        num_workers=0,
        val_split_mode="none",
        seed=0,
    )
    weights = shared("weights/resnet18_tv_in1k_layers1-3_f16.safetensors")
    torch.manual_seed(0)
    engine = make_engine(tmp_path, max_epochs=1, limit_val_batches=0)
    module = model(
        weights=weights,
        student_width=0.25,
        **{**OFF, "evaluator": Evaluator(test_metrics=[AUROC(fields=["pred_score", "gt_label"])])},
    )
    engine.fit(module, datamodule=data)
    (results,) = engine.test(module, datamodule=data, verbose=False)
    assert results["AUROC"] > 0.9
