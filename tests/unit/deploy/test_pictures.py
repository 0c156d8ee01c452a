# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What becomes a photo or a depth map, and what is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from anomalib_mkd.deploy.pictures import depth_map, is_many, photo, photo_with_depth, read_region
from anomalib_mkd.depth import DepthSource
from anomalib_mkd.pictures import read_mask, read_picture, upright_size
from tests.depth_folders import SIZE, scan

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
SCALED = PHOTO.transpose(2, 0, 1)[None] / np.float32(255)
DEPTH = np.full((10, 15), 1.5, dtype=np.float32)


@pytest.mark.parametrize(
    "given",
    [
        PHOTO,
        PHOTO.transpose(2, 0, 1),
        PHOTO[None],
        Image.fromarray(PHOTO),
        PHOTO / np.float32(255),
        PHOTO / 255.0,
        (PHOTO / np.float32(255)).transpose(2, 0, 1),
        torch.from_numpy(SCALED),
    ],
    ids=["bytes", "channels first", "batch of one", "PIL", "floats", "doubles", "floats, channels first", "tensor"],
)
def test_photos_in_any_form_are_one(given: Any) -> None:
    found = photo(given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, SCALED, atol=1e-7)


def test_floats_may_leave_their_range_by_rounding() -> None:
    rounded = photo(np.array([[[-5e-7, 0.5, 1 + 5e-7]]], np.float32))
    assert rounded.ravel().tolist() == [0, 0.5, 1]
    with pytest.raises(ValueError, match=r"got 0\.5 to 1\.00001\. Divide"):
        photo(np.array([[[0.5, 0.5, 1.00001]]]))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_of_3_rows_are_no_photo_channels_first(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"^Expected an RGB photo .*, got the shape \(3, 30, {channels}\)"):
        photo(np.zeros((3, 30, channels), np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_files_of_8_bits_are_read(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode in {"CMYK", "YCbCr"} else "png"
    Image.fromarray(PHOTO).convert(mode).save(tmp_path / f"part.{suffix}")
    with Image.open(tmp_path / f"part.{suffix}") as opened:
        np.testing.assert_array_equal(read_picture(tmp_path / f"part.{suffix}"), np.asarray(opened.convert("RGB")))
    assert photo(str(tmp_path / f"part.{suffix}")).shape == SCALED.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_is_read_upright(tmp_path: Path, orientation: int) -> None:
    turns = {3: 2, 6: 1, 8: 3}
    lying = np.rot90(PHOTO, turns.get(orientation, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for file in (tmp_path / "part.png", tmp_path / "part.tif"):
        Image.fromarray(lying).save(file, exif=exif)
        found = read_picture(file)
        if orientation in {1, *turns}:
            np.testing.assert_array_equal(found, PHOTO)
        else:
            assert found.shape == ((20, 30, 3) if orientation < 5 else (30, 20, 3))
        with Image.open(file) as opened:
            assert upright_size(opened) == found.shape[1::-1]
            opened.load()
            assert upright_size(opened) == found.shape[1::-1]


def test_a_turned_photo_with_depth_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(PHOTO).save(tmp_path / "part.png", exif=exif)
    with pytest.raises(ValueError, match=r"^Expected a photo stored upright, .* in .*part.png, got one turned"):
        photo_with_depth(tmp_path / "part.png", DEPTH)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.full((4, 6), 9000, np.uint16), "I;16"),
        (np.full((4, 6), 9000, np.int32), "I"),
        (np.full((4, 6), 0.5, np.float32), "F"),
    ],
)
def test_files_of_more_bits_are_refused(tmp_path: Path, values: Any, mode: str) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", values)
    with pytest.raises(ValueError, match=f"Expected 8 bits per channel in .*deep.tif, got Pillow's mode '{mode}'"):
        photo(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match="Expected 8 bits per channel in the image"):
        photo(Image.fromarray(values))


@pytest.mark.parametrize(("suffix", "channels"), [("png", 3), ("tif", 3), ("ppm", 3), ("png", 4), ("tif", 4)])
def test_colour_of_16_bits_is_refused(tmp_path: Path, suffix: str, channels: int) -> None:
    """Pillow keeps the upper 8 bits, which a camera of 12 bits leaves nearly empty."""
    file = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(file), np.full((4, 6, channels), 4095, np.uint16))
    message = r"^Expected 8 bits per channel in .*, got more in colour\. Convert"
    with pytest.raises(ValueError, match=message):
        photo(file)
    with Image.open(file) as opened, pytest.raises(ValueError, match=message):
        photo(opened)
    with pytest.raises(ValueError, match=message):
        read_mask(file, (4, 6))
    with pytest.raises(ValueError, match=message):
        read_region(file)


def test_colour_of_16_bits_in_planes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((3, 4, 6), np.uint16), photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match="got more in colour"):
        photo(tmp_path / "deep.tif")


@pytest.mark.parametrize("suffix", ["tif", "webp", "png", "gif"])
def test_files_of_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    file, page = tmp_path / f"part.{suffix}", Image.fromarray(PHOTO)
    page.save(file, save_all=True, append_images=[Image.fromarray(255 - PHOTO)])
    for read in (photo, read_region, lambda path: read_mask(path, PHOTO.shape[:2])):
        with pytest.raises(ValueError, match=r"^Expected one page in .*part\.\w+, got 2\. Save each"):
            read(file)


def test_a_phones_photo_with_a_preview_is_read(tmp_path: Path) -> None:
    page = Image.fromarray(PHOTO)
    page.save(tmp_path / "part.jpg", "MPO", save_all=True, append_images=[page.resize((15, 10))])
    with Image.open(tmp_path / "part.jpg") as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    assert read_picture(tmp_path / "part.jpg").shape == PHOTO.shape


def test_16_bits_of_a_pixel_are_not_16_of_a_channel(tmp_path: Path) -> None:
    """A BMP of 5, 6 and 5 bits."""
    header = struct.pack("<2sIHHI", b"BM", 98, 0, 0, 66) + struct.pack(
        "<IiiHHIIiiII", 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0
    )
    (tmp_path / "part.bmp").write_bytes(header + struct.pack("<III", 0xF800, 0x7E0, 0x1F) + b"\xff\xff" * 16)
    assert read_picture(tmp_path / "part.bmp").min() == 255


@pytest.mark.parametrize("limit", [100, 400])  # of which the higher makes Pillow warn, here an error
def test_a_file_of_too_many_pixels_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    file = tmp_path / "line.png"
    Image.fromarray(PHOTO).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    text = (
        r"^Expected fewer pixels in the image .*line\.png, got Image size \(600 pixels\) exceeds limit of \d00 pixels\."
    )
    with pytest.raises(ValueError, match=text + r" Cut it into parts, or scale it down\.$"):
        photo(file)
    with pytest.raises(ValueError, match=text):
        photo_with_depth(file, DEPTH)


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, cut: int) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"Expected a readable image in .*cut\.jpg, got \w+Error.*Save it again"):
        photo(tmp_path / "cut.jpg")
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        photo(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PHOTO[..., 0], r"Expected an RGB photo .*got the shape \(20, 30\)"),
        (np.concatenate([PHOTO, PHOTO[..., :1]], -1), r"got the shape \(20, 30, 4\)"),
        (PHOTO[:0], r"got the shape \(0, 30, 3\)"),
        (np.stack([PHOTO, PHOTO]), r"got the shape \(2, 20, 30, 3\)"),
        (PHOTO.astype(np.uint16), "Expected a photo of uint8, or of floats in 0..1, got uint16"),
        (PHOTO.astype(np.int64), "got int64"),
        (PHOTO > 9, "got bool"),
        (PHOTO.astype(np.float32), "Expected a photo of floats in 0..1, got 0 to 255"),
        (SCALED - 0.1, "Expected a photo of floats in 0..1, got -0.1"),
        (np.where(SCALED > 0.5, np.nan, SCALED), "got nan to nan"),
        (None, "Expected an RGB photo"),
    ],
)
def test_refuses_what_is_no_photo(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        photo(given)


def test_many_are_lists_and_arrays_of_four_axes() -> None:
    assert all(map(is_many, ([PHOTO], (PHOTO,), PHOTO[None], torch.from_numpy(SCALED))))
    assert not any(map(is_many, (PHOTO, "part.png", Image.fromarray(PHOTO))))


def test_a_region_is_what_is_not_black(tmp_path: Path) -> None:
    mask = PHOTO[..., 0] > 99
    Image.fromarray(mask).save(tmp_path / "region.png")
    np.testing.assert_array_equal(read_region(tmp_path / "region.png"), mask)
    Image.fromarray(mask).save(tmp_path / "region.webp", lossless=True)
    np.testing.assert_array_equal(read_region(tmp_path / "region.webp"), mask)
    with pytest.raises(FileNotFoundError):
        read_region(tmp_path / "missing.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_is_outside_a_region(tmp_path: Path, mode: str) -> None:
    mask = PHOTO[..., 0] > 99
    white = np.full((20, 30, 4), 255, np.uint8)
    white[..., 3] = 255 * mask
    if mode == "P":
        indices = Image.fromarray(mask.astype(np.uint8), "P")
        indices.putpalette([255] * 6)
        indices.save(tmp_path / "region.png", transparency=0)
    elif mode == "RGB":
        Image.fromarray(np.where(mask[..., None], white[..., :3], 200)).save(
            tmp_path / "region.png", transparency=(200,) * 3
        )
    else:
        Image.fromarray(white).convert(mode).save(tmp_path / "region.png")
    np.testing.assert_array_equal(read_region(tmp_path / "region.png"), mask)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("region.jpg", {}),
        ("region.jfif", {"format": "JPEG"}),
        ("region.png", {"format": "JPEG"}),
        ("region.mpo", {}),
        ("region.tif", {"compression": "jpeg"}),
        ("region.webp", {}),
        ("extended.webp", {"exif": b"Exif", "icc_profile": b"odd"}),
    ],
)
def test_a_region_with_losses_is_refused(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    Image.fromarray(np.where(PHOTO > 99, np.uint8(255), np.uint8(0))).save(tmp_path / name, **options)
    with pytest.raises(ValueError, match=rf"^Expected a mask without losses, got .*{name}"):
        read_region(tmp_path / name)


def test_a_region_of_everything_is_refused(tmp_path: Path) -> None:
    Image.new("L", (30, 20), 1).save(tmp_path / "region.png")
    with pytest.raises(ValueError, match=r"^Expected a mask with black areas, got none in .*region\.png"):
        read_region(tmp_path / "region.png")


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (DEPTH, (1, 1, 10, 15)),
        (DEPTH[None], (1, 1, 10, 15)),
        (np.stack([DEPTH] * 3, axis=-1), (1, 3, 10, 15)),
        (torch.ones(1, 1, 10, 15), (1, 1, 10, 15)),
    ],
    ids=["map", "one channel", "points", "tensor"],
)
def test_depth_in_any_form_keeps_its_values(given: Any, shape: tuple[int, ...]) -> None:
    depths = depth_map(given)
    assert depths.shape == shape
    np.testing.assert_array_equal(np.sort(depths.ravel()), np.sort(np.asarray(given, dtype=np.float32).ravel()))


def test_a_scan_is_prepared_as_in_training(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", scan(0, bump=True))
    source = DepthSource(removal_distance=0.004)
    depths = depth_map(tmp_path / "scan.npy", source)
    assert depths.shape == (1, 1, SIZE, SIZE)
    np.testing.assert_array_equal(depths[0], source(tmp_path / "scan.npy"))
    assert depth_map(tmp_path / "scan.npy").shape == (1, 3, SIZE, SIZE)


def test_a_file_of_prepared_heights_is_the_array(tmp_path: Path) -> None:
    heights = np.array([[0.0, 0.02], [np.nan, 0.0]], np.float32)  # 0 is the background
    np.save(tmp_path / "heights.npy", heights)
    np.testing.assert_array_equal(depth_map(tmp_path / "heights.npy"), depth_map(heights))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (DEPTH[0], "Expected a depth map"),
        (np.ones((2, 1, 10, 15)), "Expected a depth map"),
        (np.ones((10, 15), np.uint8), "Expected depth as floats in the unit of training, got uint8"),
        (np.ones((10, 15), np.int16), "got int16"),
        (np.full((10, 15), np.nan), "Expected a depth map with measured points"),
    ],
)
def test_refuses_what_is_no_depth(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        depth_map(given)


def test_a_pair_has_both_of_one_section() -> None:
    with pytest.raises(TypeError, match=r"got no depth\. Pass both on every call"):
        photo_with_depth(PHOTO, None)
    with pytest.raises(TypeError, match="got no image"):
        photo_with_depth(None, DEPTH)
    with pytest.raises(ValueError, match="aspect ratio in the depth map, got 15x10 for an image of 20x30"):
        photo_with_depth(PHOTO, DEPTH.T)
