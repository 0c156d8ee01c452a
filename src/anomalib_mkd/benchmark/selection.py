# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Choosing hyper-parameters without a test image, on anomalies painted on held-out normal training images.

The held-out fifth of the training images is split in two: one half stays as it is, the other half gets painted
defects: three kinds that lie on the surface, and three that change the shape. A candidate trains on the other four
fifths and is measured on this painted set as on a real one. Sets with depth are smaller: each held-out pair is there
as it is, and painted in colour, in depth and in both.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from anomalib_mkd.benchmark.rows import JOINT, PAINTED, PAINTED_SCANS
from anomalib_mkd.depth import read_depth

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

HELD_OUT, HELD_OUT_SCANS = 0.2, 0.3
"""Shares of the normal training images, and of those with depth, that a candidate does not train on."""

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
    opacity = _soft_mask(lambda draw: draw.ellipse(box, fill=255), (height, width), 1.0)
    alpha = opacity[..., None]
    return image * (1 - alpha) + layer * alpha, opacity * _changed(image, layer)


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
    opacity = _blob(centre, radius, rng, (height, width))
    alpha = opacity[..., None]
    return image * (1 - alpha) + layer * alpha, opacity * _changed(image, layer)


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
    alpha = opacity[..., None]
    return image * (1 - alpha) + layer * alpha, opacity * _changed(image, layer)


SURFACE_PAINTERS: tuple[Painter, ...] = (paint_scratch, paint_stain, paint_patch)
PAINTERS: tuple[Painter, ...] = (*SURFACE_PAINTERS, paint_bend, paint_gap, paint_wear)
SCAN_DEFECTS = ("colour", "depth", "both")
"""What shows a defect of a photo with depth."""


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


def painted_data(source: Path, target: Path, seed: int) -> Path:
    """Make a data set in MVTec layout from the normal training images of another one.

    Args:
        source: Data set whose ``train/good`` is used; nothing else of it is read.
        target: Folder to write; kept as it is if a finished one is there.
        seed: Decides which images are held out, and the defects.

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


def painted_scans(source: Path, target: Path, seed: int) -> Path:
    """Make a data set in MVTec 3D-AD's layout from the normal training images of another one with depth.

    Args:
        source: Data set in the same layout, of which ``train/good`` and ``validation/good`` are read, and nothing else.
        target: Folder to write; kept as it is if a finished one is there.
        seed: Decides which images are held out, and the defects.

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
    """Split at random, what remains in its order."""
    if len(files) < 10:
        msg = f"Expected at least 10 images in {source / 'train' / 'good'}, got {len(files)}. Name another data set."
        raise ValueError(msg)
    order = rng.permutation(len(files))
    held_out = order[: max(4, round(share * len(files)))]
    return [files[index] for index in sorted(order[len(held_out) :])], [files[index] for index in held_out]


def _picture(values: FloatArray) -> Image.Image:
    """8 bits of values in 0..1."""
    return Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))


def _read(path: Path) -> FloatArray:
    """Image ``(H, W, 3)``, 0..1."""
    image: FloatArray = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / np.float32(255)
    return image


def _copy(path: Path, folder: Path) -> None:
    """Save as PNG, so that file format tells painted and clean images apart nowhere."""
    Image.open(path).convert("RGB").save(folder / f"{path.stem}.png")


def measure_candidates(
    candidates: Mapping[str, Mapping[str, Any]],
    *,
    model: str = "Mkd",
    data: Sequence[str],
    seeds: Sequence[int],
    weights: str,
    steps: int | None,
    batch_size: int,
    results: Path,
    shared: Path,
    data_root: Path,
    work: Path,
) -> None:
    """Train and measure every candidate on painted data sets.

    Args:
        candidates: Arguments of the model by variant name; ``training_steps`` and ``batch_size`` among them override
            the common ones.
        model: Class name.
        data: Folders under the data root, or names in ``JOINT``.
        seeds: Seeds of the split, the defects and the training.
        weights: Teacher weights.
        steps: Training steps; ``None`` = the model's own.
        batch_size: Training batch.
        results: CSV file.
        shared: Folder with ``weights/``.
        data_root: Data root.
        work: Folder for the painted data sets.
    """
    from anomalib_mkd.benchmark.accuracy import measure_run  # noqa: PLC0415  # painting needs no torch
    from anomalib_mkd.benchmark.runs import RGB_FOLDER, Run  # noqa: PLC0415  # painting needs no torch

    for seed in seeds:
        for name in data:
            scans = (data_root / name / "train" / "good" / RGB_FOLDER).is_dir()
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
                    weights=weights,
                    protocol=protocol,
                    steps=arguments.pop("training_steps", steps),
                    batch_size=arguments.pop("batch_size", batch_size),
                    arguments=arguments,
                )
                measure_run(run, results=results, shared=shared, data_root=root)
