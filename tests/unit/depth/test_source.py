# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What is served, and what the cache keeps and forgets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from anomalib_mkd.depth import DepthSource, source
from tests.depth_folders import scan

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "scan.npy", scan(0, bump=True))
    return tmp_path / "scan.npy"


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a scan is prepared."""
    calls: list[int] = []
    original: Callable[..., Any] = source.prepare_depth
    monkeypatch.setattr(source, "prepare_depth", lambda *a, **k: calls.append(1) or original(*a, **k))
    return calls


def test_heights_or_points(path: Path) -> None:
    height = DepthSource()(path)
    assert height.shape == (1, 48, 48)
    assert height[0, 24, 24] == pytest.approx(0.03, abs=1e-3)
    points = DepthSource(serve="points")(path)
    assert points.dtype == np.float32
    assert np.array_equal(points, np.load(path).transpose(2, 0, 1), equal_nan=True)


def test_depth_becomes_points_by_the_focal_length(path: Path) -> None:
    np.save(path, np.full((48, 48), 600, np.uint16))
    with pytest.raises(ValueError, match=r"Expected points x, y, z in .*, got depth alone\. Set focal_length"):
        DepthSource(serve="points", scale=0.001)(path)
    points = DepthSource(serve="points", scale=0.001, focal_length=60)(path)
    assert points[:, 0, -1] == pytest.approx([0.235, -0.235, 0.6])


def test_a_map_is_prepared_once(path: Path, tmp_path: Path, prepared: list[int]) -> None:
    cached = DepthSource(cache_dir=tmp_path / "new" / "cache")
    first, second = cached(path), cached(path)
    assert len(prepared) == 1
    assert np.array_equal(first, second)
    assert np.array_equal(first, DepthSource()(path))
    assert [entry.suffix for entry in (tmp_path / "new" / "cache").iterdir()] == [".npz"]


def test_a_changed_scan_or_argument_is_prepared_anew(path: Path, tmp_path: Path, prepared: list[int]) -> None:
    cache = tmp_path / "cache"
    arguments: list[dict[str, Any]] = [
        {},
        {"plane": "corners"},
        {"inlier_distance": 0.003},
        {"removal_distance": 0.006},
        {"fill_iterations": 4},
        {"scale": 2},
        {"focal_length": 70},
    ]
    for count, each in enumerate(arguments, 1):
        DepthSource(cache_dir=cache, **each)(path)
        assert len(prepared) == count


def test_a_changed_file_is_prepared_anew(path: Path, tmp_path: Path, prepared: list[int]) -> None:
    cached = DepthSource(cache_dir=tmp_path / "cache")
    os.utime(path, (1, 1))
    cached(path)
    os.utime(path, (2, 2))
    cached(path)
    np.save(path, np.load(path)[:-1])
    os.utime(path, (2, 2))
    assert cached(path).shape == (1, 47, 48)
    (tmp_path / "other").mkdir()
    cached(Path(shutil.copy2(path, tmp_path / "other" / path.name)))
    assert len(prepared) == 4
    cached(path)
    assert len(prepared) == 4


def test_the_cache_is_filled_with_progress(path: Path, tmp_path: Path, prepared: list[int], capsys: Any) -> None:
    cached = DepthSource(cache_dir=tmp_path / "cache")
    cached.fill_cache([path])
    assert "Preparing depth maps: 100%" in capsys.readouterr().err
    cached.fill_cache([path])
    cached(path)
    assert len(prepared) == 1
    assert not capsys.readouterr().err


def test_planes_accepted_in_only_some_scans_are_reported_each_time(path: Path, tmp_path: Path) -> None:
    np.save(path.with_name("bare.npy"), scan(1))
    cached = DepthSource(cache_dir=tmp_path / "cache")
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match=r"Expected a background plane in every scan, got one in 1 of 2;"):
            cached.fill_cache([path, path.with_name("bare.npy")])
    for folder in (None, tmp_path / "other"):  # a new scan is named, with a cache or without
        with pytest.warns(RuntimeWarning, match=r"Expected a background plane in '.*bare\.npy', got none"):
            DepthSource(cache_dir=folder)(path.with_name("bare.npy"))
    DepthSource(cache_dir=tmp_path / "cache", plane="none").fill_cache([path])
    DepthSource(cache_dir=tmp_path / "cache", removal_distance=0).fill_cache([path, path.with_name("bare.npy")])


def test_an_interrupted_write_leaves_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr(source.np, "savez", full)
    with pytest.raises(ValueError, match="disk full"):
        DepthSource(cache_dir=tmp_path / "cache")(path)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_damaged_entry_is_named(path: Path, tmp_path: Path, kept: float) -> None:
    source = DepthSource(cache_dir=tmp_path / "cache", plane="none")
    source(path)
    (entry,) = (tmp_path / "cache").iterdir()
    content = entry.read_bytes()
    entry.write_bytes(content[: kept if kept != 0.5 else len(content) // 2])
    for read in (lambda: source(path), lambda: source.fill_cache([path])):
        with pytest.raises(
            ValueError, match=rf"^Expected a prepared depth map in {entry}, got \w+.*\. Delete that file"
        ):
            read()


def test_a_folder_that_cannot_be_written_is_reported(path: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    with pytest.raises(ValueError, match=r"Expected a writable folder as cache_dir, got .*cache.*Choose another"):
        DepthSource(cache_dir=tmp_path / "cache")(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"serve": "normals"}, "Expected serve to be 'height' or 'points', got 'normals'"),
        ({"scale": 0}, "Expected scale > 0 and finite or None or 'eyecandies', got 0"),
        ({"scale": "mm"}, "Expected scale > 0 .*, got 'mm'"),
        ({"focal_length": -1}, "Expected focal_length > 0"),
        ({"plane": "table"}, "Expected plane to be"),
        ({"serve": "points", "cache_dir": Path("cache")}, "Expected no cache_dir with depth='points'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthSource(**arguments)
