# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Images and masks of a data set's rows as tensors, and a warning where anomalib reads them in another way."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import AnomalibDataset, ImageItem, PredictDataset
from anomalib.data.utils import LabelName
from PIL import Image
from torchvision.transforms.v2.functional import to_dtype, to_image
from torchvision.tv_tensors import Mask

from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.pictures import EIGHT_BIT_MODES, drops_bits, is_turned, pages, read_mask, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

logger = logging.getLogger(__name__)

LOOKED_AT = 32
"""Images of a data set whose headers are read before a run."""


class UprightDataset(AnomalibDataset):
    """A data set whose images :func:`image_of` reads."""


class UprightPredictDataset(PredictDataset):
    """anomalib's images to predict, read by :func:`image_of`."""

    def __getitem__(self, index: int) -> ImageItem:
        """Read an image; errors as for :func:`image_of`."""
        path = self.image_filenames[index]
        image = image_of(path)
        return ImageItem(image=self.transform(image) if self.transform else image, image_path=str(path))


def read_upright(loaders: Any) -> None:
    """Let loaders of images to predict read them as :mod:`anomalib_mkd.deploy` does, and name what cannot be read."""
    for loader in each_of(loaders):
        dataset = getattr(loader, "dataset", None)
        if type(dataset) is PredictDataset:  # not one of the user's
            dataset.__class__ = UprightPredictDataset


def image_of(path: str | Path) -> Tensor:
    """Read an image ``(3, H, W)`` in 0..1; errors as for :func:`anomalib_mkd.pictures.read_picture`."""
    image: Tensor = to_dtype(to_image(read_picture(path)), torch.float32, scale=True)
    return image


def mask_of(row: Any, size: tuple[int, ...]) -> Mask:
    """Read the mask ``(H, W)`` of a row, which is empty for a normal image.

    Args:
        row: With ``label_index`` and ``mask_path``.
        size: Height and width of its image.
    """
    if row.label_index == LabelName.NORMAL:
        return Mask(torch.zeros(size, dtype=torch.uint8))
    return Mask(torch.from_numpy(read_mask(row.mask_path, tuple(size)).astype("uint8")))


def warn_of_pictures(loaders: Any) -> None:
    """Warn if anomalib's own reader sees images otherwise than viewers and :mod:`anomalib_mkd.deploy` do.

    It clips grey of more than 8 bits at 255, so that it becomes white, takes the upper 8 bits of colour, so that a
    camera of 12 bits is near black, ignores EXIF data, so that a part lies, and all pages but the first.

    Args:
        loaders: A loader, or several; a few headers of each one's images are read.
    """
    for loader in each_of(loaders):
        odd = list(_odd(_paths(getattr(loader, "dataset", None))))
        if odd:
            logger.warning(
                "Expected upright images of one page and 8 bits per channel, got %s and %d more. anomalib's reader "
                "keeps 8 bits of the first page and ignores EXIF data: convert them, or train with Parts.",
                odd[0],
                len(odd) - 1,
            )


def _paths(dataset: Any) -> list[str]:
    """List the images that anomalib's reader opens."""
    paths: list[str] = []
    for part in datasets_of(dataset):
        if type(part) is PredictDataset:
            paths += map(str, part.image_filenames)
        elif isinstance(part, AnomalibDataset) and not isinstance(part, UprightDataset):
            paths += map(str, part.samples["image_path"])
    return paths


def _odd(paths: list[str]) -> Iterator[str]:
    for index in evenly_spaced(len(paths), LOOKED_AT):
        with suppress(Exception), Image.open(Path(paths[index])) as image:  # what cannot be read, its reader tells
            if image.mode not in EIGHT_BIT_MODES:
                yield f"{paths[index]} of Pillow's mode {image.mode!r}"
            elif drops_bits(image):
                yield f"{paths[index]}, of more bits in colour"
            elif pages(image) > 1:
                yield f"{paths[index]} of {pages(image)} pages"
            elif _lies(image):
                yield f"{paths[index]}, turned by EXIF data"


def seen_as_stored(loaders: Any) -> Callable[[str], bool]:
    """Return what says whether anomalib's reader gave an image to the model as it lies, not as viewers show it."""
    theirs = {path for loader in each_of(loaders) for path in _paths(getattr(loader, "dataset", None))}

    def lying(path: str) -> bool:
        if path not in theirs:
            return False
        with suppress(OSError), Image.open(path) as image:
            return _lies(image)
        return False

    return lying


def part_of(datamodule: Any, category: str | None) -> Any:
    """Return the datamodule of a category; the given one if it has none of that name."""
    return getattr(datamodule, "datamodules", {}).get(category, datamodule)


def datamodules_of(datamodule: Any) -> list[Any]:
    """Return the datamodules of several categories, and any other one as a list."""
    each = getattr(datamodule, "datamodules", None)
    return [*each.values()] if each else [datamodule]


def datasets_of(dataset: Any) -> list[Any]:
    """Return the data sets of several categories, and any other one as a list."""
    parts = getattr(dataset, "parts", None)
    return [*parts.values()] if parts else [dataset]


def each_of(loaders: Any) -> Any:
    """Return several loaders as they are, and one as a list."""
    return loaders if isinstance(loaders, list | tuple) else [loaders]


def _lies(image: Image.Image) -> bool:
    return is_turned(image) and image.format != "TIFF"  # which Pillow turns for every reader
