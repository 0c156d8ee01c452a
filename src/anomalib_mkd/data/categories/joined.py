# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Data sets of several categories as one; its rows name their category, its items do not."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset
from anomalib.data.utils import LabelName
from torch.utils.data import BatchSampler
from torchvision.tv_tensors import Mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from anomalib.data import DatasetItem
    from torchvision.transforms.v2 import Transform

COLUMNS = ("image_path", "label_index", "mask_path", "split")


class JoinedDataset(AnomalibDataset):
    """Several data sets as one. Each item is read by its own data set, with that data set's augmentations.

    ``samples`` has anomalib's columns and two more: ``category``, and ``position`` in that category's data set. So rows
    can be sorted, split and subsampled like any others.

    Args:
        parts: Category to data set.

    Raises:
        TypeError: If the items of two data sets cannot share a batch (images and videos, say).
    """

    def __init__(self, parts: Mapping[str, AnomalibDataset]) -> None:
        self.parts: dict[str, AnomalibDataset] = {}  # before the base class sets `augmentations`, which are theirs
        super().__init__()
        kinds = {part.collate_fn for part in parts.values()}
        if len(kinds) > 1:
            classes = ", ".join(type(part).__name__ for part in parts.values())
            msg = f"Expected data sets with items of one kind, got {classes}. Join images only with images."
            raise TypeError(msg)
        self.parts.update(parts)
        rows = [
            (*values, category, position)
            for category, part in parts.items()
            for position, values in enumerate(zip(*(part.samples[column] for column in COLUMNS), strict=True))
        ]
        samples = pd.DataFrame(rows, columns=[*COLUMNS, "category", "position"])
        masks = any(part.task == TaskType.SEGMENTATION for part in parts.values())
        samples.attrs["task"] = (TaskType.SEGMENTATION if masks else TaskType.CLASSIFICATION).value
        self.samples = samples

    def __getitem__(self, index: int) -> DatasetItem[Any]:
        """Read the item of a row."""
        row = self.samples.iloc[index]
        return self.parts[row["category"]][row["position"]]

    @property
    def category_per_item(self) -> list[str]:
        """Category of each item."""
        return list(self.samples["category"])

    @property
    def augmentations(self) -> Transform | None:
        """Augmentations of every item.

        Raises:
            AttributeError: If they depend on the category.
        """
        first, *others = [part.augmentations for part in self.parts.values()]
        if any(other is not first for other in others):
            msg = "Expected one augmentation for all categories, got different ones. Read them from `parts`."
            raise AttributeError(msg)
        return first

    @augmentations.setter
    def augmentations(self, augmentations: Transform | None) -> None:
        for part in self.parts.values():
            part.augmentations = augmentations

    @property
    def collate_fn(self) -> Callable[..., Any]:
        """Collate items into a batch; some may have no mask."""
        return partial(collate_with_masks, next(iter(self.parts.values())).collate_fn)


def collate_with_masks(collate: Callable[..., Any], items: Sequence[Any]) -> Any:
    """Collate items with and without masks: all get one, or none does.

    The mask of a normal image is known to be empty; if a defective image has no mask, its pixel labels are unknown, and
    the batch has no masks.

    Args:
        collate: anomalib's function for items of one kind.
        items: Images ``(3, H, W)`` with or without masks ``(H, W)``.
    """
    if len({item.gt_mask is None for item in items}) > 1:
        known = all(item.gt_mask is not None or item.gt_label == LabelName.NORMAL for item in items)
        for item in items:
            if not known:
                item.gt_mask = None
            elif item.gt_mask is None:
                item.gt_mask = Mask(torch.zeros(item.image.shape[-2:], dtype=torch.uint8))
    return collate(items)


class CategoryBatchSampler(BatchSampler):
    """Batches of one category each, so that categories with and without masks are never mixed.

    Args:
        sampler: Positions in the data set.
        batch_size: Size of a batch; the last one of each category may be smaller.
        drop_last: Whether to drop these smaller ones.
        categories: Category of each item of the data set.

    Example:
        >>> list(CategoryBatchSampler(range(5), 2, drop_last=False, categories=["a", "b", "a", "b", "a"]))
        [[0, 2], [4], [1, 3]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool, categories: Sequence[str]) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.categories = categories

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches, category by category."""
        category = self.categories.__getitem__
        for _, positions in groupby(sorted(self.sampler, key=category), key=category):
            yield from BatchSampler(positions, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        """Count the batches."""
        return sum(1 for _ in self)
