# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the inferencers make of files and arrays, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_mkd.deploy.depth_inferencer import pair
from anomalib_mkd.depth import DepthSource
from tests.depth_folders import SIZE, picture, scan

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = np.full((20, 30, 3), 51, dtype=np.uint8)
DEPTH = np.full((10, 15), 1.5, dtype=np.float32)


@pytest.mark.parametrize(
    "photo",
    [
        PHOTO,
        PHOTO.transpose(2, 0, 1).astype(np.float32) / 255,
        Image.fromarray(PHOTO),
        torch.full((1, 3, 20, 30), 0.2),
    ],
    ids=["bytes", "floats", "picture", "tensor"],
)
def test_photos_in_any_form_are_one(photo: Any) -> None:
    photos, _ = pair(photo, DEPTH)
    assert photos.shape == (1, 3, 20, 30)
    assert photos.dtype == np.float32
    np.testing.assert_allclose(photos, 0.2, atol=1e-6)


@pytest.mark.parametrize(
    ("depth", "shape"),
    [
        (DEPTH, (1, 1, 10, 15)),
        (DEPTH[None], (1, 1, 10, 15)),
        (np.stack([DEPTH] * 3, axis=-1), (1, 3, 10, 15)),
        (torch.ones(1, 1, 10, 15), (1, 1, 10, 15)),
    ],
    ids=["map", "one channel", "points", "tensor"],
)
def test_depth_in_any_form_keeps_its_values(depth: Any, shape: tuple[int, ...]) -> None:
    _, depths = pair(PHOTO, depth)
    assert depths.shape == shape
    np.testing.assert_array_equal(np.sort(depths.ravel()), np.sort(np.asarray(depth, dtype=np.float32).ravel()))


def test_files_are_read(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    np.save(tmp_path / "depth.npy", DEPTH)
    photos, depths = pair(tmp_path / "photo.png", tmp_path / "depth.npy")
    np.testing.assert_allclose(photos, 0.2, atol=1e-6)
    np.testing.assert_array_equal(depths[0, 0], DEPTH)


def test_a_scan_is_prepared_as_in_training(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", scan(0, bump=True))
    source = DepthSource(removal_distance=0.004)
    _, depths = pair(picture(0), tmp_path / "scan.npy", source)
    assert depths.shape == (1, 1, SIZE, SIZE)
    np.testing.assert_array_equal(depths[0], source(tmp_path / "scan.npy"))
    _, raw = pair(picture(0), tmp_path / "scan.npy")
    assert raw.shape == (1, 3, SIZE, SIZE)


def test_depth_above_one_stays_what_it_is() -> None:
    """Anomalib's inferencer divides everything above 1 by 255."""
    assert pair(PHOTO, DEPTH)[1].max() == 1.5


@pytest.mark.parametrize(
    ("photo", "depth", "error", "message"),
    [
        (PHOTO, None, TypeError, "got no depth. Pass both on every call"),
        (None, DEPTH, TypeError, "got no image"),
        (PHOTO[..., 0], DEPTH, ValueError, "Expected an RGB photo"),
        (PHOTO.astype(np.float32), DEPTH, ValueError, r"floats in 0\.\.1, got values of 51 to 51"),
        (PHOTO, DEPTH[0], ValueError, "Expected a depth map"),
        (PHOTO, np.ones((2, 1, 10, 15)), ValueError, "got 2 for 1"),
        (PHOTO, DEPTH.T, ValueError, "aspect ratio in the depth map, got 15x10 for an image of 20x30"),
    ],
)
def test_refuses_what_is_no_pair(photo: Any, depth: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pair(photo, depth)
