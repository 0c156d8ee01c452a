# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How a data set's depth is read, prepared and cached; one object serves training, testing and prediction."""

from __future__ import annotations

import json
import warnings
import zlib
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.depth.preparation import (
    FILL_ITERATIONS,
    INLIER_DISTANCE,
    REMOVAL_DISTANCE,
    DepthMap,
    Plane,
    prepare_depth,
)
from anomalib_mkd.depth.reading import FloatArray, eyecandies_range, read_depth, unproject
from anomalib_mkd.files import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Serve = Literal["height", "points"]
#: Raised whenever the same scan and arguments yield another map; part of every entry's name.
PREPARATION_VERSION = 2


@dataclass(frozen=True)
class DepthSource:
    """Reads a scan's path as heights ``(1, H, W)`` or points ``(3, H, W)``, NaN where values are missing.

    Attributes:
        serve: ``height`` (prepared by :func:`prepare_depth`) or ``points`` (the unchanged organised cloud).
        scale: Unit per step of integers; ``eyecandies`` reads each file's range from the file next to it.
        focal_length: In pixels; turns a depth map into points. Clouds do not need it.
        plane: See :func:`prepare_depth`.
        inlier_distance: See :func:`prepare_depth`.
        removal_distance: See :func:`prepare_depth`.
        fill_iterations: See :func:`prepare_depth`.
        cache_dir: Folder for prepared maps. An entry belongs to a file, its size and time, and to the arguments above,
            so that any change prepares it again. None prepares on each read.

    Raises:
        ValueError: If an argument is out of range.
    """

    serve: Serve = "height"
    scale: float | Literal["eyecandies"] | None = None
    focal_length: float | None = None
    plane: Plane = "ransac"
    inlier_distance: float = INLIER_DISTANCE
    removal_distance: float = REMOVAL_DISTANCE
    fill_iterations: int = FILL_ITERATIONS
    cache_dir: Path | str | None = None

    def __post_init__(self) -> None:
        """Reject arguments that are out of range or exclude each other."""
        check_arguments(
            vars(self), optional=("scale", "focal_length"), serve=Serve, scale=Literal["eyecandies"], plane=Plane
        )
        if self.serve == "points" and self.cache_dir is not None:
            msg = "Expected no cache_dir with depth='points', got one. Remove cache_dir: points are not prepared."
            raise ValueError(msg)

    def __call__(self, path: Path | str) -> FloatArray:
        """Read a scan and return its heights or points."""
        if self.serve == "points":
            return self._points(Path(path))
        entry = None if self.cache_dir is None else self._entry(Path(path))
        if entry is not None and entry.exists():
            return np.asarray(_load(entry)["height"], np.float32)[None]
        prepared = self._prepare(Path(path))
        if self.plane != "none" and not prepared.plane_accepted:
            warnings.warn(
                f"Expected a background plane in '{path}', got none; its map is the unchanged depth. Inspect the "
                "scans, and choose plane and distances that fit them all.",
                RuntimeWarning,
                stacklevel=2,
            )
        if entry is not None:
            self._store(entry, prepared)
        return prepared.height[None]

    def fill_cache(self, paths: Sequence[Path | str]) -> None:
        """Prepare all uncached maps, showing progress, and warn if planes were accepted in only some of the scans.

        Raises:
            ValueError: If the folder is not writable.
        """
        if self.cache_dir is None:
            return
        entries = {self._entry(Path(path)): Path(path) for path in paths}
        missing = [entry for entry in entries if not entry.exists()]
        for entry in tqdm(missing, "Preparing depth maps", unit="map", mininterval=1, disable=not missing):
            self._store(entry, self._prepare(entries[entry]))
        accepted = sum(_was_accepted(entry) for entry in entries)
        if self.plane != "none" and accepted < len(entries):
            warnings.warn(
                f"Expected a background plane in every scan, got one in {accepted} of {len(entries)}; the maps of the "
                "others are the unchanged depth. Inspect the scans, and choose plane and distances that fit them all.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _read(self, path: Path) -> FloatArray:
        values = read_depth(path, eyecandies_range(path) if self.scale == "eyecandies" else self.scale)
        return unproject(values, self.focal_length) if values.ndim == 2 and self.focal_length else values

    def _points(self, path: Path) -> FloatArray:
        values = self._read(path)
        if values.ndim == 2:
            msg = f"Expected points x, y, z in {path}, got depth alone. Set focal_length, or depth='height'."
            raise ValueError(msg)
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    @property
    def _prepared_by(self) -> partial[DepthMap]:
        return partial(
            prepare_depth,
            plane=self.plane,
            inlier_distance=self.inlier_distance,
            removal_distance=self.removal_distance,
            fill_iterations=self.fill_iterations,
        )

    def _prepare(self, path: Path) -> DepthMap:
        return self._prepared_by(self._read(path))

    def _entry(self, path: Path) -> Path:
        """Return the cache file of a scan's prepared map."""
        state = path.stat()
        scale = eyecandies_range(path) if self.scale == "eyecandies" else self.scale
        key = [PREPARATION_VERSION, str(path.resolve()), state.st_size, state.st_mtime_ns, scale, self.focal_length]
        digest = sha256(json.dumps([*key, self._prepared_by.keywords], sort_keys=True).encode()).hexdigest()
        return Path(self.cache_dir or "") / f"{path.stem}-{digest[:24]}.npz"

    def _store(self, entry: Path, prepared: DepthMap) -> None:
        """Write an entry, which appears under its name only once it is complete."""
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with whole(entry) as unfinished:
                np.savez(unfinished, height=prepared.height, plane_accepted=prepared.plane_accepted)
        except OSError as error:
            msg = f"Expected a writable folder as cache_dir, got {self.cache_dir}: {error}. Choose another cache_dir."
            raise ValueError(msg) from error


def _was_accepted(entry: Path) -> bool:
    return bool(_load(entry)["plane_accepted"])


def _load(entry: Path) -> dict[str, NDArray[Any]]:
    """Read a cached map.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in ("height", "plane_accepted")}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        msg = f"Expected a prepared depth map in {entry}, got {type(error).__name__}: {error}. Delete that file."
        raise ValueError(msg) from error
