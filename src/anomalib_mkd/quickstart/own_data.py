# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A user's own pictures in MVTec AD's layout, looked at before anything is trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
LEAST_GOOD = 5  # one in five sets the threshold


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
        root: The folder: ``train/good``, ``test/good``, ``test/<defect>`` and, at will, ``ground_truth/<defect>``.
        defects: Names of the defects.
        has_masks: Whether every defective picture has its mask.
    """

    root: Path
    defects: tuple[str, ...]
    has_masks: bool


def read_layout(root: Path) -> Layout:
    """Look through a folder.

    Args:
        root: The folder.

    Raises:
        FileNotFoundError: If the folder, or a part of it that is needed, is missing or empty.
        ValueError: If pictures are too few or cannot be read, or some masks are missing.
    """
    if not root.is_dir():
        msg = f"Expected a folder, got '{root}', which is none. Correct the path."
        raise FileNotFoundError(msg)
    good = _pictures(root / "train" / "good", "good parts to learn from")
    if len(good) < LEAST_GOOD:
        msg = f"Expected {LEAST_GOOD} or more pictures in '{root}/train/good', got {len(good)}. Take some more."
        raise ValueError(msg)
    tests = {"good": _pictures(root / "test" / "good", "good parts to test on")}
    defects = tuple(sorted(path.name for path in (root / "test").iterdir() if path.is_dir() and path.name != "good"))
    if not defects:
        msg = f"Expected a folder per defect beside '{root}/test/good', got none. Put pictures of bad parts into one."
        raise FileNotFoundError(msg)
    tests |= {name: _pictures(root / "test" / name, "bad parts to test on") for name in defects}
    _check_readable([*good, *(picture for pictures in tests.values() for picture in pictures)])
    return Layout(root, defects, _has_masks(root, {name: tests[name] for name in defects}))


def _pictures(folder: Path, meaning: str) -> list[Path]:
    """List a folder's pictures, of which there must be some."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        msg = f"Expected pictures of {meaning} in '{folder}', got none. Put some there ({kinds})."
        raise FileNotFoundError(msg)
    return found


def _check_readable(pictures: list[Path]) -> None:
    """Open each picture; its pixels are not decoded."""
    for path in pictures:
        try:
            with Image.open(path) as picture:
                picture.verify()
        except (OSError, SyntaxError) as error:  # noqa: PERF203  # the message names the picture
            msg = f"Expected pictures that can be read, got '{path}' ({error}). Remove or replace it."
            raise ValueError(msg) from error


def _has_masks(root: Path, bad: dict[str, list[Path]]) -> bool:
    """Say whether there are masks; there must be all of them or none."""
    if not (root / "ground_truth").exists():
        return False
    for defect, pictures in bad.items():
        folder = root / "ground_truth" / defect
        masks = {path.stem.removesuffix("_mask") for path in folder.glob("*") if path.suffix.lower() in SUFFIXES}
        missing = [path for path in pictures if path.stem not in masks]
        if missing:
            msg = (
                f"Expected a mask in '{folder}' for '{missing[0]}' (its name, or its name and _mask), got none. "
                "Add it, or move the folder ground_truth away to do without masks."
            )
            raise ValueError(msg)
    return True
