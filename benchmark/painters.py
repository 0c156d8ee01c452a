# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Painters of defects on photos and on depth: six kinds, three on the surface and three that change the shape."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

FloatArray = npt.NDArray[np.float32]
Painter = Callable[[FloatArray, tuple[int, int], np.random.Generator, FloatArray], tuple[FloatArray, FloatArray]]


def _changed(before: FloatArray, after: FloatArray) -> FloatArray:
    """Where a change is seen, small holes filled, ``(H, W)``, 0 or 1."""
    difference = Image.fromarray((np.abs(after - before).max(axis=2) > 0.05).astype(np.uint8))
    closed = np.asarray(difference.filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.MinFilter(5)))
    return closed.astype(np.float32)


def _blob(centre: tuple[int, int], radius: float, rng: np.random.Generator, size: tuple[int, int]) -> FloatArray:
    """Opacity ``(H, W)`` of an irregular round shape."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radii = radius * rng.uniform(0.6, 1.3, len(angles))
    points = [
        (centre[1] + r * np.cos(angle), centre[0] + r * np.sin(angle)) for r, angle in zip(radii, angles, strict=True)
    ]
    return _soft_mask(lambda draw: draw.polygon(points, fill=255), size, rng.uniform(0.8, 2.5))


def _soft_mask(draw: Callable[[ImageDraw.ImageDraw], None], size: tuple[int, int], blur: float) -> FloatArray:
    """Opacity ``(H, W)`` of a drawn shape with soft edges, 0..1."""
    picture = Image.new("L", (size[1], size[0]))
    draw(ImageDraw.Draw(picture))
    opacity: FloatArray = np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / np.float32(255)
    return opacity


def _lay_over(image: FloatArray, layer: FloatArray, opacity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Show a layer through ``opacity``: the image, and the opacity where that is seen."""
    alpha = opacity[..., None]
    return image * (1 - alpha) + layer * alpha, opacity * _changed(image, layer)


def paint_scratch(
    image: FloatArray,
    centre: tuple[int, int],
    rng: np.random.Generator,
    other: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Draw a thin bent line, lighter or darker than the surface.

    Args:
        image: ``(H, W, 3)``, 0..1.
        centre: Row and column of its middle.
        rng: Source of chance.
        other: Another normal image (unused).

    Returns:
        The image and the opacity ``(H, W)``.
    """
    del other
    height, width = image.shape[:2]
    length = rng.uniform(0.04, 0.2) * height
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.6)
    points = []
    for step in np.linspace(-0.5, 0.5, 12):
        turn = angle + bend * step
        points.append((centre[1] + length * step * np.cos(turn), centre[0] + length * step * np.sin(turn)))
    line_width = int(rng.integers(1, 4))
    opacity = _soft_mask(lambda draw: draw.line(points, fill=255, width=line_width), (height, width), 0.6)
    shade = image.mean() + rng.choice([-1, 1]) * rng.uniform(0.15, 0.4)
    alpha = opacity[..., None] * np.float32(rng.uniform(0.5, 0.95))
    return image * (1 - alpha) + np.float32(np.clip(shade, 0, 1)) * alpha, opacity


def paint_stain(
    image: FloatArray,
    centre: tuple[int, int],
    rng: np.random.Generator,
    other: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Tint an irregular blob; arguments and result as for :func:`paint_scratch`."""
    del other
    height, width = image.shape[:2]
    opacity = _blob(centre, rng.uniform(0.02, 0.07) * height, rng, (height, width))
    grey = np.ptp(image, axis=2).max() < 1e-3  # a grey image stays grey
    shift = rng.uniform(-0.15, 0.15, 1 if grey else 3).astype(np.float32)
    shift += np.sign(shift) * np.float32(0.05)
    return np.clip(image + opacity[..., None] * shift, 0, 1), opacity


def paint_patch(
    image: FloatArray,
    centre: tuple[int, int],
    rng: np.random.Generator,
    other: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Paste a piece of another normal image, turned, where it does not belong; as :func:`paint_scratch`."""
    height, width = image.shape[:2]
    side = int(rng.uniform(0.05, 0.14) * height)
    top = int(rng.integers(0, height - side))
    left = int(rng.integers(0, width - side))
    piece = np.rot90(other[top : top + side, left : left + side], k=int(rng.integers(1, 4)))
    row = int(np.clip(centre[0] - side // 2, 0, height - side))
    column = int(np.clip(centre[1] - side // 2, 0, width - side))
    layer = image.copy()
    layer[row : row + side, column : column + side] = piece
    box = (column + 1, row + 1, column + side - 2, row + side - 2)
    return _lay_over(image, layer, _soft_mask(lambda draw: draw.ellipse(box, fill=255), (height, width), 1.0))


def paint_bend(
    image: FloatArray,
    centre: tuple[int, int],
    rng: np.random.Generator,
    other: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Push a part of the product aside, most in the middle and nothing far from it; as :func:`paint_scratch`."""
    del other
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    radius = rng.uniform(0.02, 0.06) * height
    push = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * radius**2))
    near = (push > 0.2).astype(np.float32)
    push *= rng.uniform(0.3, 0.7) * radius  # less than its radius, so that nothing folds over
    angle = rng.uniform(0, 2 * np.pi)
    from_column, from_row = columns + push * np.float32(np.cos(angle)), rows + push * np.float32(np.sin(angle))
    moved: FloatArray = np.asarray(
        cv2.remap(np.ascontiguousarray(image), from_column, from_row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )
    return moved, near * _changed(image, moved)


def paint_gap(
    image: FloatArray,
    centre: tuple[int, int],
    rng: np.random.Generator,
    other: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Cover a place with its neighbourhood, as if a piece had broken off or grown on; as :func:`paint_scratch`."""
    del other
    height, width = image.shape[:2]
    radius = rng.uniform(0.02, 0.05) * height
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(2, 3) * radius
    shift = np.asarray([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]], dtype=np.float32)
    layer: FloatArray = np.asarray(
        cv2.warpAffine(np.ascontiguousarray(image), shift, (width, height), borderMode=cv2.BORDER_REFLECT)
    )
    return _lay_over(image, layer, _blob(centre, radius, rng, (height, width)))


def paint_wear(
    image: FloatArray,
    centre: tuple[int, int],
    rng: np.random.Generator,
    other: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Smooth the detail of a place away, as wear does; as :func:`paint_scratch`."""
    del other
    height, width = image.shape[:2]
    opacity = _blob(centre, rng.uniform(0.03, 0.08) * height, rng, (height, width))
    layer: FloatArray = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.01, 0.02) * height))
    return _lay_over(image, layer, opacity)


SURFACE_PAINTERS: tuple[Painter, ...] = (paint_scratch, paint_stain, paint_patch)
PAINTERS: tuple[Painter, ...] = (*SURFACE_PAINTERS, paint_bend, paint_gap, paint_wear)


def _place(image: FloatArray, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel where something is to be seen, so that defects lie on the object more than on an empty background."""
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


def paint(image: FloatArray, other: FloatArray, rng: np.random.Generator, kind: int) -> tuple[FloatArray, FloatArray]:
    """Paint one to three defects of a kind.

    Args:
        image: ``(H, W, 3)``, 0..1.
        other: Another normal image of the same size.
        rng: Source of chance.
        kind: Index into ``PAINTERS``.

    Returns:
        The painted image and its mask ``(H, W)``, 0 or 1 and not empty.
    """
    for _ in range(20):
        painted, opacity = image, np.zeros(image.shape[:2], dtype=np.float32)
        for _ in range(int(rng.integers(1, 4))):
            painted, added = PAINTERS[kind](painted, _place(image, rng), rng, other)
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
        rng: Source of chance.
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
