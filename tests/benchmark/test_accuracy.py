# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One run on a tiny data set with a stub model: rows, resume, protocols, heat maps."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from anomalib.models.components import AnomalibModule
from PIL import Image
from torch import nn

import anomalib_mkd
from anomalib_mkd.training import precision
from benchmark import accuracy
from benchmark.accuracy import measure_run
from benchmark.outputs import Outputs, measure
from benchmark.rows import DATA, read_rows
from benchmark.runs import ACCELERATOR, Run, folder_data, model_arguments, plan, run_data, usual_steps
from benchmark.stability import late_steps, measure_stability
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from pathlib import Path

RUN = Run("Stub", "default", "toy/box", 0, "quickstart", 3, 2)


class StubNetwork(nn.Module):
    """Brightness is the map; one weight learns."""

    def __init__(self) -> None:
        super().__init__()
        self.tiler = None
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        anomaly_map = images.mean(1, keepdim=True) * self.gain.abs()
        return InferenceBatch(pred_score=anomaly_map.amax((1, 2, 3)), anomaly_map=anomaly_map)


class Stub(AnomalibModule):
    """Smallest model that anomalib's engine can train and test."""

    def __init__(self) -> None:
        super().__init__(pre_processor=False, post_processor=False, evaluator=False, visualizer=False)
        self.model = StubNetwork()

    def training_step(self, batch: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        del args, kwargs
        return {"loss": self.model(batch.image).anomaly_map.mean()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        return LearningType.ONE_CLASS


def write(path: Path, square: bool) -> None:
    image = np.full((32, 32, 3), 60, dtype=np.uint8)
    if square:
        image[8:16, 8:16] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "data" / "toy" / "box"
    for number in range(8):
        write(base / "train" / "good" / f"{number}.jpg", square=False)
    write(base / "test" / "good" / "0.jpg", square=False)
    for name in ("dent", "stain"):
        write(base / "test" / name / "0.jpg", square=True)
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[8:16, 8:16] = 255
        (base / "ground_truth" / name).mkdir(parents=True)
        Image.fromarray(mask).save(base / "ground_truth" / name / "0_mask.png")
    return tmp_path / "data"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_run_gives_rows_once(root: Path, tmp_path: Path) -> None:
    results = tmp_path / "accuracy.csv"
    built = []

    def build(run: Run) -> Stub:
        built.append(run)
        return Stub()

    options: dict[str, Any] = {"results": results, "data_root": root, "build": build}
    rows = measure_run(RUN, pictures=tmp_path / "pictures", source="abc", **options)
    assert measure_run(RUN, **options) == []
    assert len(built) == 1
    # Pixels: the squares rank highest but for JPEG's edges.
    values = {(row.metric, row.subset): row.value for row in rows}
    assert values["image_AUROC", "all"] == 1
    assert values["image_AUROC", "dent"] == values["image_AUROC", "stain"] == 1
    assert values["pixel_AUROC", "all"] > 0.99
    assert values["AUPRO", "all"] > 0.95
    assert {row.epochs for row in rows} == {0.75}
    assert {row.image_size for row in rows} == {32}
    assert {(row.data, row.category, row.commit) for row in rows} == {("toy/box", "box", "abc")}
    assert [row.key for row in read_rows(results)] == [RUN.key] * len(rows)
    pictures = sorted((tmp_path / "pictures" / RUN.name).glob("*.png"))
    assert [path.name for path in pictures] == ["dent_0.png", "good_0.png", "stain_0.png"]
    assert Image.open(pictures[0]).size == (96, 32)
    assert (pictures[0].parent / ".gitignore").read_text(encoding="utf-8") == "*\n"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_one_model_is_measured_on_each_category_and_on_their_mean(tmp_path: Path) -> None:
    for name, train in zip(DATA, (5, 7, 6, 6), strict=True):
        draw_category(tmp_path / "data" / name, train=train, size=32)
    upside_down = tmp_path / "data" / DATA[1]  # defects of the second category look as its normal images do
    for path in sorted((upside_down / "test" / "dent").iterdir()):
        path.write_bytes((upside_down / "test" / "good" / path.name).read_bytes())
    shutil.rmtree(tmp_path / "data" / DATA[3] / "ground_truth")
    built = []

    def build(run: Run) -> Stub:
        built.append(run)
        return Stub()

    run = dataclasses.replace(RUN, data="joint4")
    options: dict[str, Any] = {"results": tmp_path / "a.csv", "data_root": tmp_path / "data"}
    rows = measure_run(run, pictures=tmp_path / "pictures", source="abc", build=build, **options)
    assert measure_run(run, build=build, **options) == []
    assert len(built) == 1
    assert read_rows(tmp_path / "a.csv") == [dataclasses.replace(row, value=float(f"{row.value:.6g}")) for row in rows]
    assert {(row.key, row.data, row.epochs) for row in rows} == {(run.key, "joint4", 0.25)}  # 3 of 12 batches
    image = {row.category: row.value for row in rows if (row.metric, row.subset) == ("image_AUROC", "all")}
    assert image == {"bottle": 1, "screw": 0.5, "metal_plate": 1, "mt": 1, "mean": 0.875}
    assert {row.category for row in rows if row.metric == "AUPRO"} == {"bottle", "screw", "metal_plate", "mean"}
    whole = {(row.metric, row.subset) for row in rows if row.category == "mean"}
    assert whole == {(m, "all") for m in ("image_AUROC", "pixel_AUROC", "AUPRO", "train_seconds", "test_seconds")}
    assert {row.subset for row in rows if row.category == "screw"} == {"all", "dent"}
    pictures = (tmp_path / "pictures" / run.name).rglob("*.png")
    assert {path.parent.name for path in pictures} == set(image) - {"mean"}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_stability_keeps_late_checkpoints_once(root: Path, tmp_path: Path) -> None:
    built = []

    def build(run: Run) -> Stub:
        built.append(dict(run.arguments))
        return Stub()

    run = dataclasses.replace(RUN, steps=8)
    for _ in range(2):
        measure_stability(
            run,
            results=tmp_path / "a.csv",
            data_root=root,
            checkpoints=2,
            source="abc",
            build=build,
        )
    assert built == [{}, {"schedule": "constant"}]
    rows = read_rows(tmp_path / "a.csv")
    assert {(row.variant, row.epochs) for row in rows} == {
        ("default", 2),
        ("constant_step6", 1.5),
        ("constant_step8", 2),
    }


def test_training_images_all_train_and_no_test_image_validates(root: Path) -> None:
    datamodule = folder_data(root, "toy/box", 2, 0)
    assert len(datamodule.train_data) == 8
    assert len(datamodule.test_data) == 3
    assert not hasattr(datamodule, "val_data")


def test_fewer_training_images_are_among_more_and_differ_by_seed(root: Path) -> None:
    def kept(pictures: int, seed: int) -> set[str]:
        run = dataclasses.replace(RUN, protocol=f"good{pictures}", seed=seed)
        datamodule = run_data(root, run)
        datamodule.setup()  # as the trainer does again
        assert len(datamodule.test_data) == 3
        return {str(path) for path in datamodule.train_data.samples["image_path"]}

    assert len(kept(3, 0)) == 3
    assert kept(3, 0) < kept(5, 0)
    assert len({frozenset(kept(3, seed)) for seed in range(4)}) > 1
    with pytest.raises(ValueError, match="Expected 1 to 8 good training images, got 9"):
        kept(9, 0)
    with pytest.raises(ValueError, match="Expected one category of photographs"):
        run_data(root, dataclasses.replace(RUN, data="joint4", protocol="good3"))


def test_missing_folder_and_foreign_mask(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected the folder test/good"):
        folder_data(root, "toy/none", 2, 0)
    masks = root / "toy" / "box" / "ground_truth" / "dent"
    (masks / "0_mask.png").rename(masks / "10_mask.png")
    with pytest.raises(ValueError, match="1 image of bad parts without a mask"):
        folder_data(root, "toy/box", 2, 0)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_data_without_masks_has_rows_of_images_alone(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "toy" / "box" / "ground_truth")
    build: Any = lambda _: Stub()  # noqa: E731
    rows = measure_run(RUN, results=tmp_path / "a.csv", data_root=root, source="abc", build=build)
    assert {row.metric for row in rows} == {"image_AUROC", "train_seconds", "test_seconds"}


def test_protocols_differ_in_the_pixels_that_count() -> None:
    maps = torch.zeros(2, 1, 2, 2)
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    maps[0, 0] = torch.tensor([[9.0, 1.0], [2.0, 3.0]])
    masks[0, 0, 0] = True
    maps[1, 0] = 10.0  # a normal image whose pixels are all above the defect
    outputs = Outputs(torch.tensor([1.0, 0.0]), torch.tensor([True, False]), maps, masks, ["bad/0.png", "good/0.png"])
    assert measure(outputs, "paper")["pixel_AUROC", "all"] == 1
    assert measure(outputs, "user")["pixel_AUROC", "all"] == pytest.approx(3 / 7)
    assert measure(outputs)["image_AUROC", "bad"] == 1


def test_large_scores_do_not_tie() -> None:
    """Distances of PatchCore lie far above 1, where the sigmoid that torchmetrics would apply is 1 for all."""
    maps = torch.tensor([[[[40.0, 41.0]]], [[[50.0, 42.0]]]])
    masks = torch.tensor([[[False, False]], [[True, False]]])
    scores, labels = torch.tensor([40.0, 50.0]), torch.tensor([False, True])
    outputs = Outputs(scores, labels, maps, masks, ["good/0.png", "bad/0.png"])
    assert measure(outputs)["image_AUROC", "all"] == 1
    assert measure(outputs)["pixel_AUROC", "all"] == 1


def test_arguments_of_the_presets(tmp_path: Path) -> None:
    paper = Run("Mkd", "paper", "toy/box", 0, steps=200, protocol="paper", weights=tmp_path / "file")
    arguments = model_arguments(paper)
    assert (arguments["backbone"], arguments["weights"]) == ("resnet18.tv_in1k", str(tmp_path / "file"))
    assert arguments["schedule"] == "constant"
    assert arguments["training_steps"] == 200
    assert model_arguments(dataclasses.replace(paper, data="joint4"))["training_steps"] == 50
    assert "detach_teacher" not in arguments
    quick = Run("Mkd", "paper", "toy/box", 0, "quickstart", protocol="paper")
    assert model_arguments(quick)["detach_teacher"] is False
    plain = {"backbone": "vgg16.tv_in1k", "training_steps": 300}
    assert model_arguments(Run("Mkd", "default", "toy/box", 0, "vgg16.tv_in1k")) == plain
    untrained = model_arguments(Run("Mkd", "random_teacher", "toy/box", 0, "vgg16.tv_in1k"))
    assert untrained == {**plain, "pre_trained": False}


@pytest.mark.parametrize("changed", [{"teacher": "quickstart"}, {"weights": "file"}, {"variant": "default"}])
def test_anomalibs_models_have_their_variants_and_the_hubs_weights(changed: dict[str, Any]) -> None:
    run = Run("Stfpm", "anomalib", "toy/box", 0)
    assert model_arguments(run) == {"backbone": "resnet18.tv_in1k"}
    with pytest.raises(ValueError, match="Expected variant anomalib and a timm teacher without --weights for Stfpm"):
        model_arguments(dataclasses.replace(run, **changed))


def test_a_core_set_of_a_tenth_is_run_if_asked_for() -> None:
    (usual,), (tenth,) = (plan(["Patchcore"], [variant], ["x/y"], [0], None) for variant in ("default", "coreset0.1"))
    shares = [model_arguments(run)["coreset_sampling_ratio"] for run in (usual, tenth)]
    assert shares == [0.01, 0.1]
    assert usual.key != tenth.key


@pytest.mark.parametrize("model", ["Mkd", "MixedDistillation", "Dcam", "Mmrd"])
def test_own_steps_are_the_models_default(model: str) -> None:
    constructor = getattr(anomalib_mkd, model).__init__
    assert inspect.signature(constructor).parameters["training_steps"].default == usual_steps(model, "x/y", None)


def test_late_steps_end_with_the_last() -> None:
    assert late_steps(100, 5) == [60, 70, 80, 90, 100]


def test_plan_takes_the_first_seed_first() -> None:
    runs = plan(["Mkd", "Stfpm", "Patchcore"], ["default", "paper"], ["x/y", "joint4"], [0, 1], None, batch_size=4)
    assert [run.seed for run in runs] == [0] * 8 + [1] * 8
    assert len({run.key for run in runs}) == 16
    steps = {(run.model, run.data): run.steps for run in runs}
    assert [steps["Mkd", data] for data in ("x/y", "joint4")] == [1200, 4800]
    assert [steps[model, "joint4"] for model in ("Stfpm", "Patchcore")] == [100, 0]
    assert {(run.variant, run.protocol) for run in runs if run.model == "Mkd"} == {
        ("default", "user"),
        ("paper", "paper"),
    }


def test_8_bits_are_tested_in_the_order_of_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader may go through the test set in another order than its data set, as that of joined data does."""

    class Items(list[Any]):
        samples: ClassVar = {"image_path": [f"{number}.png" for number in range(3)]}

    items = Items(SimpleNamespace(image=torch.full((3, 4, 4), number)) for number in range(3))
    model = SimpleNamespace(to_openvino=lambda *_, **__: tmp_path, raw_inputs=lambda item: (item.image,))
    truth: Any = SimpleNamespace(paths=["2.png", "0.png", "1.png"])
    tested: list[float] = []
    monkeypatch.setattr(
        accuracy, "openvino_outputs", lambda _, inputs, __: tested.extend(image.max().item() for (image,) in inputs)
    )
    data: Any = SimpleNamespace(test_data=items)
    accuracy.int8_outputs(model, data, truth, tmp_path)
    assert tested == [2, 0, 1]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_run_on_an_accelerator_is_another_one_and_names_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"results": tmp_path / "a.csv", "data_root": root, "build": lambda _: Stub()}
    processor = measure_run(RUN, **options)[0].machine
    monkeypatch.setenv(ACCELERATOR, "auto")
    monkeypatch.setattr(accuracy, "device_of", lambda _: torch.device("mps"))
    other = Run("Stub", "default", "toy/box", 0, "quickstart", 3, 2)
    assert other.key.run_id == f"{RUN.key.run_id}-auto"
    rows = measure_run(other, **options)
    assert {(row.run_id, row.machine) for row in rows} == {(other.key.run_id, f"mps; {processor}")}


def test_precision_is_that_of_the_device_that_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "is_faster_in_bf16", lambda: True)
    for device, name in (("cpu", "bf16-train"), ("cuda", "f32")):
        trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
        model: Any = SimpleNamespace(trainer=trainer, device=torch.device("cpu"), hparams={"student_precision": "auto"})
        assert accuracy.train_precision(model) == name
