# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The teacher's features of fixed images, computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from anomalib_mkd.types import Pyramid

HALF_MAX = torch.finfo(torch.float16).max


class FeatureCache:
    """Pyramids by image path, in half precision, in memory.

    It is only right while an image always looks the same to the teacher: the caller must not use it with random
    augmentation. When full it keeps what it has and takes no more.

    Args:
        max_bytes: Upper bound of what is kept.

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
        self._pyramids: dict[str, Pyramid] = {}

    def get(self, paths: Sequence[str], device: torch.device | str = "cpu") -> Pyramid | None:
        """Give the features of a batch as floats.

        Args:
            paths: One per image.
            device: Where to put them.

        Returns:
            Layer to ``(N, C_l, H_l, W_l)``; ``None`` if any of the images is missing.
        """
        if not all(path in self._pyramids for path in paths):
            return None
        kept = [self._pyramids[path] for path in paths]
        return {name: torch.stack([p[name] for p in kept]).to(device).float() for name in kept[0]}

    def put(self, paths: Sequence[str], pyramid: Pyramid) -> None:
        """Keep the features of a batch, as far as there is room.

        Args:
            paths: One per image.
            pyramid: Layer to ``(N, C_l, H_l, W_l)``.
        """
        for index, path in enumerate(paths):
            if path in self._pyramids:
                continue
            kept = {name: _compact(features[index]) for name, features in pyramid.items()}
            size = sum(features.nbytes for features in kept.values())
            if self.used_bytes + size <= self.max_bytes:
                self._pyramids[path] = kept
                self.used_bytes += size


def _compact(features: Tensor) -> Tensor:
    """Halve the precision, unless a value would overflow; copy, so that the batch can be freed."""
    features = features.detach().cpu()
    return features.half() if features.abs().max() < HALF_MAX else features.clone()
