# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Fusion of two modalities: of the features that are distilled, and of the two anomaly maps.

Fused features weaken a defect that only one modality shows: in a mean of features of norms r and a, by
``r^2 / (r^2 + a^2)``. Hence the default keeps both targets separate and fuses the maps, each scaled by its peaks on
normal images: a score is a peak, and how far peaks exceed the mean differs between modalities more than their standard
deviations suggest.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

TargetFusion: TypeAlias = Literal["concat", "modulation", "mean"]
ModalityFusion: TypeAlias = Literal["zmax", "rss"]
Fusion: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def unit(features: Tensor) -> Tensor:
    """Scale the channel vector at each position to length 1; zero stays zero.

    Args:
        features: ``(N, C, H, W)``.
    """
    return F.normalize(features, dim=1)


def modulated(rgb: Tensor, aux: Tensor) -> Tensor:
    """Add the second modality, weighted by how much it differs from the first: ``rgb + w * aux``.

    At each position ``w = sigmoid(mean over channels of (rgb - aux)^2)``, so that w is 0.5 where both agree and close
    to 1 where they do not.

    Source: a blog's reading of the parameter-free fusion of MMRD (Gu et al., AAAI 2024), whose formula is not public.

    Args:
        rgb: Features ``(N, C, H, W)``.
        aux: Features ``(N, C, H, W)``.

    Returns:
        Target ``(N, C, H, W)``.

    Example:
        >>> rgb, aux = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)
        >>> modulated(rgb, aux).flatten()  # w = sigmoid((0 + 4) / 2)
        tensor([1.8808, 3.8808])
    """
    weight = (rgb - aux).square().mean(dim=1, keepdim=True).sigmoid()
    return rgb + weight * aux


TARGET_FUSIONS: dict[TargetFusion, Fusion] = {
    "modulation": modulated,
    "mean": lambda rgb, aux: (rgb + aux) / 2,
}
"""Features ``(N, C, H, W)`` of both modalities to one target; "concat" keeps two unit targets instead. The paper says
only that its fusion has no parameters."""

MODALITY_FUSIONS: dict[ModalityFusion, Fusion] = {
    "zmax": torch.maximum,
    "rss": lambda rgb, aux: (rgb.relu().square() + aux.relu().square()).sqrt(),
}
"""Maps ``(N, 1, H, W)`` of both modalities, each 0 at its normal mean and 1 at the mean of its normal peaks, to one."""
