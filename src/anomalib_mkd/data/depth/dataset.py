# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Images with depth, labelled or for prediction, as anomalib's items and batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib import TaskType
from anomalib.data import DepthBatch, DepthItem
from anomalib.data.utils import get_image_filenames
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from anomalib_mkd.data.depth.layouts import files_by_name
from anomalib_mkd.data.reading import UprightDataset, image_of, mask_of
from anomalib_mkd.depth.checks import check_aspect
from anomalib_mkd.depth.reading import READERS
from anomalib_mkd.depth.source import DepthSource
from anomalib_mkd.pictures import refuse_turned

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd  # type: ignore[import-untyped]
    from torch import Tensor
    from torchvision.transforms.v2 import Transform


class DepthDataset(UprightDataset):
    """Rows of image, depth and mask.

    We could use nothing of anomalib's ``AnomalibDepthDataset`` but its base class: it reads only TIFF, returns images
    as stored (grey, palette), and passes image, depth and mask to augmentations that do not change the depth.

    Args:
        samples: As returned by :func:`anomalib_mkd.data.depth.layouts.list_samples`.
        source: How depth is read and prepared.
        augmentations: anomalib adds the model's resizing here. It applies to image and mask; the depth keeps its size
            until the model's pre-processor resizes all to one.
    """

    def __init__(self, samples: pd.DataFrame, source: DepthSource, augmentations: Transform | None = None) -> None:
        super().__init__(augmentations)
        self.samples = samples
        self.source = source

    def __getitem__(self, index: int) -> DepthItem:
        """Read image ``(3, H, W)`` in 0..1, depth ``(1 or 3, h, w)`` and mask ``(H, W)``."""
        row = self.samples.iloc[index]
        image, depth = read_pair(row.image_path, row.depth_path, self.source)
        mask = mask_of(row, image.shape[-2:]) if self.task == TaskType.SEGMENTATION else None
        if self.augmentations is not None:
            image, mask = self.augmentations(image, mask)
        return DepthItem(
            image=image,
            depth_map=depth,
            gt_mask=mask,
            gt_label=torch.tensor(row.label_index),
            image_path=row.image_path,
            depth_path=row.depth_path,
            mask_path=row.mask_path,
        )

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Make a batch of items."""
        return collate


class DepthPredictDataset(Dataset[DepthItem]):
    """Images with depth, without labels, for ``Engine.predict(dataset=...)``.

    Args:
        image_path: An image, or a folder of images.
        depth_path: Its depth map, or a folder of depth maps with the images' names.
        source: How depth is read and prepared: ``DepthFolder(...).source`` of the training. None uses the defaults of
            :class:`anomalib_mkd.depth.DepthSource`.

    Raises:
        FileNotFoundError: If a path or the depth of an image is missing.
        ValueError: If two images have the name of the same depth map.
    """

    def __init__(self, image_path: Path | str, depth_path: Path | str, source: DepthSource | None = None) -> None:
        super().__init__()
        self.source = source or DepthSource()
        images = [image for image in get_image_filenames(image_path) if not image.name.startswith(".")]
        place = Path(depth_path)
        found = files_by_name(place, READERS)
        if place.is_file() and len(images) == 1:
            found = {images[0].stem: place}
        without = [image.name for image in images if image.stem not in found]
        if without:
            msg = (
                f"Expected a depth map for each image in {depth_path}, got none for {', '.join(without[:5])}. Name "
                f"depth maps like the images ({', '.join(READERS)})."
            )
            raise FileNotFoundError(msg)
        named = {image.stem: image for image in images}
        if twice := [image for image in images if named[image.stem] != image]:
            msg = (
                f"Expected images of different names for the depth maps in {depth_path}, got '{twice[0]}' and "
                f"'{named[twice[0].stem]}'. Predict on one folder at a time."
            )
            raise ValueError(msg)
        self.pairs = [(str(image), str(found[image.stem])) for image in images]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> DepthItem:
        """Read image ``(3, H, W)`` in 0..1 and depth ``(1 or 3, h, w)``."""
        image_path, depth_path = self.pairs[index]
        image, depth = read_pair(image_path, depth_path, self.source)
        return DepthItem(image=image, depth_map=depth, image_path=image_path, depth_path=depth_path)

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Make a batch of items."""
        return collate


def read_pair(image_path: str, depth_path: str, source: DepthSource) -> tuple[Tensor, Tensor]:
    """Read an image in RGB, ``(3, H, W)`` in 0..1, and its depth ``(1 or 3, h, w)``.

    Raises:
        ValueError: If one cannot be read, EXIF data turns the image, or they cannot show the same scene: their aspect
            ratios differ by more than 2 %.
    """
    refuse_turned(image_path)
    image = torch.as_tensor(image_of(image_path))
    depth = torch.from_numpy(source(depth_path))
    check_aspect(image.shape[-2:], depth.shape[-2:], depth_path)
    return image, depth


def collate(items: list[DepthItem]) -> Any:
    """Collate items into a batch; depth maps of several sizes are enlarged to the largest, by nearest neighbours.

    anomalib resizes images and masks to one size, but not the depth. Nearest neighbours invent no depth between an edge
    and its background, and leave missing values missing.
    """
    depths = [torch.as_tensor(item.depth_map) for item in items]
    size = [max(depth.shape[side] for depth in depths) for side in (-2, -1)]
    for item, depth in zip(items, depths, strict=True):
        if list(depth.shape[-2:]) != size:
            item.depth_map = interpolate(depth[None], size, mode="nearest-exact")[0]
    return DepthBatch.collate(items)
