# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How two modalities become one: the features that are the target of distillation, and the two anomaly maps.

A defect that only one modality shows can vanish in fused features: a sum of features of norms r and a weakens it by
``r^2 / (r^2 + a^2)``, a maximum may drop it altogether. Hence the default keeps both targets side by side and joins
the maps, each measured by the peaks that it has on normal images: a score is a peak, and how far peaks stand out from
the mean differs between modalities more than deviations tell.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

TINY = 1e-8

Fusion = Callable[[Tensor, Tensor], Tensor]


def unit(features: Tensor) -> Tensor:
    """Scale the vector of channels at each position to length 1; zero stays zero."""
    return F.normalize(features, dim=1)


def _energy(features: Tensor) -> Tensor:
    return features.square().mean(dim=1, keepdim=True)


def _variance(features: Tensor) -> Tensor:
    """Variance of the features' norm in a window of 3x3, ``(N, 1, H, W)``."""
    norm = features.norm(dim=1, keepdim=True)
    mean, mean_square = (
        F.avg_pool2d(value, 3, stride=1, padding=1, count_include_pad=False) for value in (norm, norm.square())
    )
    return (mean_square - mean.square()).clamp_min(0)


def weighted(importance: Callable[[Tensor], Tensor]) -> Fusion:
    """Give the fusion that weighs each modality by its share of an importance ``(N, 1, H, W)``."""

    def fuse(rgb: Tensor, aux: Tensor) -> Tensor:
        of_rgb, of_aux = importance(rgb), importance(aux)
        share = of_rgb / (of_rgb + of_aux + TINY)
        return share * rgb + (1 - share) * aux

    return fuse


TARGET_FUSIONS: dict[str, Fusion] = {
    "sum": torch.add,
    "mean": lambda rgb, aux: (rgb + aux) / 2,
    "max": torch.maximum,
    "nsum": lambda rgb, aux: unit(rgb) + unit(aux),
    "energy": weighted(_energy),
    "variance": weighted(_variance),
}
"""Features ``(N, C, H, W)`` of both modalities to one target; beside them "concat" keeps two unit targets. All ours:
the paper says only that fusion has no parameters."""


def _norm(power: float) -> Fusion:
    """Give the fusion that is the norm of both, of which what is below its normal mean is no part."""
    return lambda rgb, aux: (rgb.relu() ** power + aux.relu() ** power) ** (1 / power)


MODALITY_FUSIONS: dict[str, Fusion] = {
    "zmax": torch.maximum,
    "p4": _norm(4),
    "rss": _norm(2),
    "zsum": torch.add,
    "sum": torch.add,
    "joint": lambda rgb, aux: (rgb + aux) / 2,
}
"""Maps ``(N, 1, H, W)`` of both modalities to one. Those in ``CALIBRATED`` get maps that are 0 at the normal mean and 1
at the mean of normal images' peaks, the others get them raw."""

CALIBRATED = {"zmax", "p4", "rss", "zsum"}
