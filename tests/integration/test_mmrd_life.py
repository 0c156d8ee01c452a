# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mmrd from scans to OpenVINO, on drawn parts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import tifffile
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder3D
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import RandomHorizontalFlip

from anomalib_mkd import Mmrd
from anomalib_mkd.data import DepthFolder, DepthPredictDataset, Recipe, make_dataset
from anomalib_mkd.data.normal_images import normal_batches
from anomalib_mkd.deploy import DepthInferencer
from anomalib_mkd.deploy.graph import EXACT, core
from anomalib_mkd.export.quantization import quantize
from anomalib_mkd.models.mmrd import DepthTorchInferencer
from anomalib_mkd.models.mmrd.depth_pre_processor import CONSTANTS, DepthPreProcessor, default_transform
from anomalib_mkd.models.mmrd.siamese import SiameseTeacher
from benchmark.__main__ import Setup, accuracy
from benchmark.rows import Row, read_rows
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = (64, 64)
SMALL = {"pre_trained": False, "num_prototypes": 8}

F32 = {"INFERENCE_PRECISION_HINT": "f32"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_network"),
    *(pytest.mark.filterwarnings(noise) for noise in NOISE),
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn parts in MVTec 3D-AD's layout."""
    root = tmp_path_factory.mktemp("parts")
    recipe = Recipe("metal", image_size=80, train_images=6, test_good=2, per_defect=2, layout="mvtec3d")
    make_dataset(root, recipe)
    return root


def scans(parts: Path, **arguments: Any) -> DepthFolder:
    sizes = {"train_batch_size": 3, "eval_batch_size": 4, "num_workers": 0, "removal_distance": 0.0}
    return DepthFolder(parts, "metal", **{**sizes, **arguments})


def build(**arguments: Any) -> Mmrd:
    torch.manual_seed(0)
    pre_processor = DepthPreProcessor(
        default_transform(SIZE), arguments.get("aux", "depth"), arguments.pop("augmentation", None)
    )
    return Mmrd(**{**SMALL, "pre_processor": pre_processor, "visualizer": False, **arguments})


def raw_pairs(data: DepthFolder, count: int) -> tuple[Tensor, Tensor]:
    items = [data.test_data[index] for index in range(count)]
    return torch.stack([item.image for item in items]), torch.stack([item.depth_map for item in items])


@pytest.fixture(scope="module")
def trained(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mmrd, DepthFolder, Path]:
    """A model after two epochs, its data and its checkpoint."""
    folder, data, model = tmp_path_factory.mktemp("trained"), scans(parts), build()
    make_engine(folder, max_epochs=2).fit(model, datamodule=data)
    return model, data, next(folder.rglob("*.ckpt"))


@pytest.fixture(scope="module")
def exported(trained: tuple[Mmrd, DepthFolder, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model in OpenVINO, for images of any size."""
    return trained[0].to_openvino(tmp_path_factory.mktemp("exported"))


def test_constants_are_those_of_normal_parts(trained: tuple[Mmrd, DepthFolder, Path]) -> None:
    model, data, _ = trained
    heights = torch.stack([item.depth_map for item in data.train_data])
    low, high = model.pre_processor.depth_low, model.pre_processor.depth_high
    assert heights.nanmean() - 0.01 < low < heights.nanmean() < high
    assert bool(model.model.teacher.estimated)
    assert (model.model.map_peak > model.model.map_mean).all()
    assert (model.model.map_peak != 1).all()  # as they start


def test_maps_are_measured_on_validation_images(trained: tuple[Mmrd, DepthFolder, Path]) -> None:
    model, data, _ = trained
    measured = model.eval().model.map_mean.clone()
    means = []
    for dataset in (data.train_data, data.val_data):
        model.model.calibrate(model.inputs(batch) for batch in normal_batches(model, dataset=dataset))
        means.append(model.model.map_mean.clone())
    assert not torch.allclose(measured, means[0])
    assert torch.allclose(measured, means[1])


def test_a_checkpoint_predicts_alike_and_needs_no_network(
    trained: tuple[Mmrd, DepthFolder, Path],
    no_network: None,  # noqa: ARG001
) -> None:
    model, data, checkpoint = trained
    loaded = Mmrd.load_from_checkpoint(checkpoint, weights_only=True, map_location="cpu").eval()
    inputs = raw_pairs(data, 3)
    with torch.inference_mode():
        expected, found = model.eval()(*inputs), loaded(*inputs)
    torch.testing.assert_close(found._asdict(), expected._asdict(), rtol=0, atol=0)


def test_tests_predicts_and_draws(trained: tuple[Mmrd, DepthFolder, Path], parts: Path, tmp_path: Path) -> None:
    _, data, checkpoint = trained
    model = Mmrd.load_from_checkpoint(checkpoint, weights_only=True)
    model.visualizer = Mmrd.configure_visualizer()
    engine = make_engine(tmp_path)
    (results,) = engine.test(model, datamodule=data)
    assert 0 <= results["image_AUROC"] <= 1
    drawn = sorted(tmp_path.rglob("*.png"))
    assert len(drawn) == len(data.test_data)  # none over another
    assert {path.parent.parent.name for path in drawn} == {"good", "colour", "depth", "both"}
    with Image.open(drawn[0]) as picture:
        panels = np.asarray(picture)
    assert panels.shape[1] > 4.9 * 256  # photo, depth, ground truth, heat map, decision
    depth = panels[40:-40, 256 + 40 : 512 - 40]
    assert depth.std() > 1
    where = parts / "metal" / "test" / "depth"
    dataset = DepthPredictDataset(where / "rgb", where / "xyz", source=data.source)
    batches = make_engine(tmp_path).predict(model, dataset=dataset)
    assert batches is not None
    assert sum(len(batch.pred_score) for batch in batches) == 2


def test_training_goes_on_with_the_statistics_and_constants_that_it_had(
    trained: tuple[Mmrd, DepthFolder, Path],
    parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,  # noqa: ARG001
) -> None:
    first, _, checkpoint = trained
    kept = torch.load(checkpoint, weights_only=True)
    for owner, estimator in ((SiameseTeacher, "estimate"), (DepthPreProcessor, "calibrate")):
        monkeypatch.setattr(owner, estimator, None)  # a call would fail
    model = build()
    engine = make_engine(tmp_path, max_epochs=3, limit_val_batches=0)
    engine.fit(model, datamodule=scans(parts), ckpt_path=checkpoint)
    assert engine.trainer.global_step == 1.5 * kept["global_step"] > 0
    state = model.state_dict()
    of_teacher = {name: value for name, value in kept["state_dict"].items() if name.startswith("model.teacher.")}
    assert any(name.endswith("running_mean") for name in of_teacher)
    assert all(torch.equal(state[name], value) for name, value in of_teacher.items())
    for name in CONSTANTS:
        assert torch.equal(getattr(model.pre_processor, name), getattr(first.pre_processor, name))


@pytest.mark.filterwarnings("ignore")  # the command line turns on everything that the libraries have to say
def test_the_command_line_predicts_on_a_datamodule_with_depth(
    trained: tuple[Mmrd, DepthFolder, Path], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data, checkpoint = trained
    monkeypatch.chdir(tmp_path)
    small = [f"--model.{name}={value}" for name, value in SMALL.items()]
    where = [f"--data.root={parts}", "--data.category=metal", "--data.removal_distance=0", "--data.num_workers=0"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    AnomalibCLI(["predict", "--model=Mmrd", *small, "--data=DepthFolder", *where, *quiet, f"--ckpt_path={checkpoint}"])
    drawn = sorted(tmp_path.rglob("*.png"))
    assert len(drawn) == len(data.test_data)
    with Image.open(drawn[0]) as picture:
        assert picture.width == 5 * 256


def test_an_export_takes_pairs_of_any_size_and_predicts_as_the_model(
    trained: tuple[Mmrd, DepthFolder, Path], exported: Path
) -> None:
    model, data, _ = trained
    graph = core().read_model(exported)
    sources = {
        operator.get_friendly_name(): {i.get_source_output().get_node().get_type_name() for i in operator.inputs()}
        for operator in graph.get_ops()
    }
    assert "Constant" not in {"/".join(kinds) for kinds in sources.values()}  # what no input reaches is computed
    compiled = core().compile_model(graph, "CPU", F32)
    for size in (None, (96, 64)):
        check_predictions(model, compiled, data, size)


def check_predictions(model: Mmrd, compiled: Any, data: DepthFolder, size: tuple[int, int] | None) -> None:
    """Compare an exported model with its source on pairs of a size (default: their own), with holes in the depth."""
    assert [taken.any_name for taken in compiled.inputs] == ["image", "depth"]
    for count in (1, 2, 7):
        photos, depths = raw_pairs(data, count)
        if size:
            photos, depths = (nn.functional.interpolate(part, size) for part in (photos, depths))
        depths[..., 5:30, 10:20] = torch.nan
        depths[1:2] = torch.nan  # a frame without any depth
        with torch.inference_mode():
            expected = model.eval()(photos, depths)
        found = compiled({"image": photos.numpy(), "depth": depths.numpy()})
        for name in ("pred_score", "anomaly_map"):
            np.testing.assert_allclose(found[name], getattr(expected, name).numpy(), atol=1e-4, rtol=1e-4)


def test_every_call_needs_both_inputs(trained: tuple[Mmrd, DepthFolder, Path], exported: Path) -> None:
    model, data, _ = trained
    with pytest.raises(ValueError, match=r"Expected a depth map with every photo.*branches='rgb'"):
        model(torch.rand(1, 3, 80, 80))
    photo, depth = (part[0] for part in raw_pairs(data, 1))
    with torch.inference_mode():
        expected = model.eval()(photo[None], depth[None])
    inferencer = DepthInferencer(exported, config=F32)
    score = inferencer.predict(photo, depth).score
    np.testing.assert_allclose(score, expected.pred_score.item(), rtol=1e-4)
    with pytest.raises(TypeError, match="got no depth"):
        inferencer.predict(photo)  # OpenVINO alone would use the depth of the call before
    with pytest.raises(ValueError, match="Expected depth of shape"):
        inferencer.predict(photo, torch.rand(3, 80, 80))
    with pytest.raises(ValueError, match="Expected depth of the image's aspect ratio"):
        inferencer.predict(photo, torch.rand(1, 80, 60))


def test_a_torch_export_takes_pairs(
    trained: tuple[Mmrd, DepthFolder, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data, _ = trained
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    inferencer = DepthTorchInferencer(model.to_torch(tmp_path), device="cpu")
    photo, depth = (part[0] for part in raw_pairs(data, 1))
    with torch.inference_mode():
        expected = model.eval()(photo[None], depth[None])
    torch.testing.assert_close(inferencer.predict(photo, depth).pred_score, expected.pred_score)
    with pytest.raises(ValueError, match="Expected depth maps of 1 channels"):
        inferencer.predict(photo, torch.rand(3, 80, 80))
    with pytest.raises(TypeError, match="got no depth"):
        inferencer.predict(photo)
    with pytest.raises(
        ValueError, match=r"Expected photos of one shape in a batch, got \(3, 32, 32\) and \(3, 64, 64\)\. Predict"
    ):
        inferencer.predict([photo, photo[:, ::2, ::2]], [depth, depth])
    with pytest.warns(RuntimeWarning, match=r"Expected depths up to about .* in a depth map, got .* Use the unit"):
        inferencer.predict(photo, 1000 * depth)


def test_8_bits_are_calibrated_with_both_inputs(
    trained: tuple[Mmrd, DepthFolder, Path], exported: Path, tmp_path: Path
) -> None:
    model, data, _ = trained
    for suffix in (".xml", ".bin"):
        shutil.copy(exported.with_suffix(suffix), tmp_path)
    small = tmp_path / exported.name
    quantize(small, [model.raw_inputs(data.train_data[index]) for index in range(len(data.train_data))])
    assert small.with_suffix(".bin").stat().st_size < 0.5 * exported.with_suffix(".bin").stat().st_size
    photos, depths = (part.numpy() for part in raw_pairs(data, 4))
    maps = [
        core().compile_model(file, "CPU", EXACT)({"image": photos, "depth": depths})["anomaly_map"].ravel()
        for file in (small, exported)
    ]
    assert np.corrcoef(*maps)[0, 1] > 0.9


class Steps(Callback):
    """Notes which training steps had a cache of the teacher's features."""

    def __init__(self) -> None:
        self.cached: list[bool] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        del trainer
        self.cached.append(pl_module._cache.features is not None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"branches": "rgb"},
        {"branches": "two_branch", "loss": "flat+pixel"},
        {"target_fusion": "modulation"},
        {"interaction": "intra", "augmentation": RandomHorizontalFlip()},
    ],
    ids=lambda arguments: "_".join(map(str, arguments.values()))[:24],
)
def test_every_kind_trains_all_of_its_student(arguments: dict[str, Any], parts: Path, tmp_path: Path) -> None:
    fixed, steps, model = "augmentation" not in arguments, Steps(), build(**arguments)
    before = {name: parameter.clone() for name, parameter in model.model.student.named_parameters()}
    engine = make_engine(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[steps])
    engine.fit(model, datamodule=scans(parts))
    after = dict(model.model.student.named_parameters())
    assert {name for name in before if torch.equal(before[name], after[name])} == set()
    assert steps.cached == [fixed] * 2  # what looks different each time is not cached
    assert bool(model.model.teacher.estimated) is (arguments.get("branches") != "rgb")
    (results,) = engine.test(model, datamodule=scans(parts))
    assert 0 <= results["image_AUROC"] <= 1


def test_normals_of_points_are_computed_in_a_graph_of_fixed_size(parts: Path, tmp_path: Path) -> None:
    model, data, size = build(branches="aux", aux="normals"), scans(parts, depth="points"), (96, 64)
    make_engine(tmp_path, max_epochs=1, limit_val_batches=0).fit(model, datamodule=data)
    file = model.to_onnx(tmp_path, input_size=size)
    weights = {initializer.name for initializer in onnx.load(file).graph.initializer}
    assert any(name.startswith("model.student.") for name in weights)
    assert not any(name.startswith(("model.loss.", "model.teacher.teacher.ready")) for name in weights)
    compiled = core().compile_model(file, "CPU", F32)
    shapes = [[side.max_length for side in taken.partial_shape][1:] for taken in compiled.inputs]
    assert shapes == [[3, *size], [3, *size]]
    check_predictions(model, compiled, data, size)


def test_photos_alone_are_refused_and_what_to_do_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"DepthFolder.*or set branches='rgb'"):
        make_engine(tmp_path, max_epochs=1).fit(build(), datamodule=make_data(tmp_path / "photos"))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
def test_a_list_of_loaders_is_refused(parts: Path, tmp_path: Path) -> None:
    data = scans(parts)
    data.setup()
    with pytest.raises(ValueError, match=r"Expected one training loader of .*, got list\."):
        make_engine(tmp_path, max_steps=1).fit(build(), train_dataloaders=[data.train_dataloader()])


def folder_3d(base: Path, **arguments: Any) -> Folder3D:
    """Folder3D of anomalib for a category in MVTec 3D-AD's layout."""
    return Folder3D(
        name="metal",
        root=base,
        normal_dir="train/good/rgb",
        normal_depth_dir="train/good/xyz",
        normal_test_dir="test/good/rgb",
        normal_test_depth_dir="test/good/xyz",
        abnormal_dir="test/both/rgb",
        abnormal_depth_dir="test/both/xyz",
        mask_dir="test/both/gt",
        train_batch_size=3,
        eval_batch_size=2,
        num_workers=0,
        **arguments,
    )


def test_anomalibs_folder_3d_gives_the_depth_that_ours_gives(parts: Path, tmp_path: Path) -> None:
    data = folder_3d(parts / "metal")
    models = [build(branches="aux"), build(branches="aux")]
    for model, datamodule in zip(models, (data, scans(parts, depth="points")), strict=True):
        make_engine(tmp_path, max_steps=1, limit_val_batches=0).fit(model, datamodule=datamodule)
    theirs, ours = (model.pre_processor for model in models)
    assert theirs.depth_channels == ours.depth_channels == 3
    assert [getattr(theirs, name) for name in CONSTANTS] == [getattr(ours, name) for name in CONSTANTS]


def test_augmentations_that_leave_the_depth_as_it_is_are_refused(parts: Path, tmp_path: Path) -> None:
    data = folder_3d(parts / "metal", train_augmentations=RandomHorizontalFlip())
    with pytest.raises(ValueError, match=r"Expected no augmentations for Folder3DDataset, got some, .* of DepthPrePro"):
        make_engine(tmp_path, max_steps=1, limit_val_batches=0).fit(build(), datamodule=data)


def test_depth_in_which_0_is_missing_is_no_height(parts: Path, tmp_path: Path) -> None:
    base = shutil.copytree(parts / "metal", tmp_path / "metal")
    for path in base.rglob("*.tiff"):
        tifffile.imwrite(path, tifffile.imread(path)[..., 2])
    with pytest.raises(ValueError, match=r"Expected points x, y, z from Folder3DDataset, got .* Use DepthFolder\."):
        make_engine(tmp_path, max_steps=1, limit_val_batches=0).fit(build(), datamodule=folder_3d(base))


@pytest.mark.real
def test_the_command_for_the_papers_table_goes_on_where_it_was_broken_off(
    parts: Path, tmp_path: Path, shared: Callable[[str], Path]
) -> None:
    """As documented, on a tree of MVTec 3D-AD's layout, with a smaller teacher and two categories."""
    for category in ("bagel", "carrot"):
        shutil.copytree(parts / "metal", tmp_path / "mvtec_3d" / category)
    setup = Setup(
        data_root=tmp_path / "mvtec_3d",
        weights=shared("weights/resnet18_tv_in1k_layers1-3_f16.safetensors"),
        batch_size=2,
        threads=torch.get_num_threads(),
        results=tmp_path / "mvtec_3d.csv",
        work=tmp_path / "work",
    )

    def command(*data: str) -> list[Row]:
        accuracy(setup, models=["Mmrd"], variants=["paper"], data=list(data), seeds=[0], steps=1)
        return read_rows(tmp_path / "mvtec_3d.csv")

    first = command("bagel")
    assert {row.category for row in first} == {"bagel"}
    every = command("bagel", "carrot")
    assert every[: len(first)] == first
    assert {row.category for row in every[len(first) :]} == {"carrot"}
    assert {row.subset for row in every} == {"all", "colour", "depth", "both"}
    assert command("bagel", "carrot") == every
