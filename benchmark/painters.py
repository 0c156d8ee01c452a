# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Painters of defects on photos and on depth: six kinds, three on the surface and three that change the shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray = npt.NDArray[np.float32]
Painted = tuple[FloatArray, FloatArray]
"""An image, and the opacity ``(H, W)`` of the paint on it."""


@dataclass(frozen=True)
class Canvas:
    """Image to paint a defect on.

    Args:
        image: ``(H, W, 3)``, 0..1.
        other: Another normal image of the same size.
        rng: Random generator.
        centre: Row and column of the defect's centre.
    """

    image: FloatArray
    other: FloatArray
    rng: np.random.Generator
    centre: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    def mask(self, draw: Callable[[ImageDraw.ImageDraw], None], blur: float) -> FloatArray:
        """Return the opacity ``(H, W)`` of a drawn shape with soft edges, 0..1."""
        picture = Image.new("L", self.size[::-1])
        draw(ImageDraw.Draw(picture))
        soft = picture.filter(ImageFilter.GaussianBlur(blur))
        opacity: FloatArray = np.asarray(soft, dtype=np.float32) / np.float32(255)
        return opacity

    def blob(self, radius: float) -> FloatArray:
        """Return the opacity ``(H, W)`` of an irregular round shape around the centre."""
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radii = radius * self.rng.uniform(0.6, 1.3, len(angles))
        row, column = self.centre
        points = [(column + r * np.cos(angle), row + r * np.sin(angle)) for r, angle in zip(radii, angles, strict=True)]
        return self.mask(lambda draw: draw.polygon(points, fill=255), self.rng.uniform(0.8, 2.5))

    def changed(self, after: FloatArray) -> FloatArray:
        """Return where an image differs visibly from this one, small holes filled, ``(H, W)``, 0 or 1."""
        difference = Image.fromarray((np.abs(after - self.image).max(axis=2) > 0.05).astype(np.uint8))
        closed = np.asarray(difference.filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.MinFilter(5)))
        return closed.astype(np.float32)

    def covered(self, layer: FloatArray, opacity: FloatArray) -> Painted:
        """Lay another image over this one; return the result and the opacity where the change is visible."""
        alpha = opacity[..., None]
        return self.image * (1 - alpha) + layer * alpha, opacity * self.changed(layer)


def paint_scratch(on: Canvas) -> Painted:
    """Draw a thin bent line, lighter or darker than the surface."""
    height, _ = on.size
    length = on.rng.uniform(0.04, 0.2) * height
    angle, bend = on.rng.uniform(0, 2 * np.pi), on.rng.normal(0, 0.6)
    points = []
    for step in np.linspace(-0.5, 0.5, 12):
        turn = angle + bend * step
        points.append((on.centre[1] + length * step * np.cos(turn), on.centre[0] + length * step * np.sin(turn)))
    line_width = int(on.rng.integers(1, 4))
    opacity = on.mask(lambda draw: draw.line(points, fill=255, width=line_width), 0.6)
    shade = on.image.mean() + on.rng.choice([-1, 1]) * on.rng.uniform(0.15, 0.4)
    alpha = opacity[..., None] * np.float32(on.rng.uniform(0.5, 0.95))
    return on.image * (1 - alpha) + np.float32(np.clip(shade, 0, 1)) * alpha, opacity


def paint_stain(on: Canvas) -> Painted:
    """Tint an irregular blob."""
    height, _ = on.size
    opacity = on.blob(on.rng.uniform(0.02, 0.07) * height)
    grey = np.ptp(on.image, axis=2).max() < 1e-3  # a grey image stays grey
    shift = on.rng.uniform(-0.15, 0.15, 1 if grey else 3).astype(np.float32)
    shift += np.sign(shift) * np.float32(0.05)
    return np.clip(on.image + opacity[..., None] * shift, 0, 1), opacity


def paint_patch(on: Canvas) -> Painted:
    """Paste a rotated piece of another normal image where it does not belong."""
    height, width = on.size
    side = int(on.rng.uniform(0.05, 0.14) * height)
    top = int(on.rng.integers(0, height - side))
    left = int(on.rng.integers(0, width - side))
    piece = np.rot90(on.other[top : top + side, left : left + side], k=int(on.rng.integers(1, 4)))
    row = int(np.clip(on.centre[0] - side // 2, 0, height - side))
    column = int(np.clip(on.centre[1] - side // 2, 0, width - side))
    layer = on.image.copy()
    layer[row : row + side, column : column + side] = piece
    box = (column + 1, row + 1, column + side - 2, row + side - 2)
    return on.covered(layer, on.mask(lambda draw: draw.ellipse(box, fill=255), 1.0))


def paint_bend(on: Canvas) -> Painted:
    """Push a part of the product aside, most at the centre and fading to nothing."""
    height, width = on.size
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    radius = on.rng.uniform(0.02, 0.06) * height
    push = np.exp(-((rows - on.centre[0]) ** 2 + (columns - on.centre[1]) ** 2) / (2 * radius**2))
    near = (push > 0.2).astype(np.float32)
    push *= on.rng.uniform(0.3, 0.7) * radius  # less than its radius, so that nothing folds over
    angle = on.rng.uniform(0, 2 * np.pi)
    from_column, from_row = columns + push * np.float32(np.cos(angle)), rows + push * np.float32(np.sin(angle))
    image = np.ascontiguousarray(on.image)
    moved: FloatArray = np.asarray(
        cv2.remap(image, from_column, from_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )
    return moved, near * on.changed(moved)


def paint_gap(on: Canvas) -> Painted:
    """Cover a region with its neighbourhood, as if a piece had broken off or been added."""
    height, width = on.size
    radius = on.rng.uniform(0.02, 0.05) * height
    angle, distance = on.rng.uniform(0, 2 * np.pi), on.rng.uniform(2, 3) * radius
    shift = np.asarray([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]], dtype=np.float32)
    layer: FloatArray = np.asarray(
        cv2.warpAffine(np.ascontiguousarray(on.image), shift, (width, height), borderMode=cv2.BORDER_REFLECT)
    )
    return on.covered(layer, on.blob(radius))


def paint_wear(on: Canvas) -> Painted:
    """Smooth away the detail of a region, as wear does."""
    height, _ = on.size
    opacity = on.blob(on.rng.uniform(0.03, 0.08) * height)
    layer: FloatArray = np.asarray(cv2.GaussianBlur(on.image, (0, 0), on.rng.uniform(0.01, 0.02) * height))
    return on.covered(layer, opacity)


SURFACE_PAINTERS: tuple[Callable[[Canvas], Painted], ...] = (paint_scratch, paint_stain, paint_patch)
PAINTERS = (*SURFACE_PAINTERS, paint_bend, paint_gap, paint_wear)


def _place(image: FloatArray, rng: np.random.Generator) -> tuple[int, int]:
    """Choose a pixel with detail, so that defects lie on the object more often than on an empty background."""
    grey = Image.fromarray((image.mean(axis=2) * 255).astype(np.uint8))
    mean = np.asarray(grey.filter(ImageFilter.BoxBlur(6)), dtype=np.float64)
    detail = np.abs(np.asarray(grey, dtype=np.float64) - mean)
    picture = Image.fromarray(np.clip(detail * 4, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(10))
    weight = np.asarray(picture, dtype=np.float64) + 1
    margin = max(1, image.shape[0] // 16)
    inner = np.zeros_like(weight)
    inner[margin:-margin, margin:-margin] = weight[margin:-margin, margin:-margin]
    index = int(rng.choice(inner.size, p=inner.ravel() / inner.sum()))
    return index // inner.shape[1], index % inner.shape[1]


def paint(image: FloatArray, other: FloatArray, rng: np.random.Generator, kind: int) -> Painted:
    """Paint one to three defects of a kind.

    Args:
        image: ``(H, W, 3)``, 0..1.
        other: Another normal image of the same size.
        rng: Random generator.
        kind: Index into ``PAINTERS``.

    Returns:
        The painted image and its mask ``(H, W)``, 0 or 1 and not empty.
    """
    for _ in range(20):
        painted, opacity = image, np.zeros(image.shape[:2], dtype=np.float32)
        for _ in range(int(rng.integers(1, 4))):
            painted, added = PAINTERS[kind](Canvas(painted, other, rng, centre=_place(image, rng)))
            opacity = np.maximum(opacity, added)
        mask = ((opacity > 0.3) & (np.abs(painted - image).max(axis=2) > 0.02)).astype(np.float32)
        if mask.sum() >= 12:  # pixels
            return painted, mask
    msg = "Expected to paint a visible defect, got none in 20 attempts. Use images with some brightness and detail."
    raise ValueError(msg)


def paint_scan(
    image: FloatArray, scan: FloatArray, other: FloatArray, rng: np.random.Generator, kind: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Paint one to three defects of a kind on a photo, and raise or lower its depth in the same places.

    Args:
        image: ``(H, W, 3)``, 0..1.
        scan: Distances ``(h, w)`` or points x, y, z ``(h, w, 3)`` of the same view, missing values NaN.
        other: Another normal image of the photo's size.
        rng: Random generator.
        kind: Index into ``SURFACE_PAINTERS``.

    Returns:
        The painted image, the scan moved along its rays by 3 % to 8 % of the range that it spans, and the mask
        ``(H, W)``, 0 or 1 and not empty.
    """
    painted, mask = paint(image, other, rng, kind)
    distances = scan if scan.ndim == 2 else scan[..., 2]
    low, high = np.nanpercentile(distances, (1, 99))
    soft = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 1), distances.shape[::-1])
    shift = rng.choice([-1, 1]) * rng.uniform(0.03, 0.08) * (high - low)
    stretch = (1 + shift * soft / distances).astype(np.float32)
    return painted, scan * (stretch if scan.ndim == 2 else stretch[..., None]), mask
