# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Planes found and refused, heights, holes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from anomalib_mkd.depth import prepare_depth
from anomalib_mkd.depth.preparation import _corners

Array = np.ndarray[Any, Any]
BOX = (slice(18, 30), slice(16, 34))
BOX_HEIGHT = 0.03
HOLE = (slice(22, 26), slice(20, 24))


def table(noise: float = 0.0005) -> tuple[Array, Array]:
    """A table seen at 45 degrees with a box on it: points ``(48, 48, 3)`` and true heights."""
    rng = np.random.default_rng(3)
    height = np.zeros((48, 48))
    height[BOX] = BOX_HEIGHT
    u, v = (each.ravel() / 300 for each in np.mgrid[-24:24, -24:24][::-1])
    normal = np.array([0.0, -np.sqrt(0.5), -np.sqrt(0.5)])  # towards the camera
    across, along = np.array([1.0, 0, 0]), np.array([0, np.sqrt(0.5), -np.sqrt(0.5)])
    lifted = height.ravel() + rng.normal(0, noise, height.size)
    points = np.array([0.02, 0.0, 0.8]) + np.outer(u, across) + np.outer(v, along) + np.outer(lifted, normal)
    return points.reshape(48, 48, 3).astype(np.float32), height


@pytest.mark.parametrize("plane", ["ransac", "corners"])
def test_heights_above_a_tilted_plane(plane: Any) -> None:
    points, height = table()
    prepared = prepare_depth(points, plane)
    assert prepared.plane_accepted
    assert prepared.height.dtype == np.float32
    assert np.array_equal(prepared.foreground, height > 0)
    assert (prepared.height[height == 0] == 0).all()
    assert np.abs(prepared.height[BOX] - BOX_HEIGHT).max() < 0.003


def test_the_same_scan_gives_the_same_map() -> None:
    points, _ = table()
    assert np.array_equal(prepare_depth(points).height, prepare_depth(points).height)


def test_the_plane_is_fitted_to_all_of_its_points() -> None:
    """One draw of three noisy points would be tilted by millimetres over the frame."""
    points, height = table(noise=0.001)
    surface = prepare_depth(points, inlier_distance=0.006, removal_distance=0).height
    rows, columns = np.nonzero(height == 0)
    slopes, *_ = np.linalg.lstsq(np.stack([rows - 24, columns - 24, np.ones_like(rows)], -1), surface[rows, columns])
    assert np.abs(slopes * [48, 48, 1]).max() < 2e-4


def test_what_stands_at_the_border_does_not_tilt_the_plane() -> None:
    points, _ = table()
    points[:, -6:] = points[:, -6:] * 0.9  # 25 % of the ring, nearer to the camera
    prepared = prepare_depth(points)
    assert prepared.plane_accepted
    assert np.abs(prepared.height[BOX] - BOX_HEIGHT).max() < 0.003
    assert prepared.height[24, -3] > 0.03


def test_hollows_are_negative_and_turned_scans_are_alike() -> None:
    points, _ = table(noise=0)
    points[BOX] += 2 * BOX_HEIGHT * np.array([0.0, np.sqrt(0.5), np.sqrt(0.5)])
    assert prepare_depth(points).height[24, 24] == pytest.approx(-BOX_HEIGHT, abs=1e-4)
    turned = points * np.array([1, -1, -1])  # an OpenGL camera looks along -z
    assert np.allclose(prepare_depth(turned).height, prepare_depth(points).height, atol=1e-6)


def test_depth_alone_is_measured_along_z() -> None:
    """In millimetres, falling by 2 mm per pixel: at right angles the box would be lower by the factor sqrt(5)."""
    z = np.tile(800.0 - 2 * np.arange(48), (48, 1))
    z[BOX] -= 30
    prepared = prepare_depth(z, inlier_distance=4, removal_distance=5)
    assert prepared.plane_accepted
    assert prepared.height[BOX] == pytest.approx(30, abs=1e-3)
    assert (prepared.height[~prepared.foreground] == 0).all()
    assert np.array_equal(prepare_depth(-z, inlier_distance=4, removal_distance=5).height, prepared.height)


def test_no_plane_keeps_the_depth() -> None:
    points, _ = table()
    points[3, 3] = 0
    prepared = prepare_depth(points, "none")
    assert not prepared.plane_accepted
    assert prepared.height[24, 24] == points[24, 24, 2]
    assert prepared.foreground.all()
    assert np.argwhere(~prepared.valid).tolist() == [[3, 3]]


def test_a_plane_that_holds_next_to_nothing_is_not_removed() -> None:
    """All of the border is missing but two rows of 20 points, which happen to lie in a plane."""
    z = np.zeros((48, 48))
    z[10:-10, 10:-10] = 0.4 + 0.1 * np.random.default_rng(0).random((28, 28))  # no plane of its own
    z[[0, 3], :20] = 0.6
    assert not prepare_depth(z).plane_accepted
    z[:10] = 0.6
    assert prepare_depth(z).plane_accepted


def test_a_bare_plane_is_kept_as_it_is_unless_nothing_is_to_be_removed() -> None:
    points, _ = table()
    points = points[:16]  # without the box
    bare = prepare_depth(points)
    assert not bare.plane_accepted
    assert np.array_equal(bare.height, points[..., 2])
    surface = prepare_depth(points, removal_distance=0)
    assert surface.plane_accepted
    assert surface.foreground.all()
    assert 0.0003 < surface.height.std() < 0.0007  # the noise itself


def test_a_ring_of_no_plane_is_refused() -> None:
    rng = np.random.default_rng(0)
    points = np.stack([*np.mgrid[:48, :48] / 300, rng.uniform(0.5, 0.9, (48, 48))], -1)
    prepared = prepare_depth(points, removal_distance=0)
    assert not prepared.plane_accepted
    assert np.array_equal(prepared.height, points[..., 2].astype(np.float32))


def test_an_empty_corner_is_left_out() -> None:
    """Its mean would be the camera itself. Of four corners three are enough, of two no plane is made."""
    points, _ = table()
    points[:3, :3] = 0
    valid = points[..., 2] != 0
    assert len(_corners(points.astype(np.float64), valid)) == 3
    assert np.abs(prepare_depth(points, "corners").height[BOX] - BOX_HEIGHT).max() < 0.003
    points[-3:, -3:] = np.nan
    assert not prepare_depth(points, "corners").plane_accepted


def test_small_holes_are_filled_and_stay_invalid() -> None:
    points, _ = table()
    points[HOLE] = np.nan
    points[2, 40] = 0
    prepared = prepare_depth(points)
    assert np.abs(prepared.height[HOLE] - BOX_HEIGHT).max() < 0.003
    assert not prepared.valid[HOLE].any()
    assert prepared.foreground[HOLE].all()
    assert np.argwhere(np.isnan(prepared.height)).tolist() == [[2, 40]]  # missing in the background stays missing
    assert np.isnan(prepare_depth(points, fill_iterations=0).height[HOLE]).all()


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 5, 9])
def test_holes_up_to_twice_as_wide_are_filled(iterations: int) -> None:
    for width in range(1, 21):
        z = np.full((48, 48), 0.6)
        z[20 : 20 + width, 20 : 20 + width] = 0
        prepared = prepare_depth(z, "none", fill_iterations=iterations)
        assert np.isnan(prepared.height).any() == (width > 2 * iterations)
        assert prepared.foreground.all() == (width <= 2 * max(iterations, 3))


def test_a_filled_hole_takes_the_mean_of_its_neighbours() -> None:
    z = np.full((48, 48), 0.6)
    z[20:23, 20:23] = [[0.61, 0.62, 0.63], [0.64, 0, 0.66], [0.67, 0.68, 0.69]]
    assert prepare_depth(z, "none").height[21, 21] == pytest.approx(0.65)


def test_a_hole_at_the_edge_takes_nothing_from_the_background() -> None:
    points, _ = table()
    points[18:20, 20:24] = np.nan
    assert np.abs(prepare_depth(points).height[18:20, 20:24] - BOX_HEIGHT).max() < 0.003


def test_wide_holes_stay_open() -> None:
    points, _ = table()
    points[18:30, 20:32] = 0
    assert np.isnan(prepare_depth(points).height[24, 26])


def test_pieces_count_and_specks_do_not() -> None:
    points, height = table(noise=0)
    speck, piece = (slice(6, 7), slice(40, 42)), (slice(38, 42), slice(20, 26))
    for place in (speck, piece):
        points[place] -= 0.02 * np.array([0.0, np.sqrt(0.5), np.sqrt(0.5)], np.float32)
    prepared = prepare_depth(points)
    assert prepared.height[piece] == pytest.approx(0.02, abs=1e-4)
    assert (prepared.height[speck] == 0).all()
    assert prepared.foreground.sum() == (height > 0).sum() + 24


def test_nothing_is_cut_off_if_nothing_is_to_be_removed() -> None:
    """Not even a bump that missing points surround, as in its own shadow."""
    depth = np.full((100, 100), 0.6)
    depth[20:60, 20:60] = np.nan
    depth[36:42, 36:42] = 0.57
    prepared = prepare_depth(depth, removal_distance=0)
    assert prepared.plane_accepted
    assert prepared.height[36:42, 36:42] == pytest.approx(0.03, abs=1e-6)


@pytest.mark.parametrize("missing", [0.0, np.nan, np.inf, -np.inf])
def test_missing_values_of_any_kind(missing: float) -> None:
    points, _ = table()
    points[:5, :5] = missing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared = prepare_depth(points)
    assert prepared.plane_accepted
    assert np.isnan(prepared.height[:5, :5]).all()
    assert np.isfinite(prepared.height[8:]).all()


@pytest.mark.parametrize("plane", ["ransac", "corners", "none"])
@pytest.mark.parametrize("shape", [(48, 48), (48, 48, 3), (1, 1)])
def test_a_frame_without_points_is_nan_and_a_warning(plane: Any, shape: tuple[int, ...]) -> None:
    with pytest.warns(RuntimeWarning, match="got one without any; its map is NaN everywhere"):
        prepared = prepare_depth(np.zeros(shape), plane)
    assert np.isnan(prepared.height).all()
    assert not prepared.plane_accepted
    assert not (prepared.valid.any())
    assert not (prepared.foreground.any())


@pytest.mark.parametrize("plane", ["ransac", "corners"])
@pytest.mark.parametrize("points", [np.full((48, 48), 0.6), np.full((48, 48, 3), 0.6), np.full((1, 1), 0.6)])
def test_a_constant_frame_has_no_plane_to_remove(plane: Any, points: Array) -> None:
    prepared = prepare_depth(points, plane)
    assert not prepared.plane_accepted
    assert (prepared.height == np.float32(0.6)).all()


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((48, 48, 2), {}, r"Expected depth \(H, W\) or points \(H, W, 3\), got the shape \(48, 48, 2\)"),
        ((3, 48, 48), {}, r"channels last"),
        ((0, 48), {}, r"got the shape \(0, 48\)"),
        ((8, 8), {"plane": "table"}, "Expected plane to be 'ransac' or 'corners' or 'none', got 'table'"),
        ((8, 8), {"inlier_distance": 0}, "Expected inlier_distance > 0"),
        ((8, 8), {"removal_distance": -1}, "removal_distance"),
        ((8, 8), {"fill_iterations": -1}, "fill_iterations"),
    ],
)
def test_wrong_arguments_are_refused(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_depth(np.ones(shape), **arguments)
