# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every format of depth, its units and its missing values."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from anomalib_mkd.depth import read_depth
from anomalib_mkd.depth.reading import eyecandies_range, unproject

if TYPE_CHECKING:
    from pathlib import Path

Z = np.linspace(0.5, 0.7, 48 * 40, dtype=np.float32).reshape(48, 40)
XYZ = np.stack([Z - 1, 1 - Z, Z], -1)


def write(path: Path, values: np.ndarray[Any, Any]) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, photometric="minisblack", compression="zlib")
    return path


@pytest.mark.parametrize("suffix", [".tiff", ".tif", ".TIFF", ".npy"])
@pytest.mark.parametrize("values", [Z, XYZ, XYZ.astype(np.float64), Z[..., None]], ids=["z", "xyz", "double", "z1"])
def test_floating_point_numbers_are_units(tmp_path: Path, suffix: str, values: np.ndarray[Any, Any]) -> None:
    depth = read_depth(write(tmp_path / f"scan{suffix}", values))
    assert depth.dtype == np.float32
    assert np.array_equal(depth, np.squeeze(values).astype(np.float32))
    assert read_depth(tmp_path / f"scan{suffix}", 1000)[0, 0].max() == pytest.approx(500)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".npy"])
def test_steps_need_a_scale(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"scan{suffix}", np.round(Z * 1000).astype(np.uint16))
    assert np.abs(read_depth(path, 0.001) - Z).max() < 6e-4
    with pytest.raises(ValueError, match=r"Expected a scale for the uint16 .* got none\. Set the unit per step"):
        read_depth(path)


def test_steps_between_two_depths(tmp_path: Path) -> None:
    path = write(tmp_path / "000_depth.png", np.array([[0, 65535], [13107, 26214]], np.uint16))
    assert read_depth(path, (0.5, 1.5)).tolist() == pytest.approx(np.array([[0.5, 1.5], [0.7, 0.9]], np.float32))
    with pytest.raises(ValueError, match="Expected 16-bit steps between two depths"):
        read_depth(write(tmp_path / "scan.npy", Z), (0.5, 1.5))


def test_missing_points_are_nan_in_every_channel(tmp_path: Path) -> None:
    scan = XYZ.copy()
    scan[0, 0], scan[1, 1, 0], scan[2, 2, 1], scan[3, 3, 2], scan[4, 4, 2] = 0, np.nan, np.inf, -np.inf, 0
    scan[5, 5, :2] = 0  # on the optical axis, and measured
    depth = read_depth(write(tmp_path / "scan.tiff", scan))
    missing = np.isnan(depth)
    assert np.argwhere(missing.any(-1)).tolist() == [[index, index] for index in range(5)]
    assert np.array_equal(missing.any(-1), missing.all(-1))
    steps = np.round(Z * 1000).astype(np.uint16)
    steps[7, 7] = 0
    assert np.argwhere(np.isnan(read_depth(write(tmp_path / "scan.png", steps), 0.001))).tolist() == [[7, 7]]


@pytest.mark.parametrize("values", [np.zeros((48, 40), np.uint8), np.zeros((48, 40, 3), np.uint8)], ids=["L", "RGB"])
def test_pictures_of_depth_are_refused(tmp_path: Path, values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected at least 16 bits .* got uint8\. Save raw depth"):
        read_depth(write(tmp_path / "scan.png", values), 0.001)


@pytest.mark.parametrize("shape", [(5,), (4, 48, 40), (48, 40, 2), (2, 48, 40, 3), (0, 40)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected depth \(H, W\) or points \(H, W, 3\) in .* got the shape"):
        read_depth(write(tmp_path / "scan.npy", np.ones(shape, np.float32)))


@pytest.mark.parametrize("name", ["scan.tiff", "scan.png", "scan.npy"])
def test_broken_files_are_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no depth")
    with pytest.raises(ValueError, match=rf"Expected a readable depth map in .*{name}, got"):
        read_depth(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_depth(tmp_path / f"other-{name}")


def test_a_scan_of_too_many_pixels_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "scan.png", np.ones((48, 40), np.uint16))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ValueError, match=r"^Expected fewer pixels in the depth map .*scan\.png, got .*Cut it into parts"
    ):
        read_depth(file, 0.001)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected a depth map as \.tif, \.tiff, \.png, \.npy, got .*scan\.exr"):
        read_depth(tmp_path / "scan.exr")


def test_eyecandies_has_the_range_beside_the_scan(tmp_path: Path) -> None:
    info = tmp_path / "007_info_depth.yaml"
    info.write_text("normalization:\n  min: 0.25\n  max: 1.5\n")
    assert eyecandies_range(tmp_path / "007_depth.png") == (0.25, 1.5)
    for content in ("normalization: 3\n", "other: 1\n", "a: [\n", "normalization: {min: x, max: 1}\n"):
        info.write_text(content)
        with pytest.raises(ValueError, match=r"Expected normalization: min, max in .*007_info_depth\.yaml"):
            eyecandies_range(tmp_path / "007_depth.png")
    info.unlink()
    with pytest.raises(ValueError, match="got FileNotFoundError"):
        eyecandies_range(tmp_path / "007_depth.png")


def test_a_tilted_plane_in_space_is_one_after_unprojection() -> None:
    """Depth of a tilted plane is not linear in the pixels; in space its points lie on z = 0.6 + 0.4 x."""
    x = (np.arange(40) - 19.5) / 50
    depth = np.tile(0.6 / (1 - 0.4 * x), (48, 1)).astype(np.float32)
    cloud = unproject(depth, focal_length=50)
    assert np.abs(cloud[..., 2] - 0.6 - 0.4 * cloud[..., 0]).max() < 1e-6


def test_no_torch_is_needed(tmp_path: Path) -> None:
    """A scan is read and prepared where torch cannot be imported."""
    surface = np.full((48, 48), 0.6)
    surface[16:32, 16:32] = 0.55
    program = f"""
import sys
sys.modules |= dict.fromkeys(("torch", "torchvision", "anomalib"))  # importing them fails from here on
from anomalib_mkd.depth import DepthSource, prepare_depth, read_depth
path = {str(write(tmp_path / "scan.npy", surface))!r}
assert abs(prepare_depth(read_depth(path)).height[24, 24] - 0.05) < 1e-3
assert (DepthSource()(path)[0] == prepare_depth(read_depth(path)).height).all()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)  # noqa: S603
