# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Defects painted over training images; the student learns the teacher's features of the clean images."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

AREA = (0.01, 0.11)
"""Smallest and largest share of an image that is painted over."""


def paint_over(images: Tensor, share: float) -> Tensor:
    """Paint over random irregular regions in a share of the images.

    Source: DeSTSeg (Zhang et al., CVPR 2023) trains a student this way, with Perlin noise filled from foreign
    photographs. Ours needs no photographs: a region is filled with a shifted and rotated piece of an image of the
    batch, a tint, or a mottled colour, each equally often, at a random opacity above 0.3.

    Args:
        images: Pre-processed images ``(N, C, H, W)``, with any range of values.
        share: Probability that an image is painted over, 0..1.

    Returns:
        Images of the same shape; the input is not modified.

    Example:
        >>> images = torch.randn(4, 3, 64, 64)
        >>> changed = (paint_over(images, share=1.0) != images).any(dim=1).float().mean(dim=(1, 2))
        >>> bool((changed > 0).all() and (changed <= 0.11).all())
        True
    """
    if share == 0:
        return images  # without drawing random numbers, which would change the shuffling
    painted = images.clone()
    spread, middle = (each[0] for each in torch.std_mean(images, dim=(0, 2, 3), keepdim=True))
    for index in torch.nonzero(torch.rand(len(images)) < share).flatten().tolist():
        kind = _below(3)
        if kind == 0:
            paint = _moved(images[_below(len(images))])
        elif kind == 1:
            paint = images[index] + spread * torch.randn_like(spread)
        else:
            paint = middle + spread * (1.5 * torch.randn_like(spread) + 0.3 * _noise(images, (32, 32)))
        opacity = _blot(images) * (0.3 + 0.7 * torch.rand(()).item())
        painted[index] = torch.lerp(images[index], paint, opacity)
    return painted


def _below(end: int) -> int:
    return int(torch.randint(end, ()))


def _moved(image: Tensor) -> Tensor:
    """Shift an image ``(C, H, W)`` around its edges and rotate it, so that its parts can end up anywhere."""
    height, width = image.shape[-2:]
    shifted = image.roll((_below(height), _below(width)), dims=(-2, -1))
    quarters = _below(4) if height == width else 2 * _below(2)
    return shifted.rot90(quarters, dims=(-2, -1))


def _noise(images: Tensor, cells: tuple[int, int]) -> Tensor:
    """Draw smooth noise ``(1, H, W)`` with a standard deviation near 1."""
    grid = torch.randn(1, 1, *(cell + 1 for cell in cells), device=images.device, dtype=images.dtype)
    noise: Tensor = F.interpolate(grid, images.shape[-2:], mode="bicubic", align_corners=True)[0]
    return noise


def _blot(images: Tensor) -> Tensor:
    """Draw a mask ``(1, H, W)``, 1 where smooth noise is largest and else 0: from one large blot to many thin ones."""
    noise = _noise(images, (2 ** (1 + _below(5)), 2 ** (1 + _below(5))))
    area = torch.empty(()).uniform_(*AREA).item()
    pixels = max(1, round(area * noise.numel()))
    return (noise >= noise.flatten().topk(pixels).values[-1]).to(images.dtype)
