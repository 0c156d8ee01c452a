# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Selection of hyper-parameters without test images, on anomalies painted on held-out normal training images.

The held-out fifth of the training images is split in two: one half stays unchanged, the other gets painted defects:
three kinds on the surface, and three that change the shape. A candidate trains on the other four fifths and is measured
on this painted set as on a real one. Sets with depth are smaller: each held-out pair appears unchanged, and painted in
colour, in depth and in both.
"""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from anomalib_mkd.depth import read_depth
from benchmark.painters import PAINTERS, SURFACE_PAINTERS, FloatArray, paint, paint_scan
from benchmark.rows import JOINT, PAINTED, PAINTED_SCANS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

HELD_OUT, HELD_OUT_SCANS = 0.2, 0.3
"""Shares of the normal training images, and of those with depth, that a candidate does not train on."""

SCAN_DEFECTS = ("colour", "depth", "both")
"""Where a defect of a photo with depth is visible."""


def painted_data(source: Path, target: Path, seed: int) -> Path:
    """Make a data set in MVTec layout from the normal training images of another one.

    Args:
        source: Data set, of which only ``train/good`` is read.
        target: Folder to write; unchanged if already complete.
        seed: Seed of the held-out images and of the defects.

    Returns:
        ``target``.

    Raises:
        ValueError: If there are fewer than ten images.
    """
    done = target / "done"
    if done.exists():
        return target
    files = sorted(path for path in (source / "train" / "good").iterdir() if path.is_file())
    rng = np.random.default_rng(seed)
    train, held_out = _hold_out(files, HELD_OUT, rng, source)
    names = [painter.__name__.removeprefix("paint_") for painter in PAINTERS[: len(held_out) // 2]]
    parts = ["train/good", "test/good", *(f"{top}/{name}" for top in ("test", "ground_truth") for name in names)]
    for part in parts:
        (target / part).mkdir(parents=True, exist_ok=True)
    for path in train:
        _copy(path, target / "train" / "good")
    for path in held_out[::2]:
        _copy(path, target / "test" / "good")
    for number, path in enumerate(held_out[1::2]):
        kind = number % len(names)
        other = _read(train[int(rng.integers(len(train)))])
        image, mask = paint(_read(path), other, rng, kind)
        _picture(image).save(target / "test" / names[kind] / f"{path.stem}.png")
        _picture(mask).save(target / "ground_truth" / names[kind] / f"{path.stem}_mask.png")
    done.write_text(f"seed {seed}\n", encoding="utf-8")
    return target


def painted_scans(source: Path, target: Path, seed: int) -> Path:
    """Make a data set in MVTec 3D-AD's layout from the normal training images of another one with depth.

    Args:
        source: Data set in the same layout, of which only ``train/good`` and ``validation/good`` are read.
        target: Folder to write; unchanged if already complete.
        seed: Seed of the held-out images and of the defects.

    Returns:
        ``target``.

    Raises:
        FileNotFoundError: If an image has no depth.
        ValueError: If there are fewer than ten images.
    """
    done = target / "done"
    if done.exists():
        return target
    home = source / "train" / "good"
    photos, scans = ({path.stem: path for path in (home / kind).glob("*")} for kind in ("rgb", "xyz"))
    if missing := sorted(photos.keys() - scans.keys()):
        msg = f"Expected depth of each image in {home / 'xyz'}, got none of {missing[0]}. Add it, or remove the image."
        raise FileNotFoundError(msg)
    rng = np.random.default_rng(seed)
    train, held_out = _hold_out(sorted(photos), HELD_OUT_SCANS, rng, source)

    def keep(name: str, part: str) -> None:
        _copy(photos[name], target / part / "rgb")
        shutil.copy(scans[name], target / part / "xyz")

    for part in ("train/good", *(f"test/{name}" for name in ("good", *SCAN_DEFECTS))):
        for kind in ("rgb", "xyz", "gt"):
            (target / part / kind).mkdir(parents=True, exist_ok=True)
    if (source / "validation").is_dir():
        shutil.copytree(source / "validation", target / "validation", dirs_exist_ok=True)
    for name in train:
        keep(name, "train/good")
    for number, name in enumerate(held_out):
        keep(name, "test/good")
        other = _read(photos[train[int(rng.integers(len(train)))]])
        image, scan = _read(photos[name]), read_depth(scans[name])
        painted, moved, mask = paint_scan(image, scan, other, rng, number % len(SURFACE_PAINTERS))
        for label, (photo, depth) in zip(
            SCAN_DEFECTS, ((painted, scan), (image, moved), (painted, moved)), strict=True
        ):
            _picture(photo).save(target / "test" / label / "rgb" / f"{name}.png")
            np.save(target / "test" / label / "xyz" / f"{name}.npy", depth)
            _picture(mask).save(target / "test" / label / "gt" / f"{name}.png")
    done.write_text(f"seed {seed}\n", encoding="utf-8")
    return target


def _hold_out(
    files: Sequence[Any], share: float, rng: np.random.Generator, source: Path
) -> tuple[list[Any], list[Any]]:
    """Split at random, keeping the order of the remaining files."""
    if len(files) < 10:
        msg = f"Expected at least 10 images in {source / 'train' / 'good'}, got {len(files)}. Choose another data set."
        raise ValueError(msg)
    order = rng.permutation(len(files))
    held_out = order[: max(4, round(share * len(files)))]
    return [files[index] for index in sorted(order[len(held_out) :])], [files[index] for index in held_out]


def _picture(values: FloatArray) -> Image.Image:
    """Convert values in 0..1 to an 8-bit image."""
    return Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))


def _read(path: Path) -> FloatArray:
    """Read an image ``(H, W, 3)``, 0..1."""
    image: FloatArray = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / np.float32(255)
    return image


def _copy(path: Path, folder: Path) -> None:
    """Save as PNG, so that the file format does not reveal which images are painted."""
    Image.open(path).convert("RGB").save(folder / f"{path.stem}.png")


def measure_candidates(
    candidates: Mapping[str, Mapping[str, Any]],
    *,
    model: str,
    data: Sequence[str],
    seeds: Sequence[int],
    steps: int | None,
    batch_size: int,
    results: Path,
    data_root: Path,
    work: Path,
    **common: Any,
) -> None:
    """Train and measure every candidate on painted data sets.

    Args:
        candidates: Arguments of the model by variant name; ``training_steps`` and ``batch_size`` among them override
            the common ones.
        model: Class name.
        data: Folders under the data root, or names in ``JOINT``.
        seeds: Seeds of the split, the defects and the training.
        steps: Training steps; ``None`` for the model's own.
        batch_size: Images per training step.
        results: CSV file.
        data_root: Data root.
        work: Folder for the painted data sets.
        common: Further arguments of every :class:`Run`.
    """
    from benchmark.accuracy import measure_run  # noqa: PLC0415  # painting needs no torch
    from benchmark.runs import Run, has_depth, usual_steps  # noqa: PLC0415  # painting needs no torch

    for seed in seeds:
        for name in data:
            scans = has_depth(data_root, name)
            protocol, make = (PAINTED_SCANS, painted_scans) if scans else (PAINTED, painted_data)
            root = work / f"{protocol}_s{seed}"
            for part in JOINT.get(name, (name,)):
                make(data_root / part, root / part, seed)
            for variant, given in candidates.items():
                arguments = dict(given)
                run = Run(
                    model=model,
                    variant=variant,
                    data=name,
                    seed=seed,
                    protocol=protocol,
                    steps=usual_steps(model, name, arguments.pop("training_steps", steps)),
                    batch_size=arguments.pop("batch_size", batch_size),
                    arguments=arguments,
                    **common,
                )
                measure_run(run, results=results, data_root=root)
