# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Painted data sets hold their layout, repeat with their seed, and read no test image."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from anomalib_mkd.data import MultiCategory, Recipe, make_dataset
from anomalib_mkd.depth import read_depth
from benchmark import accuracy
from benchmark.painters import PAINTERS, SURFACE_PAINTERS, paint, paint_scan
from benchmark.rows import DATA
from benchmark.runs import Run, run_data
from benchmark.selection import SCAN_DEFECTS, measure_candidates, painted_data, painted_scans

if TYPE_CHECKING:
    from pathlib import Path


def normal_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(60, 200, (8, 8), dtype=np.uint8))
        coarse.resize((64, 64)).save(folder / f"{number:03}.png")


@pytest.mark.parametrize("kind", range(len(PAINTERS)))
def test_paint_changes_the_mask_and_little_else(kind: int) -> None:
    rng = np.random.default_rng(3)
    image, other = (rng.random((64, 64, 3), dtype=np.float32) for _ in range(2))
    painted, mask = paint(image, other, rng, kind)
    assert painted.shape == image.shape
    assert set(np.unique(mask)) == {0.0, 1.0}
    change = np.abs(painted - image).max(axis=2)
    assert change[mask == 1].mean() > 5 * change[mask == 0].mean()


def test_painted_data(tmp_path: Path) -> None:
    normal_images(tmp_path / "set" / "train" / "good", 40)
    target = painted_data(tmp_path / "set", tmp_path / "painted", seed=1)
    train = {path.stem for path in (target / "train" / "good").iterdir()}
    good = {path.stem for path in (target / "test" / "good").iterdir()}
    defects = set((target / "test").glob("[!g]*/*.png"))
    assert (len(train), len(good), len(defects)) == (32, 4, 4)
    assert not train & (good | {path.stem for path in defects})
    for path in defects:
        mask = Image.open(target / "ground_truth" / path.parent.name / f"{path.stem}_mask.png")
        assert mask.getextrema() == (0, 255)
    again = painted_data(tmp_path / "set", tmp_path / "again", seed=1)
    for path in defects:
        assert path.read_bytes() == (again / path.relative_to(target)).read_bytes()


@pytest.mark.parametrize("kind", range(len(SURFACE_PAINTERS)))
@pytest.mark.parametrize("shape", [(64, 64), (32, 32, 3)], ids=["distances", "points of half the size"])
def test_depth_moves_along_its_rays_where_the_photo_is_painted(kind: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    image, other = (rng.random((64, 64, 3), dtype=np.float32) for _ in range(2))
    scan = (1 + 0.5 * rng.random(shape)).astype(np.float32)
    scan[:4] = np.nan
    painted, moved, mask = paint_scan(image, scan, other, rng, kind)
    assert (painted != image).any()
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(moved), np.isnan(scan))
    stretch = (moved / scan).reshape(*shape[:2], -1)
    np.testing.assert_allclose(stretch[4:], stretch[4:, :, :1].repeat(stretch.shape[-1], -1), rtol=1e-5)
    inside = mask[:: 64 // shape[0], :: 64 // shape[1]][4:] == 1
    change = np.abs(stretch[4:, :, 0] - 1)
    assert change[inside].mean() > 5 * change[~inside].mean()
    assert change.max() < 0.08 * 0.5


def test_painted_scans(tmp_path: Path) -> None:
    recipe = Recipe("metal", image_size=64, train_images=20, test_good=2, per_defect=1, layout="mvtec3d")
    source = make_dataset(tmp_path, recipe)
    shutil.rmtree(source / "test")  # and no test image is there to be read
    target = painted_scans(source, tmp_path / "painted", seed=1)
    names = {part: {path.stem for path in (target / part / "rgb").iterdir()} for part in ("train/good", "test/good")}
    assert {part: len(found) for part, found in names.items()} == {"train/good": 14, "test/good": 6}
    assert not names["train/good"] & names["test/good"]
    for name in names["test/good"]:
        photos = {label: target / "test" / label / "rgb" / f"{name}.png" for label in ("good", *SCAN_DEFECTS)}
        pixels = {label: Image.open(path).tobytes() for label, path in photos.items()}
        assert pixels["good"] == pixels["depth"] != pixels["colour"] == pixels["both"]
        scans = {label: read_depth(next((target / "test" / label / "xyz").glob(f"{name}.*"))) for label in photos}
        for label, other, alike in (("colour", "good", True), ("both", "depth", True), ("depth", "good", False)):
            assert np.array_equal(scans[label], scans[other], equal_nan=True) is alike
    run = Run("Mmrd", "default", "metal", 0, protocol="painted_scans", batch_size=2)
    shutil.move(target, tmp_path / "data" / "metal")
    datamodule = run_data(tmp_path / "data", run)
    assert [len(data) for data in (datamodule.train_data, datamodule.val_data, datamodule.test_data)] == [14, 2, 24]


def test_scans_without_depth_are_refused(tmp_path: Path) -> None:
    normal_images(tmp_path / "train" / "good" / "rgb", 12)
    with pytest.raises(FileNotFoundError, match=r"Expected depth of each image.*got none of 000"):
        painted_scans(tmp_path, tmp_path / "painted", seed=1)


def test_too_few_images(tmp_path: Path) -> None:
    normal_images(tmp_path / "set" / "train" / "good", 3)
    with pytest.raises(ValueError, match="Expected at least 10 images"):
        painted_data(tmp_path / "set", tmp_path / "painted", seed=1)


def test_a_joint_candidate_trains_on_the_painted_sets_of_all_its_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in DATA:
        normal_images(tmp_path / "data" / name / "train" / "good", 30)  # and no test image is there to be read
    measured: list[tuple[Run, dict[str, Any]]] = []
    monkeypatch.setattr(accuracy, "measure_run", lambda run, **options: measured.append((run, options)))
    measure_candidates(
        {"half": {"student_width": 0.5}},
        model="Dcam",
        data=["joint4"],
        seeds=[0],
        teacher="quickstart",
        steps=5,
        batch_size=2,
        results=tmp_path / "selection.csv",
        data_root=tmp_path / "data",
        work=tmp_path / "work",
    )
    ((run, options),) = measured
    assert (run.data, run.protocol, dict(run.arguments)) == ("joint4", "painted6", {"student_width": 0.5})
    datamodule = run_data(options["data_root"], run)
    datamodule.setup()
    assert isinstance(datamodule, MultiCategory)
    assert datamodule.categories == ["bottle", "screw", "metal_plate", "mt"]
    assert (len(datamodule.train_data), len(datamodule.test_data)) == (4 * 24, 4 * 6)
