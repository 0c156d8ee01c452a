# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Prepares raw scans as heights above the background plane, outside any graph and without torch.

The constants come from public code for MVTec 3D-AD (metres): border, distances and number of draws from BTF
(https://github.com/eliahuhorwitz/3D-ADS), corners, closing and filling from TRD. The rule to accept a plane is ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.depth.reading import FloatArray, find_valid

BoolArray: TypeAlias = NDArray[np.bool_]
Points: TypeAlias = NDArray[np.float64]
Plane = Literal["ransac", "corners", "none"]

RING = 10  # pixels from the border in which to search for the background
CORNER = 3
DRAWS = 1000
VOTERS = 2000  # points that score a draw: enough to rank planes, few enough for large scans
LEAST_SHARE = 0.6
KEPT_SHARE = (0.02, 0.95)
INLIER_DISTANCE = 0.004
"""Default of the largest distance of a plane's points from it, in metres."""
REMOVAL_DISTANCE = 0.005
"""Default of the height below which points are background, in metres."""
FILL_ITERATIONS = 3
"""Default: half the width, in pixels, of the widest holes that are filled."""
LEAST_PART = 0.005  # of the image; smaller islands are noise
CLOSINGS = 3


@dataclass(frozen=True)
class DepthMap:
    """A prepared scan.

    Attributes:
        height: ``(H, W)``, in the scan's unit. With an accepted plane: height above it, positive towards the camera, 0
            in the background. Without one: z itself. NaN where missing, except for small holes, which are filled.
        foreground: Pixels that stand out from the plane, small holes included, ``(H, W)``; without a plane, all.
        valid: Pixels that the sensor measured, ``(H, W)``; filled holes are not valid.
        plane_accepted: Whether a plane was found and removed.
    """

    height: FloatArray
    foreground: BoolArray
    valid: BoolArray
    plane_accepted: bool


@dataclass(frozen=True)
class _Fit:
    """A plane: ``height = point . normal - offset``."""

    normal: Points
    offset: float

    def height(self, points: Points) -> Points:
        return np.asarray(points @ self.normal - self.offset)


def prepare_depth(
    points: ArrayLike,
    plane: Plane = "ransac",
    *,
    inlier_distance: float = INLIER_DISTANCE,
    removal_distance: float = REMOVAL_DISTANCE,
    fill_iterations: int = FILL_ITERATIONS,
) -> DepthMap:
    """Remove the background plane, find the foreground, fill its small holes.

    A plane is accepted if it holds 60 % of the points within 10 pixels of the border, and if removing it leaves 2 to
    95 % of all points: a rope may touch the border, a bare plate has no foreground. If not, a second plane is fitted to
    all points and must hold 60 % of them, since a part may lie across the border. Otherwise the scan stays unchanged. A
    frame without points yields a map of NaN and a warning.

    Args:
        points: An organised cloud x, y, z ``(H, W, 3)``, or depth along the optical axis ``(H, W)``. Missing points are
            NaN, infinite or z = 0. In a cloud, distances are perpendicular to the plane. Depth alone has no x and y:
            the plane is then fitted to column, row and z, and distances are measured along z (exact for a plane that
            faces the camera; if it is tilted, use :func:`anomalib_mkd.depth.reading.unproject` with the focal length).
        plane: ``ransac`` fits it to the ring at the border, then to all points, ``corners`` passes it through the means
            of three 3x3 corners that have points, ``none`` removes nothing.
        inlier_distance: How far a point of the plane may lie from it, in the scan's unit; the default is in metres.
        removal_distance: Points closer to the plane than this are background, same unit. 0 removes nothing: each point
            keeps its height, for a flat product that fills the image.
        fill_iterations: Holes of the foreground are filled up to a width of twice as many pixels. Raise it where the
            sensor leaves wider ones on good parts.

    Raises:
        ValueError: If the shape is wrong or an argument is out of range.

    Example:
        >>> z = np.full((64, 64), 0.60)
        >>> z[20:40, 20:40] = 0.55
        >>> prepared = prepare_depth(z)
        >>> bool(prepared.plane_accepted), round(float(prepared.height[30, 30]), 3), float(prepared.height[5, 5])
        (True, 0.05, 0.0)
    """
    check_arguments(locals(), plane=Plane)
    scan = _checked(points)
    valid = find_valid(scan)
    if not valid.any():
        warnings.warn(
            "Expected a scan with points, got one without any; its map is NaN everywhere. Check the sensor.",
            RuntimeWarning,
            stacklevel=2,
        )
    along_z = scan.ndim == 2
    cloud = np.where(valid[..., None], _with_pixels(scan) if along_z else scan, 0.0)
    for region in (valid & _ring(valid.shape), valid):  # a part that reaches the border may leave too little of a ring
        fit = _fit(cloud, valid, region, plane, inlier_distance, along_z=along_z)
        if fit is not None and _accepts(fit, cloud, valid, region, inlier_distance, removal_distance):
            break
        fit = None
    if fit is not None:
        measured = fit.height(cloud)
        all_counts = removal_distance == 0
        foreground = (
            _close(valid) if all_counts else _drop_islands(_close(valid & (np.abs(measured) > removal_distance)))
        )
        height = np.where(valid, np.where(foreground, measured, 0.0), np.nan)
    else:
        foreground = _close(valid)
        height = np.where(valid, cloud[..., 2], np.nan)
    solid = foreground if fill_iterations >= CLOSINGS else foreground & valid  # the foreground's own holes are narrow
    holes = _close(solid, fill_iterations) & ~valid
    foreground |= holes
    height = _fill(height, foreground, holes)
    return DepthMap(height.astype(np.float32), foreground, valid, plane_accepted=fit is not None)


def _checked(points: ArrayLike) -> Points:
    scan = np.asarray(points, np.float64)
    if scan.ndim not in {2, 3} or (scan.ndim == 3 and scan.shape[-1] != 3) or not scan.size:
        msg = f"Expected depth (H, W) or points (H, W, 3), got the shape {scan.shape}. Pass one frame, channels last."
        raise ValueError(msg)
    return scan


def _with_pixels(depth: Points) -> Points:
    """Use column and row as x and y."""
    rows, columns = np.indices(depth.shape)
    return np.stack([columns, rows, depth], -1)


# --- the plane -------------------------------------------------------------------------------------------------------


def _fit(
    cloud: Points, valid: BoolArray, region: BoolArray, plane: str, inlier_distance: float, *, along_z: bool
) -> _Fit | None:
    """Find the plane, oriented so that the camera is above it."""
    if plane == "none":
        return None
    if plane == "corners":
        normals, offsets = _planes_through(_corners(cloud, valid)[None, :3], along_z=along_z)
    else:
        normals, offsets = _best_plane(cloud[region], inlier_distance, along_z=along_z)
    if not len(normals):
        return None
    above = -1.0 if offsets[0] > 0 else 1.0  # the camera is at the origin; for depth alone, at z = 0 of each pixel
    return _Fit(above * normals[0], above * float(offsets[0]))


def _ring(shape: tuple[int, ...]) -> BoolArray:
    ring = np.ones(shape, bool)
    ring[RING:-RING, RING:-RING] = False
    return ring


def _corners(cloud: Points, valid: BoolArray) -> Points:
    """Compute the mean point of each corner with points, ``(0 to 4, 3)``; an empty corner's would be the camera."""
    first, last = slice(None, CORNER), slice(-CORNER, None)
    places = [(first, first), (first, last), (last, first), (last, last)]
    means = [cloud[place][valid[place]].mean(0) for place in places if valid[place].any()]
    return np.reshape(means, (-1, 3))


def _planes_through(triples: Points, *, along_z: bool) -> tuple[Points, Points]:
    """Compute the planes through three points each, ``(K, 3, 3)``; collinear triples are left out."""
    if triples.shape[1] < 3:
        return np.empty((0, 3)), np.empty(0)
    a, b, c = triples.transpose(1, 0, 2)
    return _planes(np.cross(b - a, c - a), a, along_z=along_z)


def _planes(normals: Points, anchors: Points, *, along_z: bool) -> tuple[Points, Points]:
    """Scale normals ``(K, 3)`` so that heights are distances, perpendicular or along z; drop degenerate ones."""
    lengths = np.abs(normals[:, 2]) if along_z else np.linalg.norm(normals, axis=1)
    spans = lengths > 1e-12
    normals = normals[spans] / lengths[spans, None]
    return normals, (normals * anchors[spans]).sum(1)


def _best_plane(ring: Points, inlier_distance: float, *, along_z: bool) -> tuple[Points, Points]:
    """Fit a plane by RANSAC (Fischler and Bolles, 1981): the draw with most inliers, refitted to them."""
    rng = np.random.default_rng(0)
    draws = rng.integers(max(len(ring), 1), size=(DRAWS, 3))
    normals, offsets = _planes_through(ring[draws] if len(ring) else ring[None], along_z=along_z)
    if not len(normals):
        return normals, offsets
    voters = ring[rng.permutation(len(ring))[:VOTERS]]
    votes = (np.abs(voters @ normals.T - offsets) <= inlier_distance).sum(0)
    best = int(votes.argmax())
    inliers = ring[np.abs(ring @ normals[best] - offsets[best]) <= inlier_distance]
    centre = inliers.mean(0)
    _, _, axes = np.linalg.svd(inliers - centre, full_matrices=False)
    return _planes(axes[-1:], centre[None], along_z=along_z)


def _accepts(
    fit: _Fit, cloud: Points, valid: BoolArray, region: BoolArray, inlier_distance: float, removal_distance: float
) -> bool:
    distance = np.abs(fit.height(cloud))
    on_plane = distance[region] <= inlier_distance
    if not on_plane.size or on_plane.mean() < LEAST_SHARE:
        return False
    kept = (distance[valid] > removal_distance).mean()
    return removal_distance == 0 or bool(KEPT_SHARE[0] <= kept <= KEPT_SHARE[1])


# --- the foreground --------------------------------------------------------------------------------------------------


def _close(mask: BoolArray, iterations: int = CLOSINGS) -> BoolArray:
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8), iterations=iterations)
    return np.asarray(closed, bool)


def _drop_islands(mask: BoolArray) -> BoolArray:
    """Keep every component above 0.5 % of the image, not only the largest: a piece broken off is a defect."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = np.asarray(stats)[:, cv2.CC_STAT_AREA] > LEAST_PART * mask.size
    large[0] = False  # the background of the mask
    return np.asarray(large[np.asarray(labels)], bool)


def _fill(height: Points, foreground: BoolArray, holes: BoolArray) -> Points:
    """Fill holes of the foreground with the mean of their 3x3 foreground neighbours, from the rim inwards."""
    while True:
        known = foreground & ~np.isnan(height)
        total, count = (_sum_neighbours(each) for each in (np.where(known, height, 0.0), known.astype(np.float64)))
        rim = holes & ~known & (count > 0)
        if not rim.any():
            return height
        height = np.where(rim, total / np.maximum(count, 1), height)


def _sum_neighbours(values: NDArray[Any]) -> Points:
    return np.asarray(cv2.boxFilter(values, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT))
