# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every layout of images with depth, from files to batches."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from anomalib import TaskType
from anomalib.data import DepthBatch, Folder3D
from PIL import Image
from torchvision.transforms.v2 import RandomHorizontalFlip, Resize

from anomalib_mkd.data import DepthFolder, MultiCategory, Recipe, make_dataset
from anomalib_mkd.data.depth.folder import EYECANDIES_FOCAL_LENGTH
from anomalib_mkd.depth import DepthSource
from tests import depth_folders
from tests.depth_folders import BOX, draw_eyecandies, draw_folder, draw_mvtec3d, save, write_depth

if TYPE_CHECKING:
    from collections.abc import Callable


def ready(root: Path, **arguments: Any) -> DepthFolder:
    datamodule = DepthFolder(root, "part", num_workers=0, **arguments)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def names(datamodule: DepthFolder) -> list[list[str]]:
    sets = (datamodule.train_data, datamodule.val_data, datamodule.test_data)
    base = (datamodule.root / datamodule.category).resolve()
    return [[Path(path).relative_to(base).as_posix() for path in each.samples["image_path"]] for each in sets]


def test_mvtec3d(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part")
    datamodule = ready(tmp_path)
    train, validation, test = names(datamodule)
    assert train == [f"train/good/rgb/00{index}.png" for index in range(4)]
    assert validation == ["validation/good/rgb/000.png", "validation/good/rgb/001.png"]
    assert test == [f"test/{label}/rgb/00{index}.png" for label in ("bad", "good") for index in range(2)]
    batch = next(iter(datamodule.test_dataloader()))
    assert isinstance(batch, DepthBatch)
    assert batch.image.shape == (4, 3, 48, 48)
    assert batch.depth_map.shape == (4, 1, 48, 48)
    assert batch.depth_map.dtype == torch.float32
    assert batch.gt_label.tolist() == [True, True, False, False]
    assert torch.equal(batch.gt_mask.flatten(1).any(1), batch.gt_label)
    assert batch.gt_mask[0][BOX].all()
    assert batch.depth_map[0, 0][BOX].mean() == pytest.approx(0.03, abs=1e-3)
    assert batch.depth_map[0, 0, 0, 0] == 0


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "predict_dataloader"])
def test_every_split_gives_batches(tmp_path: Path, loader: str) -> None:
    """With pandas 3 anomalib's ``MVTec3D`` fails on the first two."""
    draw_mvtec3d(tmp_path / "part")
    batch = next(iter(getattr(ready(tmp_path), loader)()))
    assert batch.depth_map.shape[1:] == (1, 48, 48)
    if loader != "predict_dataloader":
        assert not batch.gt_label.any()
        assert not batch.gt_mask.any()


def test_points_are_served_as_scanned(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part")
    points = depth_folders.scan(0, bump=True)
    points[0, 0], points[1, 1, 2] = 0, np.nan
    write_depth(tmp_path / "part/test/bad/xyz/000.tiff", points)
    depth = next(iter(ready(tmp_path, depth="points").test_dataloader())).depth_map
    assert depth.shape == (4, 3, 48, 48)
    assert torch.argwhere(depth.isnan().all(1)).tolist() == [[0, 0, 0], [0, 1, 1]]
    assert depth.isnan().sum() == 6
    assert torch.equal(depth[0, :, 5, 6], torch.from_numpy(points[5, 6]))


def test_3d_adam_calls_its_masks_otherwise(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part", gt="ground_truth")
    assert next(iter(ready(tmp_path).test_dataloader())).gt_mask.flatten(1).any(1).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_without_masks_only_images_are_scored(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part", gt=None)
    datamodule = ready(tmp_path)
    assert datamodule.task == TaskType.CLASSIFICATION
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.gt_mask is None
    assert batch.gt_label.sum() == 2


@pytest.mark.parametrize("layout", ["mvtec3d", "folder"])
def test_without_validation_folder_training_images_are_set_aside(tmp_path: Path, layout: Any) -> None:
    (draw_mvtec3d if layout == "mvtec3d" else draw_folder)(tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "validation")
    found = [names(ready(tmp_path, layout=layout, depth_scale=s, val_split_ratio=0.5)) for s in (0.001, 0.001)]
    assert found[0] == found[1]
    train, validation, test = found[0]
    assert len(train) == len(validation) == 2
    assert all(name.startswith("train/good/") for name in train + validation)
    assert not set(train) & set(validation)
    assert all(name.startswith("test/") for name in test)


@pytest.mark.parametrize("depth", [".png", ".tiff", ".npy"])
def test_folder(tmp_path: Path, depth: str) -> None:
    draw_folder(tmp_path / "part", depth=depth)
    datamodule = ready(tmp_path, layout="folder", depth_scale=0.001 if depth == ".png" else None)
    assert [len(each) for each in names(datamodule)] == [4, 2, 4]
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.gt_label.tolist() == [True, True, False, False]
    assert torch.equal(batch.gt_mask.flatten(1).any(1), batch.gt_label)
    assert batch.depth_map[0, 0][BOX].mean() == pytest.approx(0.03, abs=2e-3)


def test_eyecandies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_eyecandies(tmp_path / "part")
    focal_length = 1000 * 0.6  # of the drawn scans, nearly
    monkeypatch.setattr("anomalib_mkd.data.depth.folder.EYECANDIES_FOCAL_LENGTH", focal_length)
    datamodule = ready(tmp_path, layout="eyecandies")
    train, validation, test = names(datamodule)
    assert train == [f"train/data/00{index}_image_4.png" for index in range(4)]
    assert validation == ["val/data/00_image_4.png", "val/data/01_image_4.png"]
    assert test == [f"test_public/data/0{index}_image_4.png" for index in range(4)]
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.gt_label.tolist() == [False, True, False, True]
    assert torch.equal(batch.gt_mask.flatten(1).any(1), batch.gt_label)
    assert batch.depth_map[0, 0][BOX].mean() == pytest.approx(0.03, abs=2e-3)
    points = next(iter(ready(tmp_path, layout="eyecandies", depth="points").test_dataloader())).depth_map
    assert points[0, 2].numpy() == pytest.approx(depth_folders.scan(0, bump=True)[..., 2], abs=1e-5)


def test_eyecandies_without_a_mask_are_not_good(tmp_path: Path) -> None:
    (draw_eyecandies(tmp_path / "part") / "test_public/data/01_mask.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected a mask for each image in .*, got none for 01_image_4\.png"):
        ready(tmp_path, layout="eyecandies")


def test_eyecandies_camera_is_the_published_one(tmp_path: Path) -> None:
    assert DepthFolder(tmp_path, "part", "eyecandies").source.focal_length == EYECANDIES_FOCAL_LENGTH == 711.11
    with pytest.raises(ValueError, match="Expected no depth_scale for Eyecandies"):
        DepthFolder(tmp_path, "part", "eyecandies", depth_scale=0.001)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_images_become_rgb(tmp_path: Path, mode: str) -> None:
    draw_mvtec3d(tmp_path / "part")
    path = tmp_path / "part/test/bad/rgb/000.png"
    Image.open(path).convert(mode).save(path)
    assert next(iter(ready(tmp_path).test_dataloader())).image.shape == (4, 3, 48, 48)


def test_the_synthetic_set_with_its_three_kinds_of_defect(tmp_path: Path) -> None:
    recipe = Recipe("washer", image_size=64, train_images=3, test_good=2, per_defect=1, layout="mvtec3d")
    make_dataset(tmp_path, recipe)
    datamodule = DepthFolder(tmp_path, "washer", num_workers=0, removal_distance=0, inlier_distance=0.002)
    datamodule.setup()
    assert [len(each) for each in names(datamodule)] == [3, 2, 5]
    assert sorted(datamodule.test_data.samples["label"]) == ["both", "colour", "depth", "good", "good"]
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.gt_mask.flatten(1).any(1).sum() == 3
    assert batch.depth_map.nan_to_num().abs().max() < 0.05  # metres above the ground


# --- sizes -----------------------------------------------------------------------------------------------------------


def test_depth_may_have_another_size_than_the_image(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part")
    save(depth_folders.picture(0, size=96), tmp_path / "part/train/good/rgb/000.png")
    item = ready(tmp_path).train_data[0]
    assert item.image.shape == (3, 96, 96)
    assert item.depth_map.shape == (1, 48, 48)


def test_depth_of_another_aspect_is_refused(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part")
    depth_folders.picture(0).resize((50, 48)).save(tmp_path / "part/train/good/rgb/000.png")
    with pytest.raises(ValueError, match=r"aspect ratio in .*000\.tiff, got 48x48 for an image of 48x50\. Register"):
        ready(tmp_path).train_data[0]


def test_scans_of_several_sizes_share_a_batch(tmp_path: Path) -> None:
    draw_mvtec3d(tmp_path / "part")
    points = depth_folders.scan(0, bump=True)[:24, :24].copy()
    points[3, 3] = 0
    write_depth(tmp_path / "part/test/bad/xyz/000.tiff", points)
    datamodule = ready(tmp_path, plane="none")
    item, batch = datamodule.test_data[0], next(iter(datamodule.test_dataloader()))
    assert item.depth_map.shape == (1, 24, 24)
    assert batch.depth_map.shape == (4, 1, 48, 48)
    assert torch.equal(batch.depth_map[0, :, ::2, ::2], item.depth_map)  # nearest neighbours: no value in between


def test_the_models_resize_reaches_image_and_mask(tmp_path: Path) -> None:
    """Anomalib hands it to the data sets; the depth waits for the pre-processor."""
    draw_mvtec3d(tmp_path / "part")
    data = ready(tmp_path).test_data
    data.augmentations = Resize((32, 32))
    item = data[0]
    assert item.image.shape == (3, 32, 32)
    assert item.gt_mask.shape == (32, 32)
    assert item.depth_map.shape == (1, 48, 48)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train_augmentations", "val_augmentations", "test_augmentations", "augmentations"])
def test_augmentations_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="Use the augmentations of DepthPreProcessor"):
        DepthFolder(tmp_path, "part", **{name: RandomHorizontalFlip()})


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda part: (part / "test/bad/xyz/001.tiff").unlink(), FileNotFoundError, r"a depth map for .*bad/rgb/001"),
        (
            lambda part: (part / "train/good/xyz/001.tiff").unlink(),
            FileNotFoundError,
            r"a depth map for .*good/rgb/001",
        ),
        (lambda part: (part / "test/bad/gt/001.png").unlink(), ValueError, r"Expected the mask of .*bad/rgb/001\.png"),
        (
            lambda part: save(depth_folders.picture(0), part / "test/bad/rgb/001.jpg"),
            ValueError,
            "one file of each name",
        ),
        (lambda part: shutil.rmtree(part / "train"), FileNotFoundError, "Expected train images .* holds test, valid"),
        (lambda part: shutil.rmtree(part / "test"), FileNotFoundError, "Expected test images .* holds train, valid"),
        (shutil.rmtree, FileNotFoundError, "layout mvtec3d, got none; the folder holds nothing"),
    ],
)
def test_incomplete_folders_are_reported(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    spoil(draw_mvtec3d(tmp_path / "part"))
    with pytest.raises(error, match=message):
        ready(tmp_path)


def test_hidden_files_and_folders_are_no_parts(tmp_path: Path) -> None:
    """As macOS and Jupyter leave them."""
    base = draw_mvtec3d(tmp_path / "part")
    for image in base.rglob("*.png"):
        image.with_name(f"._{image.name}").write_bytes(b"metadata")
    (base / "test" / ".ipynb_checkpoints" / "rgb").mkdir(parents=True)
    shutil.copy(base / "test/good/rgb/000.png", base / "test/.ipynb_checkpoints/rgb/000.png")
    assert [len(each) for each in names(ready(tmp_path))] == [4, 2, 4]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected layout to be 'mvtec3d' or 'eyecandies' or 'folder', got 'coco'"):
        DepthFolder(tmp_path, "part", layout="coco")


# --- neighbours ------------------------------------------------------------------------------------------------------


def test_prepared_maps_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_mvtec3d(tmp_path / "part")
    first = ready(tmp_path, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 10
    fresh = ready(tmp_path).test_data[0].depth_map
    monkeypatch.setattr(DepthSource, "_prepare", None)
    assert torch.equal(first.test_data[0].depth_map, fresh)


def test_categories_with_depth_join(tmp_path: Path) -> None:
    for category in ("part", "piece"):
        draw_mvtec3d(tmp_path / category)
    joined = MultiCategory("DepthFolder", ["part", "piece"], root=tmp_path, num_workers=0)
    joined.setup()
    batch = next(iter(joined.test_dataloader()))
    assert batch.depth_map.shape[1:] == (1, 48, 48)


@pytest.mark.parametrize("channels", [1, 3])
def test_folder3d_of_anomalib_gives_the_same_batches(tmp_path: Path, channels: int) -> None:
    base = draw_mvtec3d(tmp_path / "part")
    if channels == 1:
        for path in base.rglob("*.tiff"):
            write_depth(path, depth_folders.scan(0)[..., 2])
    datamodule = Folder3D(
        "part",
        root=base,
        normal_dir="train/good/rgb",
        normal_depth_dir="train/good/xyz",
        abnormal_dir="test/bad/rgb",
        abnormal_depth_dir="test/bad/xyz",
        normal_test_dir="test/good/rgb",
        normal_test_depth_dir="test/good/xyz",
        mask_dir="test/bad/gt",
        num_workers=0,
    )
    datamodule.setup()
    for loader in (datamodule.train_dataloader(), datamodule.test_dataloader()):
        assert next(iter(loader)).depth_map.shape[1:] == (channels, 48, 48)


@pytest.mark.real
def test_the_real_table_top(shared: Callable[[str], Path]) -> None:
    """Every normal scan has its plane; the scans of objects hold something higher than 2 cm."""
    root = shared("data/rgbd/table_top").parent
    datamodule = DepthFolder(root, "table_top", num_workers=0, eval_batch_size=20, removal_distance=0)
    datamodule.setup()
    assert [len(each) for each in names(datamodule)] == [50, 8, 54]
    for item in datamodule.val_data:
        assert item.depth_map.nanmedian().abs() < 0.002
        assert item.depth_map.isnan().float().mean() < 0.05
    objects = [index for index, label in enumerate(datamodule.test_data.samples["label"]) if label == "object"]
    item = datamodule.test_data[objects[5]]
    assert item.depth_map[0][item.gt_mask].nanmedian() > 0.02
