# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Data sets of several categories as one."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from anomalib.data import ImageBatch, MVTecADDataset
from anomalib.data.datasets.base.depth import AnomalibDepthDataset
from anomalib.data.utils import random_split, split_by_label
from torch.utils.data import DataLoader, SequentialSampler
from torchvision.transforms.v2 import RandomHorizontalFlip, Resize

from anomalib_mkd.data import Parts
from anomalib_mkd.data.categories.joined import CategoryBatchSampler, JoinedDataset
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from pathlib import Path

    from anomalib.data import AnomalibDataset


def test_data(root: Path, category: str, **drawing: object) -> AnomalibDataset:
    draw_category(root / category, **drawing)
    datamodule = Parts(root=root, category=category, num_workers=0)
    datamodule.setup()
    return datamodule.test_data


test_data.__test__ = False


@pytest.fixture
def joined(tmp_path: Path) -> JoinedDataset:
    """A category of 4 images with masks, 64 px, and one of 3 without, 32 px."""
    return JoinedDataset(
        {
            "screw": test_data(tmp_path, "screw"),
            "bottle": test_data(tmp_path, "bottle", defects={"crack": 1}, size=32, mask=None, mode="L"),
        }
    )


def test_rows_know_the_category_and_items_do_not(joined: JoinedDataset) -> None:
    assert len(joined) == 7
    assert list(joined.samples["image_path"]) == sorted(joined.samples["image_path"])
    for index, category in enumerate(joined.category_per_item):
        item = joined[index]
        assert item.image_path == joined.samples["image_path"][index]
        assert f"/{category}/" in item.image_path
        assert item.image.shape == ((3, 64, 64) if category == "screw" else (3, 32, 32))  # grey files too
        assert "category" not in vars(item)
    assert joined.task == "segmentation"


def test_anomalib_can_take_it_apart(joined: JoinedDataset) -> None:
    """Its own tools sort, split and subsample the rows."""
    normal, defective = split_by_label(joined)
    assert [len(normal), len(defective)] == [4, 3]
    assert all(item.gt_label == 1 for item in (defective[index] for index in range(3)))
    first, second = random_split(joined, 0.5, seed=0)
    assert len(first) + len(second) == 7
    for half in (first, second):
        assert [half[index].image_path for index in range(len(half))] == list(half.samples["image_path"])
    assert (normal + defective).has_anomalous


def test_data_sets_of_different_classes(tmp_path: Path) -> None:
    draw_category(tmp_path / "official", suffix=".png")
    official = MVTecADDataset(tmp_path, "official", split="test")
    joined = JoinedDataset({"own": test_data(tmp_path, "own"), "official": official})
    assert len(list(DataLoader(joined, batch_size=8, collate_fn=joined.collate_fn))) == 1


def test_every_part_keeps_its_augmentations(joined: JoinedDataset) -> None:
    assert joined.augmentations is None
    resize = Resize((16, 16))
    joined.augmentations = resize
    assert joined.augmentations is resize
    assert joined[0].image.shape == joined[6].image.shape == (3, 16, 16)
    joined.parts["bottle"].augmentations = RandomHorizontalFlip()
    with pytest.raises(AttributeError, match="one augmentation for all categories"):
        _ = joined.augmentations


def test_kinds_of_items_do_not_mix(tmp_path: Path) -> None:
    class Depth(AnomalibDepthDataset):
        pass

    with pytest.raises(TypeError, match="items of one kind, got PartsDataset, Depth"):
        JoinedDataset({"image": test_data(tmp_path, "image"), "depth": Depth()})


def test_masks_of_normal_images_are_known(joined: JoinedDataset) -> None:
    """Normal images without a mask join those with one: theirs is empty."""
    normal, _ = split_by_label(joined)
    batch = next(iter(DataLoader(normal, batch_size=4, collate_fn=normal.collate_fn)))
    assert batch.gt_mask.shape == (4, 64, 64)
    assert not batch.gt_mask.any()


def test_masks_of_defective_images_are_not_invented(joined: JoinedDataset) -> None:
    batch = next(iter(DataLoader(joined, batch_size=7, collate_fn=joined.collate_fn)))
    assert batch.image.shape == (7, 3, 64, 64)  # anomalib resizes to the largest
    assert batch.gt_mask is None
    assert batch.gt_label.sum() == 3


def test_batches_of_one_category_keep_their_masks(joined: JoinedDataset) -> None:
    sampler = CategoryBatchSampler(SequentialSampler(joined), 3, drop_last=False, categories=joined.category_per_item)
    batches = list(DataLoader(joined, batch_sampler=sampler, collate_fn=joined.collate_fn))
    assert len(batches) == len(sampler) == 3
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [batch.gt_mask is None for batch in batches] == [True, False, False]
    assert sum(int(batch.gt_mask.flatten(1).any(1).sum()) for batch in batches[1:]) == 2
    assert torch.cat([batch.gt_label for batch in batches]).sum() == 3


def test_worker_processes_can_have_it(joined: JoinedDataset) -> None:
    copy = pickle.loads(pickle.dumps(joined))  # noqa: S301  # as a spawned worker gets it
    batch = pickle.loads(pickle.dumps(joined.collate_fn))([copy[0], copy[1]])  # noqa: S301
    assert isinstance(batch, ImageBatch)
