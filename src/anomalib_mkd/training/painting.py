# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Defects painted over training pictures, beside which a student learns what the teacher sees without them."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

AREA = (0.01, 0.11)
"""Smallest and largest share of a picture that is painted over."""


def paint_over(images: Tensor, share: float) -> Tensor:
    """Paint irregular places of a share of the pictures over, each time others.

    Source: DeSTSeg (Zhang et al., CVPR 2023) trains a student so, on Perlin noise filled with foreign photographs. Ours
    needs no photographs: a blot gets a piece of some picture of the batch, moved and turned; or a tint; or a mottled
    colour, each equally often, and of any opacity above 0.3.

    Args:
        images: Pre-processed images ``(N, C, H, W)``, of any range of values.
        share: Probability of each picture to be painted on, 0..1.

    Returns:
        Images of the same shape; the given ones are left as they are.

    Example:
        >>> images = torch.randn(4, 3, 64, 64)
        >>> changed = (paint_over(images, share=1.0) != images).any(dim=1).float().mean(dim=(1, 2))
        >>> bool((changed > 0).all() and (changed <= 0.11).all())
        True
    """
    if share == 0:
        return images  # and draw no random number, of which shuffling would take notice
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
    """A picture ``(C, H, W)`` pushed over its edges and turned, so that its parts come to lie anywhere."""
    height, width = image.shape[-2:]
    pushed = image.roll((_below(height), _below(width)), dims=(-2, -1))
    quarters = _below(4) if height == width else 2 * _below(2)
    return pushed.rot90(quarters, dims=(-2, -1))


def _noise(images: Tensor, cells: tuple[int, int]) -> Tensor:
    """Smooth noise ``(1, H, W)`` of a standard deviation near 1."""
    grid = torch.randn(1, 1, *(cell + 1 for cell in cells), device=images.device, dtype=images.dtype)
    noise: Tensor = F.interpolate(grid, images.shape[-2:], mode="bicubic", align_corners=True)[0]
    return noise


def _blot(images: Tensor) -> Tensor:
    """Where smooth noise is largest, ``(1, H, W)``, 0 or 1: one large blot up to many thin ones."""
    noise = _noise(images, (2 ** (1 + _below(5)), 2 ** (1 + _below(5))))
    area = torch.empty(()).uniform_(*AREA).item()
    pixels = max(1, round(area * noise.numel()))
    return (noise >= noise.flatten().topk(pixels).values[-1]).to(images.dtype)
