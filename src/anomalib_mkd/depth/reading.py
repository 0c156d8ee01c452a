# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One reader for depth scans of any format: float32, NaN where values are missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.pictures import BOMBS, too_large

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray: TypeAlias = NDArray[np.float32]
#: Unit per step of an integer image, or the z of its first and last step.
Scale: TypeAlias = "float | tuple[float, float] | None"


def _read_png(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile  # noqa: PLC0415  # other files do without

    try:
        return np.asarray(tifffile.imread(path))
    except OSError:
        raise
    except Exception as error:  # its decoders raise what they like
        msg = f"{type(error).__name__}: {error}"
        raise ValueError(msg) from error


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".png": _read_png,
    ".npy": lambda path: np.asarray(np.load(path, allow_pickle=False)),
}


def read_depth(
    path: Path | str, scale: float | tuple[float, float] | None = None, *, prepared: bool = False
) -> FloatArray:
    """Read a depth map ``(H, W)`` or an organised point cloud x, y, z ``(H, W, 3)`` from TIFF, PNG or NumPy.

    A point is missing if a channel is NaN or infinite, or z is 0 (as in MVTec 3D-AD); all its channels are then NaN.
    Integers are steps, floating-point numbers already units; 8-bit images are rejected.

    Args:
        path: A ``.tif``, ``.tiff``, ``.png`` or ``.npy``.
        scale: Required for integers: unit per step (0.001 for millimetres read as metres), or the z of the first and
            the last step (as in Eyecandies). A unit per step also multiplies floating-point numbers.
        prepared: Whether the file holds what was prepared, such as heights, in which 0 is a value like any other.

    Raises:
        ValueError: If the file cannot be read, has another shape or 8 bits, or if the scale is missing or does not fit.
    """
    if not isinstance(scale, tuple):
        check_arguments({"scale": scale}, optional=["scale"])
    path = Path(path)
    values = _load(path)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in {2, 3} or (values.ndim == 3 and values.shape[-1] != 3) or not values.size:
        msg = (
            f"Expected depth (H, W) or points (H, W, 3) in {path}, got the shape {values.shape}. Save one frame, "
            "channels last."
        )
        raise ValueError(msg)
    found = _in_units(values, scale, path)
    return found.astype(np.float32) if prepared else _mark_missing(found)


def _load(path: Path) -> NDArray[Any]:
    if path.suffix.lower() not in READERS:
        msg = f"Expected a depth map as {', '.join(READERS)}, got {path}. Convert it to one of these."
        raise ValueError(msg)
    try:
        return READERS[path.suffix.lower()](path)
    except FileNotFoundError:
        raise
    except BOMBS as error:
        msg = f"Expected fewer pixels in the depth map {path}, got {too_large(error)}."
        raise ValueError(msg) from error
    except (OSError, ValueError, EOFError) as error:
        msg = f"Expected a readable depth map in {path}, got {type(error).__name__}: {error}. Save the file again."
        raise ValueError(msg) from error


def _in_units(values: NDArray[Any], scale: Scale, path: Path) -> NDArray[np.float64]:
    """Convert steps to units."""
    if values.dtype.kind not in "iuf" or values.dtype.itemsize == 1:
        msg = f"Expected at least 16 bits per value in {path}, got {values.dtype}. Save raw depth, not an image of it."
        raise ValueError(msg)
    steps = values.astype(np.float64)
    if isinstance(scale, tuple):
        if values.dtype.kind == "f":
            msg = f"Expected 16-bit steps between two depths in {path}, got {values.dtype}. Set scale to one number."
            raise ValueError(msg)
        low, high = scale
        return np.asarray(low + (high - low) * steps / (2**16 - 1))
    if scale is None and values.dtype.kind != "f":
        msg = f"Expected a scale for the {values.dtype} values of {path}, got none. Set the unit per step, e.g. 0.001."
        raise ValueError(msg)
    return steps if scale is None else np.asarray(steps * scale)


def _mark_missing(values: NDArray[np.float64]) -> FloatArray:
    found = find_valid(values)
    return np.where(found if values.ndim == 2 else found[..., None], values, np.nan).astype(np.float32)


def find_valid(values: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return where a depth map ``(H, W)`` or cloud ``(H, W, 3)`` was measured: all channels finite, z not 0."""
    if values.ndim == 2:
        return np.asarray(np.isfinite(values) & (values != 0))
    return np.asarray(np.isfinite(values).all(-1) & (values[..., 2] != 0))


def unproject(depth: FloatArray, focal_length: float) -> FloatArray:
    """Convert a depth map ``(H, W)`` to points ``(H, W, 3)``; the optical axis passes through the image's centre.

    Args:
        depth: z along the optical axis.
        focal_length: In pixels.

    Example:
        >>> unproject(np.full((1, 3), 2, np.float32), focal_length=4)[0].tolist()
        [[-0.5, 0.0, 2.0], [0.0, 0.0, 2.0], [0.5, 0.0, 2.0]]
    """
    rows, columns = depth.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    shares = (x - (columns - 1) / 2, y - (rows - 1) / 2)
    return np.stack([*(depth * share / np.float32(focal_length) for share in shares), depth], -1).astype(np.float32)


def info_of(path: Path) -> Path:
    """Return the file with the range of a depth file of Eyecandies; no other data set has one."""
    return path.with_name(path.stem.removesuffix("_depth") + "_info_depth.yaml")


def eyecandies_range(path: Path) -> tuple[float, float]:
    """Read the depths of the first and last step of ``<name>_depth.png`` from ``<name>_info_depth.yaml`` next to it.

    Raises:
        ValueError: If that file is missing or incomplete.
    """
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415  # only Eyecandies needs it

    info = info_of(path)
    try:
        content = yaml.safe_load(info.read_text(encoding="utf-8"))
        low, high = (float(content["normalization"][name]) for name in ("min", "max"))
    except (OSError, TypeError, KeyError, ValueError, yaml.YAMLError) as error:
        msg = (
            f"Expected normalization: min, max in {info}, got {type(error).__name__}: {error}. Restore the file "
            "that comes with Eyecandies."
        )
        raise ValueError(msg) from error
    return low, high
