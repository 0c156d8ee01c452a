# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a file is, and which images are copies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from anomalib_mkd.check import images
from anomalib_mkd.check.images import SIDE, exact_copies, mask_fault, near_copies, read_all, read_facts

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(0)


def picture(size: int = 96, channels: int = 3) -> Image.Image:
    coarse = Image.fromarray(RANDOM.integers(60, 200, (12, 12, channels), dtype=np.uint8).squeeze())
    return coarse.resize((size, size), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("suffix", "mode", "kind"),
    [
        (".png", "RGB", "PNG"),
        (".jpg", "L", "JPEG"),
        (".bmp", "RGB", "BMP"),
        (".tiff", "RGBA", "TIFF"),
        (".png", "P", "PNG"),
    ],
)
def test_a_whole_file(tmp_path: Path, suffix: str, mode: str, kind: str) -> None:
    picture().convert(mode).save(tmp_path / f"0{suffix}")
    facts = read_facts(tmp_path / f"0{suffix}")
    assert (facts.fault, facts.format, facts.mode, facts.size, facts.turned) == (None, kind, mode, (96, 96), False)
    assert facts.fingerprint is not None
    assert len(facts.fingerprint) == SIDE**2
    assert facts.depth is None
    assert read_facts(tmp_path / f"0{suffix}", decode=False).fingerprint is None


@pytest.mark.parametrize(
    ("dtype", "name", "depth"),
    [
        (np.uint16, "0.png", "16 bits"),
        (np.uint16, "0.tif", "16 bits"),
        (np.int32, "0.tif", "32 bits"),
        (np.float32, "0.tiff", "floating point"),
    ],
)
def test_deep_images(tmp_path: Path, dtype: type, name: str, depth: str) -> None:
    Image.fromarray(np.full((8, 8), 3000, dtype)).save(tmp_path / name)
    assert read_facts(tmp_path / name, decode=False).depth == depth


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_deep_colours(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"0{suffix}"), np.full((8, 8, 3), 3000, np.uint16))
    assert read_facts(tmp_path / f"0{suffix}").depth == "16 bits"
    assert read_facts(tmp_path / f"0{suffix}", decode=False).depth == "16 bits"


def test_several_pages(tmp_path: Path) -> None:
    for name, kind in (("0.tif", "TIFF"), ("1.jpg", "MPO")):
        picture().save(tmp_path / name, kind, save_all=True, append_images=[picture()])
    assert [read_facts(tmp_path / name).pages for name in ("0.tif", "1.jpg")] == [2, 1]


def test_damaged_files(tmp_path: Path) -> None:
    whole = tmp_path / "0.jpg"
    picture().save(whole)
    (tmp_path / "1.jpg").write_bytes(whole.read_bytes()[:-300])
    (tmp_path / "2.jpg").touch()
    (tmp_path / "3.jpg").write_text("not an image")
    (tmp_path / "4.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "5.jpg").mkdir()
    picture().save(tmp_path / "6.png")
    (tmp_path / "6.png").write_bytes((tmp_path / "6.png").read_bytes()[:-300])
    faults = [each.fault for each in read_all(sorted(tmp_path.iterdir()))]
    assert faults[0] is None
    assert "truncated" in str(faults[1])
    assert faults[2:5] == ["empty", "not an image", "a broken link"]
    assert all(faults[5:])
    assert read_facts(tmp_path / "1.jpg", decode=False).fault is None  # its header is whole


@pytest.mark.parametrize(("cores", "decode", "threads"), [(64, True, 8), (2, True, 2), (64, False, 16), (2, False, 16)])
def test_threads_are_bound_by_memory_or_by_the_disk(
    monkeypatch: pytest.MonkeyPatch, cores: int, *, decode: bool, threads: int
) -> None:
    made: list[int] = []

    def pool(number: int) -> ThreadPoolExecutor:
        made.append(number)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(images, "allowed_cores", lambda: cores)
    monkeypatch.setattr(images, "ThreadPoolExecutor", pool)
    assert (list(read_all([], decode=decode)), made) == ([], [threads])


@pytest.mark.parametrize("decode", [True, False])
def test_a_file_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, decode: bool) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "line.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    fault = "Image size (600 pixels) exceeds limit of 200 pixels. Cut it into parts, or scale it down"
    assert read_facts(tmp_path / "line.png", decode=decode).fault == fault


def test_a_turned_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "0.jpg", exif=exif)
    assert read_facts(tmp_path / "0.jpg").turned


@pytest.mark.parametrize(
    ("pixels", "fault"),
    [
        ([[0, 255], [0, 0]], None),
        ([[0, 1], [2, 3]], None),
        ([[0, 0], [0, 0]], "marks nothing"),
        ([[1, 1], [1, 1]], "marks the whole image"),
        (np.arange(36).reshape(6, 6), "36 grey values, of which those above half of the highest count as defective"),
    ],
)
def test_odd_masks(tmp_path: Path, pixels: list[list[int]], fault: str | None) -> None:
    Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / "mask.png")
    assert mask_fault(tmp_path / "mask.png") == fault


def test_copies(tmp_path: Path) -> None:
    """Equal pixels in another format are exact copies, saved anew are near, the others neither."""
    pictures = [picture() for _ in range(8)]
    for index, each in enumerate(pictures):
        each.save(tmp_path / f"train{index}.png")
    pictures[0].save(tmp_path / "test0.bmp")
    pictures[1].save(tmp_path / "test1.jpg", quality=70)
    picture().save(tmp_path / "test2.png")
    train = list(read_all(sorted(tmp_path.glob("train*"))))
    test = list(read_all(sorted(tmp_path.glob("test*"))))
    assert [sorted(path.name for path in paths) for paths in exact_copies([*train, *test])] == [
        ["test0.bmp", "train0.png"]
    ]
    near = [(path.name, other.name) for path, other in near_copies(train, test)]
    assert near == [("test0.bmp", "train0.png"), ("test1.jpg", "train1.png")]
    assert near_copies([], test) == near_copies(train, []) == []
    assert near_copies(train[:1], test[:1])


def test_a_fixed_camera_is_no_copy(tmp_path: Path) -> None:
    """All images differ by noise alone: none is nearer to the training images than these are to each other."""
    scene = np.asarray(picture()).astype(int)
    for split in ("train", "test"):
        for index in range(6):
            noisy = scene + RANDOM.normal(0, 4, scene.shape).astype(int)
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(tmp_path / f"{split}{index}.png")
    train, test = (list(read_all(sorted(tmp_path.glob(f"{split}*")))) for split in ("train", "test"))
    assert near_copies(train, test) == []


def test_many_rows_keep_their_places(tmp_path: Path) -> None:
    """More images than a block holds."""
    for index in range(600):
        Image.fromarray(RANDOM.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)).save(tmp_path / f"{index:03}.png")
    facts = list(read_all(sorted(tmp_path.iterdir())))
    assert near_copies(facts, facts[:300]) == [(each.path, each.path) for each in facts[:300]]
