# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""In-memory caches of what does not change between epochs: training images, and the teacher's features of them."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from anomalib_mkd.data.normal_images import normal_batches
from anomalib_mkd.data.reading import datasets_of
from anomalib_mkd.transforms import changing
from anomalib_mkd.types import Pyramid

logger = logging.getLogger(__name__)

CACHE_GIGABYTES = 1.2
"""Default of all models: with it, training on 10,000 images of 256 px stays under 3 GB."""

HALF_MAX = torch.finfo(torch.float16).max


class FeatureCache:
    """Pyramids by image path, in half precision, in memory.

    It is valid only while an image always looks the same to the teacher: the caller must not use it with random
    augmentation. Once full, it keeps its entries and accepts no more.

    Args:
        max_bytes: Maximum size of all entries.

    Example:
        >>> import torch
        >>> cache = FeatureCache(max_bytes=1000)
        >>> cache.put(["a.png"], {"layer1": torch.ones(1, 2, 4, 4)})
        >>> cache.get(["a.png"])["layer1"].shape, cache.get(["b.png"])
        (torch.Size([1, 2, 4, 4]), None)
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._full = False  # since the first image that had no room
        self._pyramids: dict[str, Pyramid] = {}

    def pyramid(self, paths: Sequence[str], device: torch.device, compute: Callable[[], Pyramid]) -> Pyramid:
        """Look up the features of a batch, or compute and keep them.

        Args:
            paths: One per image.
            device: Device of the result.
            compute: Called if an image of the batch is missing.
        """
        pyramid = self.get(paths, device)
        if pyramid is None:
            pyramid = compute()
            self.put(paths, pyramid)
        return pyramid

    def get(self, paths: Sequence[str], device: torch.device | str = "cpu") -> Pyramid | None:
        """Look up the features of a batch as floats.

        Args:
            paths: One per image.
            device: Device of the result.

        Returns:
            Layer to ``(N, C_l, H_l, W_l)``; ``None`` if an image is missing.
        """
        if not all(path in self._pyramids for path in paths):
            return None
        kept = [self._pyramids[path] for path in paths]
        with torch.autocast("cpu", enabled=False):  # in which stack() refuses half precision
            return {name: torch.stack([p[name] for p in kept]).to(device).float() for name in kept[0]}

    def put(self, paths: Sequence[str], pyramid: Pyramid) -> None:
        """Keep the features of a batch while there is room.

        Args:
            paths: One per image.
            pyramid: Layer to ``(N, C_l, H_l, W_l)``.
        """
        for index, path in enumerate(paths):
            if self._full or path in self._pyramids:
                continue
            kept = {name: _compact(features[index]) for name, features in pyramid.items()}
            size = sum(features.nbytes for features in kept.values())
            self._full = self.used_bytes + size > self.max_bytes
            if not self._full:
                self._pyramids[path] = kept
                self.used_bytes += size


def rounded(pyramid: Pyramid) -> Pyramid:
    """Round features to what the cache keeps, so that a training is the same with and without, and after it resumed.

    Args:
        pyramid: Layer to ``(N, C_l, H_l, W_l)``.

    Returns:
        The same as floats.

    Example:
        >>> rounded({"layer1": torch.tensor([0.1, 1e6]).reshape(2, 1, 1, 1)})["layer1"].flatten().tolist()
        [0.0999755859375, 1000000.0]
    """
    fits = {name: features.abs().amax(dim=(1, 2, 3), keepdim=True) < HALF_MAX for name, features in pyramid.items()}
    return {
        name: torch.where(fits[name], features.half().float(), features.float()) for name, features in pyramid.items()
    }


def _compact(features: Tensor) -> Tensor:
    """Halve the precision, unless a value would overflow; copy, so that the batch can be freed."""
    features = features.detach().cpu()
    return features.half() if features.abs().max() < HALF_MAX else features.clone()


class ItemCache:
    """Items by index, up to a size limit.

    Once teacher features are cached, reading images takes as long as a step of a small student.

    Args:
        dataset: Map-style data set whose items are always the same.
        max_bytes: Maximum size of the tensors of all cached items; others are read each time.
    """

    def __init__(self, dataset: Any, max_bytes: int) -> None:
        self.dataset = dataset
        self.free_bytes = max_bytes
        self._items: dict[int, Any] = {}

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Return copies of the items of a batch: the host's collate function may put resized images into them."""
        return [copy.copy(self._get(index)) for index in indices]

    def _get(self, index: int) -> Any:
        if index in self._items:
            return self._items[index]
        item = self.dataset[index]
        size = sum(getattr(value, "nbytes", 0) for value in vars(item).values())  # masks and depth as well
        if size <= self.free_bytes:
            self._items[index] = item
            self.free_bytes -= size
        return item


@contextmanager
def items_cached(dataset: Any, max_bytes: int) -> Iterator[None]:
    """Let data loaders without worker processes read each item of a data set only once, until the block ends.

    PyTorch's loader requests whole batches from a data set that has ``__getitems__``; this adds one temporarily.

    Args:
        dataset: As for :class:`ItemCache`; one with its own ``__getitems__`` stays unchanged.
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


class TrainingCache:
    """Both caches of one training, each with half of the memory; none where an image may change between epochs.

    What is known to be fixed decides, not what is known to be random: transforms, loading and callbacks may be the
    user's own. Two reads of the same images are compared as well.

    Args:
        module: The model, about to train; its trainer has the loader and all hooks that a batch passes.
        gigabytes: Memory for both, in all processes of a computer together.
    """

    def __init__(self, module: Any, gigabytes: float) -> None:
        self.features: FeatureCache | None = None
        self._items = ExitStack()
        reason = "cache_gigabytes is 0" if not gigabytes else why_pictures_change(module)
        if reason:
            logger.info("The teacher runs in every step: %s.", reason)
            return
        half = int(gigabytes * 2**30 / 2 / module.trainer.num_devices)  # each has a process
        loader = module.trainer.train_dataloader
        self.features = FeatureCache(half)
        if loader.num_workers == 0:  # each worker process would fill its own cache and lose it after the epoch
            self._items.enter_context(items_cached(loader.dataset, half))

    def close(self) -> None:
        """Free the memory."""
        self.features = None
        self._items.close()


OURS = ("anomalib.", "anomalib_mkd.", "lightning.")
"""Packages whose data sets and hooks are known to leave images as they are."""
HOOKS = ("on_train_batch_start", "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def why_pictures_change(module: Any) -> str | None:
    """Say why a training image may look different in another epoch; ``None`` if it cannot.

    Args:
        module: A model whose training begins.
    """
    trainer, pre_processor = module.trainer, module.pre_processor
    loader, dataset = trainer.train_dataloader, trainer.train_dataloader.dataset
    for part in (dataset, *datasets_of(dataset)):
        if not all(_is_ours(getattr(type(part), name, None)) for name in ("__getitem__", "__getitems__")):
            return f"{type(part).__name__}.__getitem__ may change images between epochs, or cut several from one file"
    if not _is_ours(getattr(loader.collate_fn, "func", loader.collate_fn)):
        return "collate_fn may change images between epochs"
    # a data set that does not name its augmentations may augment at random
    of_dataset = getattr(dataset, "augmentations", dataset)
    for transform in (of_dataset, *(getattr(pre_processor, name, None) for name in ("transform", "augmentation"))):
        if name := changing(transform):
            return f"{name} may change images between epochs"
    for owner in (pre_processor, module, trainer.datamodule, *trainer.callbacks):
        for hook in HOOKS:
            if not _is_ours(getattr(type(owner), hook, None)):
                return f"{type(owner).__name__}.{hook} may change images between epochs"
    with isolate_rng():
        first, second = (module.inputs(next(normal_batches(module, 2))) for _ in range(2))
    return None if torch.equal(first, second) else "two reads of the same image differ"


def _is_ours(function: Any) -> bool:
    """Return whether a function, unless there is none, is defined in a package that is known."""
    return function is None or str(getattr(function, "__module__", "")).startswith(OURS)
