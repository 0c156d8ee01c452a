# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Images with depth to be predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils.data import DataLoader

from anomalib_mkd.data import DepthFolder, DepthPredictDataset
from tests.depth_folders import draw_folder, draw_mvtec3d

if TYPE_CHECKING:
    from pathlib import Path


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    base = draw_mvtec3d(tmp_path / "part")
    dataset = DepthPredictDataset(base / "test/bad/rgb", base / "test/bad/xyz")
    assert len(dataset) == 2
    batch = next(iter(DataLoader(dataset, batch_size=2, collate_fn=dataset.collate_fn)))
    assert batch.image.shape == (2, 3, 48, 48)
    assert batch.depth_map.shape == (2, 1, 48, 48)
    assert batch.gt_label is None
    assert [path[-8:] for path in batch.image_path] == ["/000.png", "/001.png"]
    assert [path[-9:] for path in batch.depth_path] == ["/000.tiff", "/001.tiff"]


@pytest.mark.parametrize("depth", ["depth/test/bad/001.png", "depth/test/bad"])
def test_one_image_prepared_as_in_training(tmp_path: Path, depth: str) -> None:
    base = draw_folder(tmp_path / "part")
    datamodule = DepthFolder(tmp_path, "part", "folder", num_workers=0, depth_scale=0.001)
    datamodule.setup()
    (item,) = list(DepthPredictDataset(base / "test/bad/001.jpg", base / depth, datamodule.source))
    assert torch.equal(item.depth_map, datamodule.test_data[1].depth_map)
    assert torch.equal(item.image, datamodule.test_data[1].image)


def test_an_image_without_depth_is_reported(tmp_path: Path) -> None:
    base = draw_mvtec3d(tmp_path / "part")
    (base / "test/bad/xyz/001.tiff").unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected a depth map for each image in .*, got none for 001\.png"):
        DepthPredictDataset(base / "test/bad/rgb", base / "test/bad/xyz")
    with pytest.raises(FileNotFoundError, match=r"got none for 000\.png, 001\.png"):
        DepthPredictDataset(base / "test/bad/rgb", base / "test/bad/xyz/000.tiff")


def test_images_of_one_name_have_no_depth_of_their_own(tmp_path: Path) -> None:
    base = draw_mvtec3d(tmp_path / "part")
    with pytest.raises(ValueError, match=r"Expected images of different names for the depth maps in .*000\.png"):
        DepthPredictDataset(base / "test", base / "test/bad/xyz")
