# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Folders in MVTec AD's layout, of any image format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomalib_mkd.data import MVTecFolder
from tests.category_folders import draw_category


def ready(root: Path, category: str = "part", **arguments: object) -> MVTecFolder:
    datamodule = MVTecFolder(root=root, category=category, num_workers=0, **arguments)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize(
    ("suffix", "mask"), [(".jpg", "{}_mask.png"), (".JPG", "{}.png"), (".bmp", "{}_mask.bmp"), (".tiff", "{}.PNG")]
)
def test_any_format_with_masks_of_either_name(tmp_path: Path, suffix: str, mask: str) -> None:
    draw_category(tmp_path / "part", suffix=suffix, mask=mask)
    datamodule = ready(tmp_path)
    assert [len(data) for data in (datamodule.train_data, datamodule.val_data, datamodule.test_data)] == [4, 1, 4]
    batch = next(iter(datamodule.test_dataloader()))
    assert batch.gt_label.sum() == 2
    assert torch.equal(batch.gt_mask.flatten(1).any(1), batch.gt_label)
    assert (batch.gt_mask.flatten(1).sum(1)[batch.gt_label] == 16 * 16).all()


def test_thresholds_come_from_training_images(tmp_path: Path) -> None:
    draw_category(tmp_path / "part")
    datamodule = ready(tmp_path)
    assert all("/train/good/" in path for path in datamodule.val_data.samples["image_path"])
    again = ready(tmp_path)
    assert list(again.val_data.samples["image_path"]) == list(datamodule.val_data.samples["image_path"])


def test_masks_go_by_name_and_not_by_order(tmp_path: Path) -> None:
    """``a`` sorts before ``a_b``, but ``a_mask`` after ``a_b_mask``: anomalib, which pairs by order, refuses them."""
    folder = draw_category(tmp_path / "part")
    for home, ending in (("test/dent", ".jpg"), ("ground_truth/dent", "_mask.png")):
        (folder / home / f"000{ending}").rename(folder / home / f"a{ending}")
        (folder / home / f"001{ending}").rename(folder / home / f"a_b{ending}")
    samples = ready(tmp_path).test_data.samples
    pairs = {
        Path(image).stem: Path(mask).stem for image, mask in zip(samples.image_path, samples.mask_path, strict=True)
    }
    assert pairs["a"] == "a_mask"
    assert pairs["a_b"] == "a_b_mask"


def test_without_masks_only_images_are_scored(tmp_path: Path) -> None:
    draw_category(tmp_path / "part", mask=None)
    datamodule = ready(tmp_path)
    assert datamodule.task == "classification"
    assert next(iter(datamodule.test_dataloader())).gt_mask is None


def test_without_normal_test_images_some_training_images_are_moved(tmp_path: Path) -> None:
    draw_category(tmp_path / "part", good=0)
    datamodule = ready(tmp_path)
    normal = datamodule.test_data.samples.query("label_index == 0")
    assert len(normal) == 1
    assert not set(normal.image_path) & set(datamodule.train_data.samples.image_path)


def test_a_nested_category(tmp_path: Path) -> None:
    draw_category(tmp_path / "set" / "part")
    assert len(ready(tmp_path, "set/part").test_data) == 4


def test_missing_folders_name_what_is_there(tmp_path: Path) -> None:
    draw_category(tmp_path / "part")
    draw_category(tmp_path / "piece")
    with pytest.raises(FileNotFoundError, match=r"train/good in .*all, got none.*part, piece"):
        MVTecFolder(root=tmp_path, category="all")
    with pytest.raises(FileNotFoundError, match=r"categories in this root: none"):
        MVTecFolder(root=tmp_path / "nowhere", category="part")


@pytest.mark.parametrize("change", ["rename", "copy"])
def test_every_defective_image_has_one_mask(tmp_path: Path, change: str) -> None:
    masks = draw_category(tmp_path / "part") / "ground_truth" / "dent"
    if change == "rename":
        (masks / "000_mask.png").rename(masks / "1000_mask.png")
    else:
        (masks / "000.png").write_bytes((masks / "000_mask.png").read_bytes())
    with pytest.raises(ValueError, match=rf"Expected the mask of .*000.jpg .* got {0 if change == 'rename' else 2} "):
        ready(tmp_path)
