# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the drawn images promise: repeatable, exact masks, complete folders."""

import json
from pathlib import Path

import numpy as np
import pytest
from anomalib.data import MVTec3D
from anomalib.data.datasets.image.mvtecad import MVTecADDataset
from PIL import Image

from anomalib_mkd.data import Recipe, make_dataset, synthetic
from anomalib_mkd.data.synthetic import CATEGORIES, DEFECTS, DEPTH_DEFECTS, MANIFEST, take, take_depth

SMALL = {"image_size": 64, "train_images": 3, "test_good": 2, "per_defect": 2}


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes_other_seed_other_pictures(tmp_path: Path) -> None:
    first, again, other = (
        files(make_dataset(tmp_path / name, Recipe("fabric", seed=seed, **SMALL)))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again
    assert all(other[name] != first[name] for name in first if name.startswith("train"))


def test_every_picture_is_another() -> None:
    pictures = [take("metal", 0, split, index, 64).image.tobytes() for split in ("train", "test") for index in range(4)]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_its_mask_and_nothing_else(category: str, defect: str) -> None:
    for index in range(4):
        shot = take(category, 5, "test", index, 128, defect)
        changed = (shot.image != shot.clean).any(-1)
        assert not changed[~shot.mask].any()
        assert changed[shot.mask].mean() > 0.9
        assert 12 <= shot.mask.sum() < 0.2 * shot.mask.size


@pytest.mark.parametrize("category", CATEGORIES)
def test_pictures_are_neither_flat_nor_burnt(category: str) -> None:
    image = take(category, 0, "train", 0, 96).image
    assert image.std() > 5
    assert ((image == 0) | (image == 255)).mean() < 0.01


def test_defects_keep_to_the_part() -> None:
    shot = take("washer", 0, "test", 0, 96, "stain")
    corners = np.ones_like(shot.mask)
    corners[8:-8, 8:-8] = False
    assert not shot.mask[corners].any()


def test_layout_is_mvtecs(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, Recipe("washer", **SMALL))
    names = set(files(folder))
    assert {"train/good/002.png", "test/good/001.png", "test/dent/001.png", "ground_truth/dent/001_mask.png"} <= names
    assert len(names) == 3 + 2 + 3 * 2 * 2 + 1
    samples = MVTecADDataset(root=tmp_path, category="washer", split="test").samples
    assert sorted(samples.label_index) == [0, 0, 1, 1, 1, 1, 1, 1]
    mask = np.asarray(Image.open(folder / "ground_truth/dent/000_mask.png"))
    assert set(np.unique(mask)) == {0, 255}


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = synthetic._write, iter(range(100))

    def failing(*args: object) -> None:
        if next(calls) == 4:
            msg = "disk full"
            raise OSError(msg)
        write(*args)

    monkeypatch.setattr(synthetic, "_write", failing)
    with pytest.raises(OSError, match="disk full"):
        make_dataset(tmp_path, Recipe("metal", **SMALL))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert (make_dataset(tmp_path, Recipe("metal", **SMALL)) / MANIFEST).is_file()


def test_a_complete_folder_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("metal", **SMALL)
    folder = make_dataset(tmp_path, recipe)
    monkeypatch.setattr(synthetic, "_write", None)
    assert make_dataset(tmp_path, recipe) == folder
    manifest = (folder / MANIFEST).read_text().replace("image_size", "picture_size")  # the older name
    (folder / MANIFEST).write_text(manifest)
    assert make_dataset(tmp_path, recipe) == folder


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, Recipe("metal", **SMALL))
    with pytest.raises(FileExistsError, match="Remove it or choose another root"):
        make_dataset(tmp_path, Recipe("metal", seed=1, **SMALL))
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["seed"] == 0
    (folder / MANIFEST).unlink()
    with pytest.raises(FileExistsError, match="no readable manifest"):
        make_dataset(tmp_path, Recipe("metal", **SMALL))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()  # unlike a folder without permission, it stops root, too
    root = tmp_path / "file" / "quickstart"
    monkeypatch.setattr(synthetic, "take", None)
    with pytest.raises(
        OSError, match=rf"^Expected a writable folder for the drawn images, got '{root}' .*\. Start in a "
    ):
        make_dataset(root, Recipe("metal", **SMALL))


def test_a_faster_process_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("metal", **SMALL)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        make_dataset(tmp_path, recipe)
        return rename(self, target)

    partial = tmp_path / "elsewhere"
    monkeypatch.setattr(Path, "rename", late)
    make_dataset(tmp_path, recipe)
    assert not partial.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["metal"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"category": "carpet"}, "fabric or metal or washer, got 'carpet'"),
        ({"image_size": 32}, "Expected image_size >= 64 as a whole number, got 32"),
        ({"train_images": 0}, "train_images"),
        ({"test_good": 0}, "test_good"),
        ({"per_defect": 1.5}, "per_defect"),
        ({"seed": -1}, "seed"),
        ({"layout": "coco"}, "'mvtec' or 'mvtec3d', got 'coco'"),
    ],
)
def test_wrong_recipes_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**{"category": "metal", **wrong})


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("defect", DEPTH_DEFECTS)
def test_depth_defects_show_where_they_say(category: str, defect: str) -> None:
    for index in range(2):
        image, points, mask = take_depth(category, 2, "test", index, 96, defect)
        shot = take(category, 2, "test", index, 96, DEPTH_DEFECTS[defect][index])
        assert mask.any()
        assert (image != shot.clean).any() == (defect != "depth")
        assert (shot.height != shot.clean_height).any() == (defect != "colour")
        assert points.dtype == np.float32
        assert 0.5 < np.median(points[..., 2]) < 0.7


def test_anomalib_reads_the_layout_with_depth(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, Recipe("washer", layout="mvtec3d", **SMALL))
    assert (folder / "validation/good/rgb/000.png").is_file()
    datamodule = MVTec3D(root=tmp_path, category="washer", num_workers=0, eval_batch_size=4)
    datamodule.prepare_data()
    datamodule.setup()
    batch = next(iter(datamodule.test_dataloader()))
    assert tuple(batch.depth_map.shape) == (4, 3, 64, 64)
    labels = datamodule.test_data.samples.label.value_counts()
    assert labels.to_dict() == {"good": 2, "colour": 2, "depth": 2, "both": 2}
