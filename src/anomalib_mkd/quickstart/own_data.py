# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checks of a user's own images in MVTec AD's layout before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

if TYPE_CHECKING:
    from pathlib import Path

LEAST_GOOD = 5  # one in five sets the threshold


def check_layout(root: Path) -> None:
    """Check a folder, except for its masks, which :class:`anomalib_mkd.data.MVTecFolder` checks.

    Args:
        root: The folder: ``train/good``, ``test/good``, ``test/<defect>`` and, optionally, ``ground_truth/<defect>``.

    Raises:
        FileNotFoundError: If the folder or a required part of it is missing or empty.
        ValueError: If there are too few images, or some cannot be read.
    """
    if not root.is_dir():
        msg = f"Expected a folder, got '{root}', which is not one. Set --data to a folder."
        raise FileNotFoundError(msg)
    good = _pictures(root / "train" / "good", "good parts to learn from")
    if len(good) < LEAST_GOOD:
        msg = f"Expected {LEAST_GOOD} or more images in '{root}/train/good', got {len(good)}. Add more there."
        raise ValueError(msg)
    tests = _pictures(root / "test" / "good", "good parts to test on")
    defects = sorted(path for path in (root / "test").iterdir() if path.is_dir() and path.name != "good")
    if not defects:
        msg = f"Expected a folder per defect next to '{root}/test/good', got none. Put images of bad parts into one."
        raise FileNotFoundError(msg)
    for defect in defects:
        tests += _pictures(defect, "bad parts to test on")
    for path in (*good, *tests):
        _check_readable(path)


def _pictures(folder: Path, meaning: str) -> list[Path]:
    """List a folder's images; an error if there are none."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not found:
        kinds = ", ".join(IMG_EXTENSIONS)
        msg = f"Expected images of {meaning} in '{folder}', got none. Put some there ({kinds})."
        raise FileNotFoundError(msg)
    return found


def _check_readable(path: Path) -> None:
    """Open an image without decoding its pixels."""
    try:
        with Image.open(path) as picture:
            picture.verify()
    except (OSError, SyntaxError) as error:
        msg = f"Expected readable images, got '{path}' ({error}). Remove or replace it."
        raise ValueError(msg) from error
