# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny categories with depth in every layout: a tilted plate, and a box on it, darker than the plate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 48
BOX = (slice(16, 32), slice(16, 32))
#: What a layout's folders hold: split, label, number of images.
PARTS = (("train", "good", 4), ("validation", "good", 2), ("test", "good", 2), ("test", "bad", 2))


def scan(index: int, *, bump: bool = False) -> np.ndarray[Any, Any]:
    """Points ``(48, 48, 3)`` in metres: a plate in 0.6 m, 3 cm below the box where there is one."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / 1000.0
    z = 0.6 + 0.2 * columns + np.random.default_rng(index).normal(0, 2e-4, (SIZE, SIZE))
    if bump:
        z[BOX] -= 0.03 * np.sqrt(1 + 0.2**2)
    return np.stack([columns, rows, z], -1).astype(np.float32)


def picture(index: int, *, bump: bool = False, size: int = SIZE) -> Image.Image:
    """Colour image of the same."""
    pixels = np.random.default_rng(index).integers(150, 170, (SIZE, SIZE, 3), np.uint8)
    if bump:
        pixels[BOX] = 40
    return Image.fromarray(pixels).resize((size, size))


def mask(*, bump: bool) -> Image.Image:
    """Ground truth, whose values need not be 255."""
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[BOX] = 3 * bump
    return Image.fromarray(truth)


def write_depth(path: Path, points: np.ndarray[Any, Any]) -> None:
    """Write points as TIFF, or z as TIFF, in millimetres as PNG, or as NumPy array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(np.round(points[..., 2] * 1000).astype(np.uint16)).save(path)
    elif path.suffix == ".npy":
        np.save(path, points)
    else:
        tifffile.imwrite(path, points, photometric="minisblack")


def save(image: Image.Image, path: Path) -> None:
    """Save an image in a folder that may be new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def draw_mvtec3d(base: Path, *, bump: bool = True, gt: str | None = "gt", depth: str = ".tiff") -> Path:
    """MVTec 3D-AD's layout; normal scans have the box too if ``bump``, so that a plane can be removed."""
    for split, label, count in PARTS:
        home = base / split / label
        for index in range(count):
            bad = label == "bad"
            save(picture(index, bump=bad), home / "rgb" / f"{index:03}.png")
            write_depth(home / "xyz" / f"{index:03}{depth}", scan(index, bump=bump or bad))
            if gt and split == "test":
                save(mask(bump=bad), home / gt / f"{index:03}.png")
    return base


def draw_folder(base: Path, *, depth: str = ".png", validation: bool = True) -> Path:
    """A user's folder: JPEG images, masks apart, depth in folders of the same names."""
    for split, label, count in PARTS:
        for index in range(count):
            if split == "validation" and not validation:
                continue
            save(picture(index, bump=label == "bad"), base / split / label / f"{index:03}.jpg")
            write_depth(base / "depth" / split / label / f"{index:03}{depth}", scan(index, bump=True))
            if label == "bad":
                save(mask(bump=True), base / "ground_truth" / label / f"{index:03}_mask.png")
    return base


def draw_eyecandies(base: Path) -> Path:
    """Eyecandies' layout: steps between two depths of each scan's own, labels in the masks, a private test set."""
    parts = {"train": (4, 3), "val": (2, 2), "test_public": (4, 2), "test_private": (2, 2)}
    for split, (count, digits) in parts.items():
        for index in range(count):
            stem = str(base / split / "data" / f"{index:0{digits}}")
            bad = split == "test_public" and index % 2 == 1
            home = base / split / "data"
            home.mkdir(parents=True, exist_ok=True)
            z = scan(index, bump=True)[..., 2]
            steps = np.round((z - z.min()) / np.ptp(z) * 65535).astype(np.uint16)
            for light in range(6):
                picture(index, bump=bad).point(lambda value, light=light: value * (light + 1) // 6).save(
                    f"{stem}_image_{light}.png"
                )
            Image.fromarray(steps).save(f"{stem}_depth.png")
            info = f"normalization:\n  min: {z.min()}\n  max: {z.max()}\n"
            (home / f"{index:0{digits}}_info_depth.yaml").write_text(info)
            mask(bump=bad).save(f"{stem}_mask.png")
            mask(bump=True).save(f"{stem}_bumps_mask.png")
            picture(index).save(f"{stem}_normals.png")
    return base
