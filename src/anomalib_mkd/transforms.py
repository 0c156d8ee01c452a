# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which transforms give the same image each time: only of those may anything be cached or exported."""

from __future__ import annotations

from typing import Any

from anomalib.data.transforms import ExportableCenterCrop
from torch import nn
from torchvision.transforms import v2

FIXED = {
    *(v2.CenterCrop, v2.ConvertImageDtype, v2.Grayscale, v2.Identity, v2.Normalize, v2.Pad, v2.RGB, v2.Resize),
    *(v2.ToDtype, v2.ToImage, v2.ToPureTensor, ExportableCenterCrop, nn.Identity),
}
"""Exactly these; a subclass may draw random numbers."""


def steps_of(transform: Any) -> list[Any]:
    """List the single transforms of a composition, in order.

    Example:
        >>> [type(step).__name__ for step in steps_of(v2.Compose([v2.Resize(8), v2.Compose([v2.RGB()])]))]
        ['Resize', 'RGB']
    """
    if type(transform) in {v2.Compose, nn.Sequential}:
        inner = transform.transforms if isinstance(transform, v2.Compose) else transform
        return [step for part in inner for step in steps_of(part)]
    return [] if transform is None else [transform]


def changing(transform: Any) -> str | None:
    """Name the first single transform that is not known to give the same image each time; ``None`` if all are.

    Args:
        transform: A transform of torchvision, or ``None``.

    Example:
        >>> changing(v2.Compose([v2.Resize((8, 8)), v2.RandomHorizontalFlip()])), changing(v2.Grayscale())
        ('RandomHorizontalFlip', None)
    """
    return next((type(step).__name__ for step in steps_of(transform) if type(step) not in FIXED), None)


def shows_all(transform: Any) -> bool:
    """Return whether the result is known to show the whole image and nothing else: no step crops or pads.

    Example:
        >>> shows_all(v2.Compose([v2.Resize((8, 8)), v2.Normalize([0.5], [0.5])])), shows_all(v2.CenterCrop(8))
        (True, False)
    """
    partial = {v2.CenterCrop, v2.Pad, ExportableCenterCrop}
    return all(type(step) in FIXED - partial for step in steps_of(transform))
