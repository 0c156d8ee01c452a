# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The items of a fixed data set, each read and resized once."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def evenly_spaced(total: int, most: int) -> list[int]:
    """Give indices spread over a data set, the same ones each time.

    Args:
        total: Length of the data set.
        most: How many indices, at most.

    Example:
        >>> evenly_spaced(10, 4), evenly_spaced(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    count = min(most, total)
    return [index * total // count for index in range(count)]


class ItemCache:
    """Items by index, as far as they fit.

    Once teacher features are cached, reading images takes as long as a step of a small student.

    Args:
        dataset: Map-style data set whose items hold an ``image`` tensor and are always the same.
        max_bytes: Upper bound of the images that are kept; what comes later is read each time.
    """

    def __init__(self, dataset: Any, max_bytes: int) -> None:
        self.dataset = dataset
        self.free_bytes = max_bytes
        self._items: dict[int, Any] = {}

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Give the items of a batch; copies, since a host's collate function may put resized images into them."""
        return [copy.copy(self._get(index)) for index in indices]

    def _get(self, index: int) -> Any:
        if index in self._items:
            return self._items[index]
        item = self.dataset[index]
        size = item.image.nbytes
        if size <= self.free_bytes:
            self._items[index] = item
            self.free_bytes -= size
        return item


@contextmanager
def items_cached(dataset: Any, max_bytes: int) -> Iterator[None]:
    """Let data loaders without worker processes read each item of a data set once, until the block ends.

    PyTorch's loader asks a data set for a whole batch where it has ``__getitems__``; this lends it one.

    Args:
        dataset: As for :class:`ItemCache`; one that has ``__getitems__`` of its own is left alone.
        max_bytes: As for :class:`ItemCache`.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> class Numbers:
        ...     reads = 0
        ...
        ...     def __getitem__(self, index):
        ...         self.reads += 1
        ...         return SimpleNamespace(image=torch.full((1,), float(index)))
        >>> numbers = Numbers()
        >>> with items_cached(numbers, max_bytes=4):
        ...     _ = [numbers.__getitems__([0, 0, 7]) for _ in range(2)]
        >>> numbers.reads, hasattr(numbers, "__getitems__")
        (3, False)
    """
    if hasattr(dataset, "__getitems__"):
        yield
        return
    dataset.__getitems__ = ItemCache(dataset, max_bytes)
    try:
        yield
    finally:
        del dataset.__getitems__
