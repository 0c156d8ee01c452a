# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Where each data set layout stores images, depth and masks, and how they become anomalib's rows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import pandas as pd  # type: ignore[import-untyped]
from anomalib import TaskType
from anomalib.data.utils import LabelName, Split

from anomalib_mkd.depth.reading import READERS
from anomalib_mkd.pictures import EXTENSIONS, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

DepthLayout = Literal["mvtec3d", "eyecandies", "folder"]
GOOD = "good"
COLUMNS = ["image_path", "depth_path", "mask_path", "label", "label_index", "split"]
#: Of Eyecandies' six lights, the one used in published work.
EYECANDIES_LIGHT = 4

Files: TypeAlias = "dict[str, Path]"


@dataclass(frozen=True)
class Group:
    """Images of one label in one split; files by their shared name."""

    split: Split
    label: str
    images: Files
    depths: Files
    masks: Files = field(default_factory=dict)


def list_samples(base: Path, layout: DepthLayout) -> pd.DataFrame:
    """List the images of a category with their depth and, where there are any, masks.

    Args:
        base: Folder of the category.
        layout: See :class:`anomalib_mkd.data.DepthFolder`.

    Raises:
        FileNotFoundError: If there are no images to train or to test on, or one without depth.
        ValueError: If two files share a name, or a defective image has no mask while others have one.
    """
    groups = list(LISTINGS[layout](base))
    for split in (Split.TRAIN, Split.TEST):
        if not any(group.images for group in groups if group.split == split):
            there = ", ".join(sorted(path.name for path in base.glob("*"))) or "nothing"
            msg = (
                f"Expected {split.value} images in {base}, layout {layout}, got none; the folder holds {there}. Set "
                "another root, category or layout."
            )
            raise FileNotFoundError(msg)
    segmentation = any(group.masks for group in groups)
    rows = [
        (str(image), str(_depth_of(group, name)), mask, label, _index(label), group.split.value)
        for group in groups
        for name, image in group.images.items()
        for label, mask in [_truth(group, name, segmentation=segmentation)]
    ]
    samples = pd.DataFrame(rows, columns=COLUMNS)
    samples.attrs["task"] = (TaskType.SEGMENTATION if segmentation else TaskType.CLASSIFICATION).value
    return samples


def files_by_name(folder: Path, suffixes: Collection[str], name: str = "(.+)") -> Files:
    """List the files of a folder, hidden ones aside, by the part of the name that images, depth and masks share.

    Args:
        folder: May be missing.
        suffixes: In lower case.
        name: Pattern of the stem; its first group is the shared part.

    Raises:
        ValueError: If two files have the same shared part.
    """
    found: Files = {}
    for path in sorted(folder.glob("*")):
        match = re.fullmatch(name, path.stem)
        if match is None or path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if match[1] in found:
            msg = f"Expected one file of each name in {folder}, got {found[match[1]].name} and {path.name}. Remove one."
            raise ValueError(msg)
        found[match[1]] = path
    return found


def _index(label: str) -> int:
    return int(LabelName.NORMAL if label == GOOD else LabelName.ABNORMAL)


def _depth_of(group: Group, name: str) -> Path:
    if name not in group.depths:
        msg = (
            f"Expected a depth map for {group.images[name]}, got none of its name. Add it or remove the image "
            f"({', '.join(READERS)} are read)."
        )
        raise FileNotFoundError(msg)
    return group.depths[name]


def _truth(group: Group, name: str, *, segmentation: bool) -> tuple[str, str]:
    """Return label and path of the mask, which is empty for normal images."""
    label = group.label
    if label == GOOD or not segmentation:
        return label, ""
    if name not in group.masks:
        msg = f"Expected the mask of {group.images[name]}, got none of its name. Add it, or remove all masks."
        raise ValueError(msg)
    return label, str(group.masks[name])


# --- layouts ---------------------------------------------------------------------------------------------------------

MASK_NAME = r"(.+?)(?:_mask)?"


def _labels(base: Path) -> Iterator[tuple[Split, Path]]:
    """Yield folders of training, validation and test images; training and validation use ``good`` only."""
    for split, name in ((Split.TRAIN, "train"), (Split.VAL, "validation")):
        yield split, base / name / GOOD
    yield from ((Split.TEST, folder) for folder in sorted((base / "test").glob("[!.]*")) if folder.is_dir())


def _list_mvtec3d(base: Path) -> Iterator[Group]:
    for split, home in _labels(base):
        masks = {
            key: path
            for name in ("gt", "ground_truth")  # MVTec 3D-AD, 3D-ADAM
            for key, path in files_by_name(home / name, EXTENSIONS, MASK_NAME).items()
        }
        yield Group(
            split,
            home.name,
            files_by_name(home / "rgb", EXTENSIONS),
            files_by_name(home / "xyz", READERS),
            masks,
        )


def _list_folder(base: Path) -> Iterator[Group]:
    for split, home in _labels(base):
        yield Group(
            split,
            home.name,
            files_by_name(home, EXTENSIONS),
            files_by_name(base / "depth" / home.relative_to(base), READERS),
            files_by_name(base / "ground_truth" / home.name, EXTENSIONS, MASK_NAME),
        )


def _list_eyecandies(base: Path) -> Iterator[Group]:
    """List all but the private test set, whose masks are not public."""
    for split, name in ((Split.TRAIN, "train"), (Split.VAL, "val"), (Split.TEST, "test_public")):
        home = base / name / "data"
        images = files_by_name(home, EXTENSIONS, rf"(\d+)_image_{EYECANDIES_LIGHT}")
        depths = files_by_name(home, [".png"], r"(\d+)_depth")
        masks = files_by_name(home, [".png"], r"(\d+)_mask") if split == Split.TEST else {}
        if split == Split.TEST and (without := sorted(images.keys() - masks.keys())):
            msg = (
                f"Expected a mask for each image in {home}, for it says which are good, got none for "
                f"{images[without[0]].name}. Restore the files that come with Eyecandies."
            )
            raise FileNotFoundError(msg)
        bad = {key: path for key, path in masks.items() if read_picture(path).any()}
        yield Group(split, GOOD, {key: path for key, path in images.items() if key not in bad}, depths)
        yield Group(split, "bad", {key: path for key, path in images.items() if key in bad}, depths, bad)


LISTINGS: dict[DepthLayout, Callable[[Path], Iterator[Group]]] = {
    "mvtec3d": _list_mvtec3d,
    "eyecandies": _list_eyecandies,
    "folder": _list_folder,
}
