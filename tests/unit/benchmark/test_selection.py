# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Painted data sets hold their layout, repeat with their seed, and read no test image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from anomalib_mkd.benchmark import accuracy
from anomalib_mkd.benchmark.rows import DATA
from anomalib_mkd.benchmark.runs import Run, run_data
from anomalib_mkd.benchmark.selection import PAINTERS, measure_candidates, paint, painted_data

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
        weights="quickstart",
        steps=5,
        batch_size=2,
        results=tmp_path / "selection.csv",
        shared=tmp_path,
        data_root=tmp_path / "data",
        work=tmp_path / "work",
    )
    ((run, options),) = measured
    assert (run.data, run.protocol, dict(run.arguments)) == ("joint4", "painted6", {"student_width": 0.5})
    datamodule = run_data(options["data_root"], run)
    datamodule.setup()
    assert datamodule.categories == ["bottle", "screw", "metal_plate", "mt"]
    assert (len(datamodule.train_data), len(datamodule.test_data)) == (4 * 24, 4 * 6)
