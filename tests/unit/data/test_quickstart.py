# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The quick-start datamodule, as anomalib drives it."""

from pathlib import Path

import pytest
import torch
from anomalib.data import AnomalibDataModule
from torchvision.transforms.v2 import RandomHorizontalFlip

from anomalib_mkd.data import Quickstart

SMALL = {"image_size": 64, "train_images": 10, "test_good": 2, "per_defect": 1, "train_batch_size": 4}


@pytest.fixture
def datamodule(tmp_path: Path) -> Quickstart:
    module = Quickstart(root=tmp_path, category="metal", **SMALL)
    module.prepare_data()
    module.setup()
    return module


def test_anomalib_lists_it() -> None:
    assert Quickstart in AnomalibDataModule.__subclasses__()
    assert Quickstart().name == "Quickstart"


def test_batches(datamodule: Quickstart) -> None:
    batch = next(iter(datamodule.train_dataloader()))
    assert tuple(batch.image.shape) == (4, 3, 64, 64)
    assert 0 <= batch.image.min() < batch.image.max() <= 1
    test = next(iter(datamodule.test_dataloader()))
    assert tuple(test.gt_mask.shape) == (5, 64, 64)
    assert torch.equal(test.gt_mask.flatten(1).any(1), test.gt_label)
    assert test.gt_label.sum() == 3


def test_thresholds_come_from_training_images(datamodule: Quickstart) -> None:
    assert len(datamodule.train_data) == 8
    assert len(datamodule.val_data) == 2
    assert all("/train/good/" in path for path in datamodule.val_data.samples.image_path)
    assert not set(datamodule.val_data.samples.image_path) & set(datamodule.train_data.samples.image_path)


def test_the_split_repeats(tmp_path: Path, datamodule: Quickstart) -> None:
    again = Quickstart(root=tmp_path, category="metal", **SMALL)
    again.prepare_data()
    again.setup()
    assert list(again.val_data.samples.image_path) == list(datamodule.val_data.samples.image_path)


def test_augmentations_reach_their_stage(tmp_path: Path) -> None:
    flip = RandomHorizontalFlip()
    module = Quickstart(root=tmp_path, category="metal", train_augmentations=flip, **SMALL)
    module.prepare_data()
    module.setup()
    assert module.train_data.augmentations is flip
    assert module.test_data.augmentations is None


def test_wrong_arguments_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fabric or metal or washer, got 'bottle'"):
        Quickstart(root=tmp_path, category="bottle")
    with pytest.raises(ValueError, match="image_size"):
        Quickstart(root=tmp_path, image_size=16)
    assert list(tmp_path.iterdir()) == []
