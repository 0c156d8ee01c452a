# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Photos and depth maps as a graph takes them, from files and arrays; what is not clearly one is refused."""

from __future__ import annotations

from os import SEEK_CUR
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomalib_mkd.depth.checks import check_aspect
from anomalib_mkd.pictures import as_rgb, opened, read_picture, refuse_turned

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray: TypeAlias = NDArray[np.float32]
Picture: TypeAlias = "str | Path | NDArray[Any] | Image.Image"
"""A file, an array or a PIL image."""
ROUNDING = 1e-6
"""How far the floats of a photo may lie outside 0..1."""


def is_many(pictures: object) -> bool:
    """Return whether something is several images: a list, a tuple, or an array of four axes."""
    return isinstance(pictures, list | tuple) or (not isinstance(pictures, str | Path) and np.ndim(pictures) == 4)  # type: ignore[arg-type]


def read_region(path: Path | str) -> NDArray[np.bool_]:
    """Read a mask ``(H, W)``: the pixels of an image that are neither black nor transparent.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As for images, if compression with losses, as of JPEG, leaves black not black, or if all is inside.
    """
    with opened(path, "mask") as image:
        if _has_losses(image, path):
            msg = f"Expected a mask without losses, got '{path}', in which black is not quite black. Save it as PNG."
            raise ValueError(msg)
        inside: NDArray[np.bool_] = as_rgb(image, path).max(axis=-1) > 0
        if image.has_transparency_data:
            inside &= np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")) > 0
    if inside.all():
        msg = f"Expected a mask with black areas, got none in '{path}'. Draw in black what is to be ignored."
        raise ValueError(msg)
    return inside


def _has_losses(image: Image.Image, path: Path | str) -> bool:
    """Return whether a file is compressed with losses, by its content: names are anything."""
    if image.format == "TIFF":
        return image.info["compression"] in {"jpeg", "tiff_jpeg", "webp"}
    if image.format != "WEBP":
        return image.format in {"JPEG", "MPO", "JPEG2000", "AVIF"}
    with Path(path).open("rb") as file:
        file.seek(12)
        while head := file.read(8):  # a chunk's name and length
            if head[:4] == b"VP8 ":
                return True
            length = int.from_bytes(head[4:], "little")
            file.seek(length + length % 2, SEEK_CUR)
    return False


def photo(picture: Picture) -> FloatArray:
    """Convert one photo to ``(1, 3, H, W)`` in 0..1.

    Args:
        picture: A file or a PIL image of 8 bits per channel, or an array in RGB ``(H, W, 3)`` or ``(3, H, W)``: uint8,
            or floats in 0..1.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(picture, str | Path):
        array: NDArray[Any] = read_picture(picture)
    elif isinstance(picture, Image.Image):
        array = as_rgb(picture, "the image")
    else:
        array = np.asarray(picture)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    other = array.ndim == 3 and array.shape[-1] in {1, 2, 4}  # grey, or with an opacity, and 3 pixels high
    if array.ndim != 3 or not array.size or 3 not in {array.shape[0], array.shape[-1]} or other:
        msg = f"Expected an RGB photo (H, W, 3) or (3, H, W), got the shape {array.shape}. Convert it to RGB."
        raise ValueError(msg)
    if array.shape[-1] == 3:
        array = array.transpose(2, 0, 1)
    values: FloatArray = np.ascontiguousarray(array[None], np.float32)
    if array.dtype == np.uint8:
        values /= 255
        return values
    if array.dtype.kind != "f":
        msg = (
            f"Expected a photo of uint8, or of floats in 0..1, got {array.dtype}. Divide by its largest possible value."
        )
        raise ValueError(msg)
    low, high = float(array.min()), float(array.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN, too
        msg = f"Expected a photo of floats in 0..1, got {low:.7g} to {high:.7g}. Divide by the largest possible value."
        raise ValueError(msg)
    return values.clip(0, 1)


def photo_with_depth(
    image: Picture | None, depth: Any, source: Callable[[Path], NDArray[Any]] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Convert one photo and its depth; see :func:`photo` and :func:`depth_map`.

    Raises:
        TypeError: If one of the two is missing.
        ValueError: If one is wrong, or their aspect ratios differ.
    """
    if image is None or depth is None:
        msg = (
            f"Expected a photo and its depth, got no {'image' if image is None else 'depth'}. Pass both on every call."
        )
        raise TypeError(msg)
    if isinstance(image, str | Path):
        refuse_turned(image)
    pair = photo(image), depth_map(depth, source)
    check_aspect(pair[0].shape[2:], pair[1].shape[2:])
    return pair


def depth_map(depth: Any, source: Callable[[Path], NDArray[Any]] | None = None) -> FloatArray:
    """Convert one depth map to ``(1, C, H, W)``.

    Args:
        depth: A file, or floats ``(H, W)``, ``(1, H, W)``, ``(3, H, W)`` or ``(H, W, 3)``, NaN where missing.
        source: Reads and prepares files; None: they hold what the model expects.

    Raises:
        ValueError: If it is anything else, or everything is missing.
    """
    array = np.asarray((source or _read_depth)(Path(depth)) if isinstance(depth, str | Path) else depth)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape[0] not in {1, 3}:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in {1, 3} or not array.size:
        msg = f"Expected a depth map (H, W) or points (H, W, 3), got the shape {np.shape(array)}. Reshape it."
        raise ValueError(msg)
    if array.dtype.kind != "f":
        msg = f"Expected depth as floats in the unit of training, got {array.dtype}. Multiply it by the unit per step."
        raise ValueError(msg)
    if not np.isfinite(array).any():
        where = f" in {depth}" if isinstance(depth, str | Path) else ""
        msg = f"Expected a depth map with measured points{where}, got none that is finite. Scan the part again."
        raise ValueError(msg)
    return np.ascontiguousarray(array[None], np.float32)


def _read_depth(path: Path) -> NDArray[Any]:
    from anomalib_mkd.depth.reading import read_depth  # noqa: PLC0415  # TIFF and Eyecandies need packages of their own

    return read_depth(path, prepared=True)
