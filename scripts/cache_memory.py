# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Memory that full caches of a training really hold, against their limit.

    python scripts/cache_memory.py

Fills each cache to 400 MB with drawn photos, heights or point clouds of 512 pixels, or with a teacher's features, and
prints how much the resident memory of the process has grown. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anomalib_mkd.data import DepthFolder, Parts, Recipe, make_dataset
from anomalib_mkd.training.caching import FeatureCache, ItemCache

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 400_000_000
SIZE, PICTURES = 512, 16


class Repeated:
    """A data set whose items are read again and again, as if there were more of them."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        """Read an item anew."""
        return self.dataset[index % len(self.dataset)]


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmRSS"].split()[0])


def measured(kind: str, fill: Callable[[], object]) -> None:
    """Fill a cache and print how much memory it holds."""
    before = resident()
    kept = fill()
    grown = resident() - before
    print(f"{kind:14} {grown / 1e6:6.0f} MB of {LIMIT / 1e6:.0f} MB ({grown / LIMIT:.0%})", flush=True)
    del kept


def filled(datamodule: Any) -> ItemCache:
    """Fill a cache with a datamodule's training items."""
    datamodule.setup()
    cache = ItemCache(Repeated(datamodule.train_data), LIMIT)
    index, free = 0, -1
    while cache.free_bytes != free:
        free = cache.free_bytes
        cache([index])
        index += 1
    return cache


def features() -> FeatureCache:
    """Fill a cache with features as ResNet-18 has for a photo of 256 pixels."""
    cache, index = FeatureCache(LIMIT), 0
    while len(cache._pyramids) == index:  # noqa: SLF001  # it says nothing about what it holds
        pyramid = {f"layer{level}": torch.rand(1, 32 * 2**level, 128 >> level, 128 >> level) for level in (1, 2, 3)}
        cache.put([str(index)], pyramid)
        index += 1
    return cache


def main() -> None:
    """Measure each kind."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        few: dict[str, Any] = {"image_size": SIZE, "train_images": PICTURES, "test_good": 1, "per_defect": 1}
        make_dataset(root / "photos", Recipe("metal", **few))
        make_dataset(root / "scans", Recipe("metal", layout="mvtec3d", **few))
        filled(Parts(root / "photos" / "metal")).free_bytes  # noqa: B018  # warms up what is loaded once
        measured("photos", lambda: filled(Parts(root / "photos" / "metal")))
        for serve in ("height", "points"):
            scans = DepthFolder(root / "scans", "metal", depth=serve, removal_distance=0.0)
            measured(f"with {serve}", lambda scans=scans: filled(scans))  # type: ignore[misc]
        measured("features", features)


if __name__ == "__main__":
    main()
