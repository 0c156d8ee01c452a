# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Seeded images of surfaces and a part, with and without defects, in the layouts of MVTec AD and MVTec 3D-AD.

A scene is an albedo and a height: defects change either or both, and shading follows from the height, so that a scratch
catches light like the rest of the surface. An image with a defect and the same scene without it differ only inside the
mask.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.files import whole_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.random import Generator

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

#: Raised whenever the same seed yields other images; part of every data set's manifest.
GENERATOR_VERSION = 1
Layout = Literal["mvtec", "mvtec3d"]
MANIFEST = "manifest.json"
#: A change below this many grey levels, before noise, belongs to no defect.
VISIBLE = 2.0 / 255


@dataclass(frozen=True)
class Surface:
    """A surface in front of the camera.

    Attributes:
        albedo: Share of light reflected, ``(H, W, 3)`` in 0..1.
        height: Height towards the camera, in pixels, ``(H, W)``.
        body: Share of each pixel covered by the inspected object, ``(H, W)`` in 0..1; defects stay within it.
        gloss: Strength of the highlights, ``(H, W)``.
        sheen: Light that does not depend on the height: reflections and cast shadows as a factor, ``(H, W)``.
        give: How far the material yields to a blow; 1 for steel.
    """

    albedo: FloatArray
    height: FloatArray
    body: FloatArray
    gloss: FloatArray
    sheen: FloatArray
    give: float = 1.0

    @property
    def size(self) -> int:
        """Side in pixels; surfaces are square."""
        return len(self.height)


@dataclass(frozen=True)
class Camera:
    """Light and sensor of one shot.

    Attributes:
        light: Direction towards the light, a unit vector ``(x, y, z)``.
        exposure: Brightness of every pixel, as uneven as lamps are, ``(H, W)``.
        noise: Sensor noise, ``(H, W, 3)``.
    """

    light: tuple[float, float, float]
    exposure: FloatArray
    noise: FloatArray


@dataclass(frozen=True)
class Shot:
    """One image.

    Attributes:
        image: ``(H, W, 3)`` uint8.
        clean: The same shot of the same scene without its defect; equal to ``image`` for a normal shot.
        mask: Pixels changed by the defect, ``(H, W)``.
        height: The surface's height with the defect, in pixels, ``(H, W)``.
        clean_height: The height without it, ``(H, W)``.
    """

    image: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    mask: BoolArray
    height: FloatArray
    clean_height: FloatArray


# --- tools -----------------------------------------------------------------------------------------------------------


def _blur(field: FloatArray, along: float, across: float | None = None, angle: float = 0.0) -> FloatArray:
    """Blur by a Gaussian of ``along`` and ``across`` pixels, rotated by ``angle``; the borders wrap around."""
    across = along if across is None else across
    rows, columns = field.shape[:2]
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    u, v = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
    window = np.exp(-2 * np.pi**2 * ((along * u) ** 2 + (across * v) ** 2))
    return np.fft.irfft2(np.fft.rfft2(field) * window, s=(rows, columns)).astype(np.float32)


def _noise(rng: Generator, size: int, along: float, across: float | None = None, angle: float = 0.0) -> FloatArray:
    """Draw smooth noise with mean 0 and variance 1, ``(H, W)``."""
    field = _blur(rng.standard_normal((size, size), np.float32), along, across, angle)
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-9), np.float32)


def _grid(size: int) -> tuple[FloatArray, FloatArray]:
    """Return columns and rows of the pixels, ``(H, W)`` each."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return x, y


def _tint(tone: FloatArray, colour: tuple[float, float, float]) -> FloatArray:
    """Colour a grey ``(H, W)``, ``(H, W, 3)``."""
    return np.clip(tone[..., None] * np.asarray(colour, np.float32), 0, 1)


def _ease(field: FloatArray) -> FloatArray:
    """Ease smoothly from 0 to 1; constant outside."""
    field = np.clip(field, 0, 1)
    return field * field * (3 - 2 * field)


# --- surfaces --------------------------------------------------------------------------------------------------------


def fabric(rng: Generator, size: int) -> Surface:
    """Draw a plain weave: threads of two shades over and under each other, never quite straight or even."""
    x, y = _grid(size)
    pitch = 7.5 * rng.uniform(0.97, 1.03)  # pixels from thread to thread
    angle = np.deg2rad(rng.uniform(-3, 3))
    sag = size / 12
    u = (np.cos(angle) * x - np.sin(angle) * y + 0.9 * _noise(rng, size, sag)) / pitch + rng.uniform(0, 2)
    v = (np.sin(angle) * x + np.cos(angle) * y + 0.9 * _noise(rng, size, sag)) / pitch + rng.uniform(0, 2)
    warp, weft = np.round(u).astype(int), np.round(v).astype(int)
    rise_warp = 0.5 * np.cos(np.pi * (v - warp)) + np.sqrt(np.clip(1 - (2 * (u - warp)) ** 2, 0, 1))
    rise_weft = -0.5 * np.cos(np.pi * (u - weft)) + np.sqrt(np.clip(1 - (2 * (v - weft)) ** 2, 0, 1))
    over = _ease((rise_warp - rise_weft) * 3 + 0.5)
    slub_warp, slub_weft = _noise(rng, size, 0.6, 9.0), _noise(rng, size, 9.0, 0.6)
    shade = rng.normal(0, 0.024, (2, 512))  # every thread has its own tone
    tone_warp = 0.60 + shade[0][warp % 512] + 0.024 * slub_warp
    tone_weft = 0.47 + shade[1][weft % 512] + 0.024 * slub_weft
    tone = over * tone_warp + (1 - over) * tone_weft
    height = np.maximum(rise_warp, rise_weft)
    tone = tone * (0.72 + 0.28 * _ease(height / 1.2))  # gaps between threads are dark
    hue = rng.normal(0, 0.004, 3)
    albedo = _tint(tone.astype(np.float32), (1.04 + hue[0], 0.98 + hue[1], 0.84 + hue[2]))
    flat = np.ones((size, size), np.float32)
    swell = 1.5 * _noise(rng, size, size / 8)
    return Surface(albedo, (0.9 * height + swell).astype(np.float32), flat, 0 * flat, flat, give=1.7)


def metal(rng: Generator, size: int) -> Surface:
    """Draw a brushed sheet: fine parallel lines, and a broad reflection that moves with the lamp."""
    x, _ = _grid(size)
    angle = np.deg2rad(rng.uniform(-2, 2))
    lines = 0.6 * _noise(rng, size, size / 5, 0.45, angle) + 0.4 * _noise(rng, size, size / 14, 0.7, angle)
    lines = lines + 0.35 * _noise(rng, size, size / 2, 2.5, angle)
    place = size * rng.uniform(0.35, 0.65)
    band = np.exp(-(((x - place) / (size * rng.uniform(0.32, 0.4))) ** 2)) * rng.uniform(0.22, 0.3)
    flat = np.ones((size, size), np.float32)
    hue = rng.normal(0, 0.004, 3)
    albedo = _tint(
        0.52 + 0.045 * lines + 0.012 * _noise(rng, size, size / 10), (0.97 + hue[0], 1 + hue[1], 1.03 + hue[2])
    )
    height = 0.12 * lines + 1.2 * _noise(rng, size, size / 6)
    return Surface(albedo, height.astype(np.float32), flat, 0.35 * flat, (1 + band).astype(np.float32))


def washer(rng: Generator, size: int) -> Surface:
    """Draw a turned steel washer with a key slot on a dark mat, never twice in the same place."""
    x, y = _grid(size)
    outer, inner = size * rng.uniform(0.352, 0.360), size * rng.uniform(0.150, 0.155)
    dx, dy = x - size * rng.uniform(0.47, 0.53), y - size * rng.uniform(0.47, 0.53)
    radius, turn = np.hypot(dx, dy), np.arctan2(dy, dx)
    facing = rng.uniform(0, 2 * np.pi)
    along = np.cos(facing) * dx + np.sin(facing) * dy
    aside = np.cos(facing) * dy - np.sin(facing) * dx
    slot = np.minimum(np.minimum(along, inner * 1.35 - along), inner * 0.24 - np.abs(aside))  # positive inside the slot
    edge = np.minimum(outer - radius, np.minimum(radius - inner, -slot))
    body = np.clip(edge + 0.5, 0, 1)
    bevel = size / 48
    thickness = size / 32
    top = thickness * (0.5 + 0.5 * _ease(edge / bevel)) * np.clip(edge + 0.5, 0, 1)
    groove = np.interp(radius, np.arange(size), np.convolve(rng.normal(size=size), [0.25, 0.5, 0.25], "same"))
    tone = 0.60 + 0.022 * groove + 0.012 * _noise(rng, size, 0.7) + 0.012 * _noise(rng, size, size / 16)
    bow_tie = 0.16 * np.cos(2 * (turn - rng.uniform(0.6, 0.9)))  # turned steel shines in two fans
    mat = 0.20 + 0.014 * _noise(rng, size, 0.8) + 0.012 * _noise(rng, size, size / 10)
    shift = int(size / 40)
    shadow = _blur(np.roll(body, (shift, shift), (0, 1)).astype(np.float32), size / 70)
    sheen = (1 - body) * (1 - 0.55 * shadow) + body * (1 + bow_tie)
    cover = body[..., None]
    albedo = _tint(tone.astype(np.float32), (1.0, 0.99, 0.96)) * cover + _tint(
        mat.astype(np.float32), (0.9, 1.0, 1.1)
    ) * (1 - cover)
    return Surface(
        albedo.astype(np.float32),
        (top + 0.05 * groove * body).astype(np.float32),
        _ease((edge - 1) / 3).astype(np.float32),
        (0.4 * body).astype(np.float32),
        sheen.astype(np.float32),
    )


# --- defects ---------------------------------------------------------------------------------------------------------


def _spot(rng: Generator, surface: Surface, margin: float = 0.08) -> tuple[float, float]:
    """Choose a place on the body, away from the image border, as column and row."""
    size = surface.size
    inside = np.zeros_like(surface.body, dtype=bool)
    edge = int(margin * size)
    inside[edge : size - edge, edge : size - edge] = True
    rows, columns = np.nonzero((surface.body >= 1) & inside)
    chosen = int(rng.integers(len(rows)))
    return float(columns[chosen]), float(rows[chosen])


def scratch(rng: Generator, surface: Surface) -> Surface:
    """Add a curved groove with a rim: bare material of another brightness, deeper by up to two pixels."""
    size = surface.size
    x, y = _grid(size)
    column, row = _spot(rng, surface)
    length, heading = size * rng.uniform(0.14, 0.45), rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-0.5, 0.5, 40)
    bend = heading + rng.normal(0, 0.5) * steps + 0.04 * np.cumsum(rng.normal(0, 1, 40)) / np.sqrt(40)
    path_x = column + np.cumsum(np.cos(bend)) * length / 40 - np.cos(heading) * length / 2
    path_y = row + np.cumsum(np.sin(bend)) * length / 40 - np.sin(heading) * length / 2
    distance = np.full((size, size), np.inf, np.float32)
    pressure = np.zeros((size, size), np.float32)
    weight = np.sin(np.pi * (steps + 0.5)) ** 0.4 * (0.7 + 0.3 * rng.random(40))  # lighter at both ends
    for px, py, force in zip(path_x, path_y, weight, strict=True):
        step = np.hypot(x - px, y - py)
        closer = step < distance
        distance = np.where(closer, step, distance)
        pressure = np.where(closer, force, pressure)
    width = rng.uniform(0.7, 1.6) * size / 192
    line = _ease(1.3 - distance / (1.6 * width)) * pressure * surface.body
    rim = _ease(1.2 - np.abs(distance - 2.2 * width) / width) * pressure * surface.body
    bare = rng.choice([-1.0, 1.0], p=[0.35, 0.65]) * np.exp(rng.uniform(np.log(0.15), np.log(0.40)))
    albedo = np.clip(surface.albedo * (1 + bare * line[..., None]), 0, 1)
    depth = rng.uniform(0.5, 1.6) * surface.give
    return replace(
        surface,
        albedo=albedo.astype(np.float32),
        height=(surface.height - depth * line + 0.3 * depth * rim).astype(np.float32),
    )


def dent(rng: Generator, surface: Surface) -> Surface:
    """Add a smooth oval hollow (sometimes a bump), slightly darker at its centre."""
    size = surface.size
    x, y = _grid(size)
    column, row = _spot(rng, surface)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.7)
    radius = size * rng.uniform(0.035, 0.085) * surface.give**0.5
    u = np.cos(angle) * (x - column) + np.sin(angle) * (y - row)
    v = np.cos(angle) * (y - row) - np.sin(angle) * (x - column)
    wobble = 1 + 0.08 * _noise(rng, size, size / 20)
    ground = np.hypot(u / stretch, v) / (radius * wobble)
    bowl = (np.clip(1 - ground**2, 0, 1) ** 2 * surface.body).astype(np.float32)
    steep = np.exp(rng.uniform(np.log(0.12), np.log(0.40))) * rng.choice([1.0, -1.0], p=[0.75, 0.25]) * surface.give
    dark = rng.uniform(0.10, 0.20) * surface.give
    albedo = surface.albedo * (1 - dark * bowl[..., None])
    return replace(surface, albedo=albedo, height=(surface.height - steep * radius * bowl).astype(np.float32))


def stain(rng: Generator, surface: Surface) -> Surface:
    """Add a dried liquid: an uneven outline, a tint, a darker rim; the height does not change."""
    size = surface.size
    x, y = _grid(size)
    column, row = _spot(rng, surface)
    radius = size * rng.uniform(0.04, 0.10)
    ragged = 0.22 * _noise(rng, size, radius / 2.5) + 0.10 * _noise(rng, size, max(radius / 7, 0.8))
    inside = 1 - np.hypot(x - column, (y - row) * rng.uniform(0.8, 1.3)) / radius + ragged
    soft = rng.uniform(0.12, 0.45)
    near = _ease(3 - np.hypot(x - column, y - row) / radius)  # no islands far away
    wet = _ease(inside / soft) * near * surface.body
    rim = _ease(1 - np.abs(inside - soft) / 0.3) * wet
    colour = np.asarray([(0.55, 0.40, 0.22), (0.22, 0.20, 0.20), (0.35, 0.45, 0.62), (0.62, 0.52, 0.20)], np.float32)
    tint = colour[rng.integers(len(colour))]
    strength = np.exp(rng.uniform(np.log(0.22), np.log(0.65)))
    cover = (strength * (wet * (0.75 + 0.12 * _noise(rng, size, 3.0)) + 0.4 * rim))[..., None]
    mixed = surface.albedo * (1 - np.clip(cover, 0, 0.9) * (1 - tint))
    return replace(surface, albedo=mixed.astype(np.float32), gloss=(surface.gloss * (1 - 0.5 * wet)).astype(np.float32))


SURFACES: dict[str, Callable[[Generator, int], Surface]] = {"fabric": fabric, "metal": metal, "washer": washer}
DEFECTS: dict[str, Callable[[Generator, Surface], Surface]] = {"scratch": scratch, "dent": dent, "stain": stain}
CATEGORIES = tuple(SURFACES)


# --- images ----------------------------------------------------------------------------------------------------------


def camera(rng: Generator, size: int) -> Camera:
    """Draw lamp and camera of an inspection cell: fixed, with small variations."""
    turn, tilt = np.deg2rad(rng.normal(225, 4)), np.deg2rad(rng.normal(50, 1.5))
    light = (float(np.cos(turn) * np.cos(tilt)), float(np.sin(turn) * np.cos(tilt)), float(np.sin(tilt)))
    x, y = _grid(size)
    u, v = x / size - 0.5, y / size - 0.5
    slope = rng.normal(0, 0.03, 2)
    exposure = rng.normal(1.0, 0.025) * (1 - 0.18 * (u**2 + v**2) + slope[0] * u + slope[1] * v - 0.05 * (u + v))
    noise = rng.normal(0, 0.009, (size, size, 1)) + rng.normal(0, 0.004, (size, size, 3))
    return Camera(light, exposure.astype(np.float32), noise.astype(np.float32))


def render(surface: Surface, shot: Camera) -> FloatArray:
    """Shade a surface, without sensor noise, ``(H, W, 3)`` in 0..1."""
    slope_y, slope_x = np.gradient(surface.height)
    steep = np.sqrt(1 + slope_x**2 + slope_y**2)
    lx, ly, lz = shot.light
    facing = np.clip((lz - lx * slope_x - ly * slope_y) / steep, 0, None) / lz  # 1 on flat ground
    hx, hy, hz = np.asarray((lx, ly, lz + 1)) / np.sqrt(2 + 2 * lz)
    flash = np.clip((hz - hx * slope_x - hy * slope_y) / steep, 0, 1) ** 40 - hz**40
    light = (0.45 + 0.55 * facing) * surface.sheen
    lit = surface.albedo * light[..., None] + (surface.gloss * flash)[..., None]
    lit = lit * shot.exposure[..., None]
    padded = np.pad(lit, ((1, 1), (1, 1), (0, 0)), mode="edge")  # the lens: a 3x3 binomial blur
    rows = 0.2 * padded[:-2] + 0.6 * padded[1:-1] + 0.2 * padded[2:]
    return np.clip(0.2 * rows[:, :-2] + 0.6 * rows[:, 1:-1] + 0.2 * rows[:, 2:], 0, 1).astype(np.float32)


def _dilate(mask: BoolArray) -> BoolArray:
    """Grow a mask by one pixel in all eight directions."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _close(mask: BoolArray) -> BoolArray:
    """Fill the thin lines inside a defect where its change switches from brighter to darker."""
    return ~_dilate(~_dilate(mask))


def take(category: str, seed: int, split: str, index: int, size: int, defect: str | None = None) -> Shot:
    """Take image ``index`` of a split; the same arguments yield the same bytes.

    Example:
        >>> shot = take("washer", seed=0, split="test", index=3, size=64, defect="dent")
        >>> shot.image.shape, bool((shot.image == shot.clean)[~shot.mask].all())
        ((64, 64, 3), True)
    """
    key = [seed, crc32(category.encode()), crc32(split.encode()), crc32((defect or "good").encode()), index]
    rng = np.random.default_rng(key)
    surface, shot = SURFACES[category](rng, size), camera(rng, size)
    clean = render(surface, shot)
    picture, mask, height = clean, np.zeros((size, size), bool), surface.height
    while defect is not None and mask.sum() < 12:  # redraw a defect that missed the body or cannot be seen
        damaged = DEFECTS[defect](rng, surface)
        picture = render(damaged, shot)
        changed = np.abs(picture - clean).max(-1) > VISIBLE
        mask = _close(changed)
        picture = np.where(mask[..., None], picture, clean)
        height = np.where(mask, damaged.height, surface.height)
    return Shot(_develop(picture, shot), _develop(clean, shot), mask, height, surface.height)


def _develop(picture: FloatArray, shot: Camera) -> NDArray[np.uint8]:
    """Add sensor noise and round, ``(H, W, 3)``."""
    pixels: NDArray[np.uint8] = np.round(255 * np.clip(picture + shot.noise, 0, 1)).astype(np.uint8)
    return pixels


#: Defects of the layout with depth: where they are visible, and which defect is drawn for even and odd numbers.
DEPTH_DEFECTS = {"colour": ("stain", "stain"), "depth": ("dent", "scratch"), "both": ("dent", "scratch")}
PIXEL_METRES = 0.0005
DISTANCE_METRES = 0.6


def take_depth(
    category: str, seed: int, split: str, index: int, size: int, defect: str | None = None
) -> tuple[NDArray[np.uint8], FloatArray, BoolArray]:
    """Take an image with its point cloud.

    Returns the image ``(H, W, 3)``, the points x, y, z in metres from the camera ``(H, W, 3)`` with zeros where the
    sensor measured nothing, and the mask ``(H, W)``. ``defect`` is a key of ``DEPTH_DEFECTS``: ``colour`` does not
    change the points, ``depth`` not the image.

    Example:
        >>> image, points, mask = take_depth("metal", seed=0, split="test", index=0, size=64, defect="depth")
        >>> image.shape, points.shape, bool(mask.any())
        ((64, 64, 3), (64, 64, 3), True)
    """
    painter = None if defect is None else DEPTH_DEFECTS[defect][index % 2]
    shot = take(category, seed, split, index, size, painter)
    image, mask = shot.image, shot.mask
    if defect == "depth":
        image, mask = shot.clean, _close(np.abs(shot.height - shot.clean_height) > 0.15)
    rng = np.random.default_rng([seed, crc32(category.encode()), crc32(split.encode()), index, 3])
    x, y = _grid(size)
    z = DISTANCE_METRES - PIXEL_METRES * (shot.height + rng.normal(0, 0.04, (size, size)))
    place = PIXEL_METRES / DISTANCE_METRES * z  # a pixel's width at the point
    points = np.stack([(x - size / 2) * place, (y - size / 2) * place, z], -1)
    slope_y, slope_x = np.gradient(shot.height)
    lost = (np.hypot(slope_x, slope_y) > 1.5) & (rng.random((size, size)) < 0.5)  # steep edges return no signal
    points[lost | (rng.random((size, size)) < 0.001)] = 0
    return image, points.astype(np.float32), mask


# --- data sets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """Parameters of one category's folder; two folders of the same recipe are equal byte by byte.

    Attributes:
        category: ``fabric``, ``metal`` or ``washer``.
        seed: Any integer from 0.
        image_size: Side in pixels, 64 or more.
        train_images: Number of normal training images.
        test_good: Number of normal test images.
        per_defect: Number of test images of each defect.
        layout: ``mvtec``, or ``mvtec3d`` with a point cloud per image and normal images to validate on.
        version: Version of the generator.
    """

    category: str
    seed: int = 0
    image_size: int = 192
    train_images: int = 60
    test_good: int = 12
    per_defect: int = 8
    layout: Layout = "mvtec"
    version: int = GENERATOR_VERSION

    def __post_init__(self) -> None:
        """Reject values that cannot be drawn."""
        if self.category not in SURFACES:
            msg = f"Expected category to be {' or '.join(CATEGORIES)}, got {self.category!r}. Choose one of them."
            raise ValueError(msg)
        check_arguments(vars(self), layout=Layout)

    @property
    def defects(self) -> tuple[str, ...]:
        """Names of the defects, which are also folders of the test split."""
        return tuple(DEFECTS if self.layout == "mvtec" else DEPTH_DEFECTS)

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(1 for _ in self.shots())

    def shots(self) -> Iterator[tuple[str, str, int]]:
        """Yield every image's split, label and number."""
        yield from (("train", "good", index) for index in range(self.train_images))
        for split in ("test",) if self.layout == "mvtec" else ("validation", "test"):
            yield from ((split, "good", index) for index in range(self.test_good))
        for defect in self.defects:
            yield from (("test", defect, index) for index in range(self.per_defect))


def make_dataset(root: Path | str, recipe: Recipe) -> Path:
    """Write one category unless it exists.

    The folder appears under its name only once it is complete. Returns that folder, ``root/category``.

    Raises:
        FileExistsError: If the folder holds anything but this recipe's images.
        OSError: If it cannot be written.
    """
    final = Path(root) / recipe.category
    if final.exists():
        _check_manifest(final, recipe)
        logger.info("Found the %s images in %s.", recipe.category, final)
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(final) as partial:
            for split, label, index in tqdm(
                recipe.shots(), f"Drawing {recipe.category}", len(recipe), unit="image", mininterval=1, disable=None
            ):
                _write(partial, recipe, split, label, index)
            (partial / MANIFEST).write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if not final.exists():
            msg = (
                f"Expected a writable folder for the drawn images, got '{final.parent}' ({error}). Start in a folder "
                "that you may write to, or choose another root."
            )
            raise type(error)(msg) from error
        _check_manifest(final, recipe)  # another process was faster
    return final


def _write(folder: Path, recipe: Recipe, split: str, label: str, index: int) -> None:
    """Write one image, with its mask and points if the layout has them."""
    defect = None if label == "good" else label
    where = (recipe.category, recipe.seed, split, index, recipe.image_size, defect)
    home = folder / split / label
    pictures: dict[Path, NDArray[np.uint8]] = {}
    if recipe.layout == "mvtec":
        shot = take(*where)
        pictures[home / f"{index:03}.png"] = shot.image
        if defect is not None:
            pictures[folder / "ground_truth" / label / f"{index:03}_mask.png"] = shot.mask * np.uint8(255)
    else:
        image, points, mask = take_depth(*where)
        pictures[home / "rgb" / f"{index:03}.png"] = image
        if split == "test":
            pictures[home / "gt" / f"{index:03}.png"] = mask * np.uint8(255)
        (home / "xyz").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(home / "xyz" / f"{index:03}.tiff", points, photometric="minisblack", planarconfig="contig")
    for path, pixels in pictures.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def _check_manifest(folder: Path, recipe: Recipe) -> None:
    """Check that an existing folder holds what the recipe would write."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = "no readable manifest"
    if isinstance(found, dict) and "picture_size" in found:  # the older name of image_size
        found["image_size"] = found.pop("picture_size")  # the older name
    if found != asdict(recipe):
        wanted = asdict(recipe)
        msg = f"Expected {folder} to be absent or drawn by {wanted}, got {found}. Remove it or choose another root."
        raise FileExistsError(msg)
