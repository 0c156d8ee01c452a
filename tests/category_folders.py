# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny categories in MVTec AD's layout: grey noise, and a bright square as the defect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def draw_category(
    folder: Path,
    *,
    train: int = 5,
    good: int = 2,
    defects: Mapping[str, int] | None = None,
    size: int = 64,
    suffix: str = ".jpg",
    mask: str | None = "{}_mask.png",
    mode: str = "RGB",
) -> Path:
    """Draw one category.

    Args:
        folder: Its folder.
        train: Normal images to train on.
        good: Normal test images; with 0 there is no folder for them.
        defects: Test images by defect.
        size: Side of the images in pixels.
        suffix: Format of the images.
        mask: File name of a mask, by the name of its image; None for no masks.
        mode: Colour mode of the files.
    """
    defects = {"dent": 2} if defects is None else defects
    random = np.random.default_rng(len(str(folder)))
    (folder / "test").mkdir(parents=True)
    for home, count in {
        "train/good": train,
        "test/good": good,
        **{f"test/{name}": n for name, n in defects.items()},
    }.items():
        for index in range(count):
            pixels = random.integers(90, 110, (size, size), dtype=np.uint8)
            truth = np.zeros((size, size), np.uint8)
            if not home.endswith("good"):
                truth[8:24, 8:24] = 255
            pixels[truth > 0] = 240
            save(folder / home / f"{index:03}{suffix}", pixels, mode)
            if truth.any() and mask is not None:
                save(folder / "ground_truth" / home.split("/")[1] / mask.format(f"{index:03}"), truth, "L")
    return folder


def save(path: Path, pixels: np.ndarray, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
