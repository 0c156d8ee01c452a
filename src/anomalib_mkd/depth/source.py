# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How the depth of a data set is read, prepared and kept; the same object serves training, testing and prediction."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from anomalib_mkd.depth.preparation import DepthMap, Plane, check_preparation, prepare_depth
from anomalib_mkd.depth.reading import FloatArray, eyecandies_range, read_depth, unproject

if TYPE_CHECKING:
    from collections.abc import Sequence

Serve = Literal["height", "points"]
#: Raised whenever the same scan and arguments give another map; part of every entry's name.
PREPARATION_VERSION = 1


@dataclass(frozen=True)
class DepthSource:
    """Turns the path of a scan into ``(1, H, W)`` heights or ``(3, H, W)`` points, missing values NaN.

    Attributes:
        serve: ``height`` (prepared by :func:`prepare_depth`) or ``points`` (the organised cloud as it is).
        scale: Unit per step of whole numbers; ``eyecandies`` reads the range of each file from the one beside it.
        focal_length: In pixels; places the pixels of a depth map in space. Clouds do not need it.
        plane: See :func:`prepare_depth`.
        inlier_distance: See :func:`prepare_depth`.
        removal_distance: See :func:`prepare_depth`.
        fill_iterations: See :func:`prepare_depth`.
        cache_dir: Where prepared maps are kept. An entry belongs to a file, its size and time, and to the arguments
            above, so a changed one is prepared anew. None prepares at each reading.

    Raises:
        ValueError: If an argument is none of these.
    """

    serve: Serve = "height"
    scale: float | Literal["eyecandies"] | None = None
    focal_length: float | None = None
    plane: Plane = "ransac"
    inlier_distance: float = 0.004
    removal_distance: float = 0.005
    fill_iterations: int = 8
    cache_dir: Path | str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be served."""
        if self.serve not in get_args(Serve):
            msg = f"Expected depth out of {', '.join(get_args(Serve))}, got {self.serve!r}. Choose one of them."
            raise ValueError(msg)
        for name, value in (("depth_scale", self.scale), ("focal_length", self.focal_length)):
            if value not in {None, "eyecandies"} and not (isinstance(value, float | int) and value > 0):
                msg = f"Expected {name} above 0, got {value!r}. Give it as one number, or leave it out."
                raise ValueError(msg)
        if self.serve == "points" and self.cache_dir is not None:
            msg = "Expected no cache_dir with depth='points', got one. Leave it out: points are not prepared."
            raise ValueError(msg)
        check_preparation(self.plane, self.inlier_distance, self.removal_distance, self.fill_iterations)

    def __call__(self, path: Path | str) -> FloatArray:
        """Read a scan and serve it."""
        if self.serve == "points":
            return self._points(Path(path))
        if self.cache_dir is None:
            prepared = self._prepare(Path(path))
            if self.plane != "none" and not prepared.plane_accepted:
                warnings.warn(
                    "No background plane was accepted in a scan, whose map is its depth as it is. Look at the scans, "
                    "and choose plane and distances that fit them all.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return prepared.height[None]
        entry = self._entry(Path(path))
        if not entry.exists():
            self._store(entry, self._prepare(Path(path)))
        with np.load(entry) as content:
            return np.asarray(content["height"], np.float32)[None]

    def fill_cache(self, paths: Sequence[Path | str]) -> None:
        """Prepare what is not kept yet, showing progress, and warn if planes were accepted in some scans only.

        Raises:
            ValueError: If the folder cannot be written.
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
                "others are their depth as it is. Look at the scans, and choose plane and distances that fit them all.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _read(self, path: Path) -> FloatArray:
        values = read_depth(path, eyecandies_range(path) if self.scale == "eyecandies" else self.scale)
        return unproject(values, self.focal_length) if values.ndim == 2 and self.focal_length else values

    def _points(self, path: Path) -> FloatArray:
        values = self._read(path)
        if values.ndim == 2:
            msg = f"Expected points x, y, z in {path}, got depth alone. Give focal_length, or ask for depth='height'."
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
        """Name the prepared map of a scan."""
        state = path.stat()
        scale = eyecandies_range(path) if self.scale == "eyecandies" else self.scale
        key = [PREPARATION_VERSION, str(path.resolve()), state.st_size, state.st_mtime_ns, scale, self.focal_length]
        digest = sha256(json.dumps([*key, self._prepared_by.keywords], sort_keys=True).encode()).hexdigest()
        return Path(self.cache_dir or "") / f"{path.stem}-{digest[:24]}.npz"

    def _store(self, entry: Path, prepared: DepthMap) -> None:
        """Write an entry, which appears under its name only when it is complete."""
        unfinished = entry.with_name(f".{entry.name}.{os.getpid()}.partial")
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, height=prepared.height, plane_accepted=prepared.plane_accepted)
            unfinished.replace(entry)
        except OSError as error:
            msg = f"Expected a folder to write in as cache_dir, got {self.cache_dir}: {error}. Choose another one."
            raise ValueError(msg) from error
        finally:
            with suppress(OSError):  # the folder itself may be at fault
                unfinished.unlink(missing_ok=True)


def _was_accepted(entry: Path) -> bool:
    with np.load(entry) as content:
        return bool(content["plane_accepted"])
