# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Freely usable images to distil the quick-start teacher on.

Most are computed: coloured noise, marble, weaves, cells, fractals, flames, strokes, shaded objects, and dead leaves cut
from all of these. The rest are views of photographs inside scikit-image's wheel whose documentation places them in the
public domain or under CC0. Two photographs of scikit-learn (CC BY 2.0) serve for held-out measurement only, so
nothing of them reaches the weights.

Source of the dead-leaves and noise statistics: Baradad et al., "Learning to See by Looking at Noise", 2021,
arXiv:2106.05963 (the idea that generated images can train early vision; the generators here are ours).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import skimage
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.random import Generator

Array = NDArray[np.float32]

TRAIN_PHOTOS = (
    "astronaut.png",  # NASA, public domain
    "brick.png",  # CC0
    "camera.png",  # CC0, Lav Varshney
    "chelsea.png",  # CC0, Stefan van der Walt
    "clock_motion.png",  # public domain, Stefan van der Walt
    "coffee.png",  # CC0, Rachel Michetti
    "coins.png",  # Brooklyn Museum, no known restrictions
    "grass.png",  # CC0
    "gravel.png",  # CC0
    "hubble_deep_field.jpg",  # NASA, public domain
    "ihc.png",  # CMMI, no known restrictions
    "retina.jpg",  # CC0, Mikael Haggstrom
    "rocket.jpg",  # SpaceX, public domain
    "text.png",  # public domain
)
HELD_OUT_PHOTOS = ("china.jpg", "flower.jpg")  # CC BY 2.0, measured on, never trained on


@cache
def photos(*, held_out: bool) -> list[Array]:
    """Read the photographs, each ``(H, W, 3)`` in 0..1 with a short side of 256 to 512 pixels."""
    package, folder, names = (
        (sklearn.datasets, "images", HELD_OUT_PHOTOS) if held_out else (skimage, "data", TRAIN_PHOTOS)
    )
    root = Path(str(package.__file__)).parent / folder
    pictures = []
    for name in names:
        picture = Image.open(root / name).convert("RGB")
        if min(picture.size) > 512:
            scale = 512 / min(picture.size)
            picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.LANCZOS)
        pictures.append(np.asarray(picture, np.float32) / 255)
    return pictures


def grid(rng: Generator, size: int) -> tuple[Array, Array]:
    """Coordinates in -1..1, turned, stretched and moved at random, each ``(H, W)``."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.normal(0, 0.3))
    c, s = np.cos(angle), np.sin(angle)
    return (c * x - s * y) * stretch + rng.uniform(-1, 1), (s * x + c * y) / stretch + rng.uniform(-1, 1)


def unit(field: Array) -> Array:
    """Stretch a field to 0..1."""
    low, high = float(field.min()), float(field.max())
    return ((field - low) / max(high - low, 1e-6)).astype(np.float32)


def noise(rng: Generator, size: int, slope: float | None = None) -> Array:
    """Noise whose amplitude falls as frequency to the power ``-slope``, ``(H, W)`` in 0..1."""
    slope = rng.uniform(0.6, 2.2) if slope is None else slope
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    stretch = np.exp(rng.normal(0, 0.5))
    radius = np.hypot(fy * stretch, fx / stretch)
    radius[0, 0] = 1
    spectrum = rng.normal(size=radius.shape) + 1j * rng.normal(size=radius.shape)
    return unit(np.fft.irfft2(spectrum / radius**slope, s=(size, size)).astype(np.float32))


def colour(rng: Generator, field: Array) -> Array:
    """Paint a field in 0..1 by a random colour ramp, ``(H, W)`` to ``(H, W, 3)``."""
    stops = int(rng.integers(2, 6))
    base = rng.uniform(0, 1, 3)
    spread = rng.choice([0.25, 0.5, 1.0])
    ramp = np.clip(base + spread * rng.uniform(-0.6, 0.6, (stops, 3)), 0, 1)
    if rng.random() < 0.3:
        ramp = np.clip(ramp.mean(1, keepdims=True) + 0.05 * rng.normal(size=3), 0, 1)  # almost grey
    elif rng.random() < 0.4:
        ramp = ramp[:1] + (ramp - ramp[:1]).mean(1, keepdims=True)  # one hue, several brightnesses
    where = np.linspace(0, 1, stops)
    return np.stack([np.interp(field, where, np.clip(ramp[:, c], 0, 1)) for c in range(3)], -1).astype(np.float32)


def cloud(rng: Generator, size: int) -> Array:
    """Coloured noise; at times three nearly independent channels."""
    if rng.random() < 0.3:
        channels = np.stack([noise(rng, size, 1.2) for _ in range(3)], -1)
        return np.clip(channels @ rng.dirichlet(np.ones(3), 3).astype(np.float32).T, 0, 1)
    return colour(rng, noise(rng, size))


def wave(rng: Generator, size: int) -> Array:
    """Gratings, wood, marble, plaids and rings: waves over a bent plane."""
    x, y = grid(rng, size)
    bend = rng.choice([0, 0.05, 0.3, 1.0])
    frequency = np.exp(rng.uniform(np.log(4), np.log(size / 4)))
    x, y = x + bend * noise(rng, size, 1.8), y + bend * noise(rng, size, 1.8)
    kind = rng.integers(4)
    if kind == 0:
        field = np.sin(frequency * x)
    elif kind == 1:
        field = np.sin(frequency * x) * np.sin(frequency * rng.uniform(0.5, 2) * y)
    elif kind == 2:
        field = np.sin(frequency * np.hypot(x, y))
    else:
        field = np.maximum(np.sin(frequency * x), np.sin(frequency * y))
    if rng.random() < 0.4:
        field = np.tanh(rng.uniform(2, 12) * (field - rng.uniform(-0.6, 0.6)))
    return colour(rng, unit(field.astype(np.float32)))


def weave(rng: Generator, size: int) -> Array:
    """Threads over and under each other."""
    x, y = grid(rng, size)
    count = rng.uniform(5, 25)
    warp = 0.05 * noise(rng, size, 1.8)
    u, v = (x + warp) * count, (y + warp) * count
    over = (np.floor(u / np.pi) + np.floor(v / np.pi)) % 2
    field = np.where(over > 0, np.abs(np.sin(u)), np.abs(np.sin(v)))
    return colour(rng, unit((field + rng.uniform(0, 0.5) * noise(rng, size, 0.8)).astype(np.float32)))


def cells(rng: Generator, size: int) -> Array:
    """Cells, pebbles, leather, cracks: distances to random points."""
    count = int(np.exp(rng.uniform(np.log(6), np.log(500))))
    x, y = grid(rng, size)
    points = np.stack([x.ravel(), y.ravel()], 1)
    seeds = points[rng.integers(len(points), size=count)] + rng.normal(0, 0.02, (count, 2))
    distance, index = cKDTree(seeds).query(points, k=2)
    kind = rng.integers(4)
    if kind == 0:
        return colour(rng, unit(distance[:, 0].reshape(size, size)))
    border = (distance[:, 1] - distance[:, 0]).reshape(size, size).astype(np.float32)
    if kind == 1:
        return colour(rng, unit(np.minimum(border, np.quantile(border, rng.uniform(0.1, 1)))))
    tones = colour(rng, rng.random(count).astype(np.float32))[index[:, 0].reshape(size, size)]
    if kind == 2:
        return np.asarray(tones, np.float32)
    groove = np.clip(border / np.quantile(border, 0.3), 0, 1)[..., None]
    return tones * groove + (1 - groove) * rng.uniform(0, 1, 3).astype(np.float32)


def julia(rng: Generator, size: int) -> Array:
    """Julia set, coloured by smooth escape time."""
    x, y = grid(rng, size)
    zoom = np.exp(rng.uniform(-2, 0.3))
    z = (x + 1j * y).astype(np.complex64) * zoom
    angle = rng.uniform(0, 2 * np.pi)
    c = np.complex64((0.5 * np.exp(1j * angle) - 0.25 * np.exp(2j * angle)) * rng.uniform(1.0, 1.1))
    steps = np.zeros((size, size), np.float32)
    for step in range(40):
        z = z * z + c
        inside = np.abs(z) < 4
        steps[inside] = step
        z[~inside] = 4
    return colour(rng, unit(np.log1p(steps)) ** rng.uniform(0.5, 2))


def flame(rng: Generator, size: int) -> Array:
    """Iterated function system with a non-linear twist, drawn by log density."""
    maps = rng.normal(0, 0.6, (int(rng.integers(2, 6)), 2, 3))
    points = rng.uniform(-1, 1, (3000, 2))
    twist = rng.integers(3)
    seen = []
    for step in range(40):
        chosen = maps[rng.integers(len(maps), size=len(points))]
        points = np.einsum("nij,nj->ni", chosen[..., :2], points) + chosen[..., 2]
        if twist == 1:
            points = np.sin(points)
        elif twist == 2:
            points = points / np.maximum((points**2).sum(1, keepdims=True), 0.1)
        points = np.clip(points, -4, 4)
        if step > 5:
            seen.append(points)
    cloud_ = np.concatenate(seen)
    low, high = np.quantile(cloud_, 0.02, axis=0), np.quantile(cloud_, 0.98, axis=0) + 1e-3
    density = np.histogram2d(cloud_[:, 0], cloud_[:, 1], bins=size, range=np.stack([low, high], 1))[0]
    return colour(rng, unit(np.log1p(ndimage.gaussian_filter(density, rng.uniform(0, 1))).astype(np.float32)))


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font."""
    return ImageFont.load_default(size)


def strokes(rng: Generator, size: int) -> Array:
    """Lines, outlines and letters on a quiet ground."""
    ground = quiet(rng, size)
    picture = Image.fromarray((ground * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    ink = [tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(3)]
    for _ in range(int(rng.integers(3, 40))):
        tone, width = ink[rng.integers(3)], int(rng.integers(1, 6))
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        kind = rng.integers(5)
        if kind == 0:
            letters = "".join(chr(int(v)) for v in rng.integers(33, 126, int(rng.integers(1, 9))))
            draw.text((x - size / 5, y), letters, fill=tone, font=font(int(rng.choice([8, 12, 18, 28, 48]))))
        elif kind == 1:
            steps = np.array((x, y)) + np.cumsum(rng.normal(0, size / 12, (int(rng.integers(2, 9)), 2)), 0)
            draw.line([tuple(p) for p in steps], fill=tone, width=width, joint="curve")
        elif kind == 2:
            w, h = rng.uniform(4, size / 2, 2)
            draw.ellipse((x, y, x + w, y + h), outline=tone, width=width)
        elif kind == 3:
            w, h = rng.uniform(4, size / 2, 2)
            draw.rectangle((x, y, x + w, y + h), outline=tone, width=width)
        else:
            draw.line((x, y, *(rng.uniform(0, size, 2))), fill=tone, width=width)
    return np.asarray(picture, np.float32) / 255


def quiet(rng: Generator, size: int) -> Array:
    """A ground with little on it: a gradient and faint noise, as behind a product on a table."""
    x, _ = grid(rng, size)
    field = rng.uniform(0, 0.3) * x + rng.uniform(0, 0.1) * noise(rng, size)
    base = rng.uniform(0, 1, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0, 1))
    return np.clip(base + field[..., None], 0, 1).astype(np.float32)


def shape(rng: Generator, size: int, radius: float) -> Array:
    """Signed distance (pixels, positive inside) to a random outline around the middle, ``(size, size)``."""
    y, x = np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2
    angle = rng.uniform(0, np.pi)
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    y = y * np.exp(rng.uniform(0, 1.2))
    kind = rng.integers(5)
    if kind == 0:
        return radius - np.hypot(x, y)
    if kind == 1:
        return radius - np.maximum(np.abs(x), np.abs(y))
    if kind == 2:
        turn = np.arctan2(y, x)
        return radius * (1 + 0.25 * np.sin(int(rng.integers(2, 9)) * turn + 1)) - np.hypot(x, y)
    if kind == 3:
        thick = radius * rng.uniform(0.1, 0.4)
        return thick - np.abs(np.hypot(x, y) - radius + thick)
    return radius - np.abs(x) - np.abs(y)


def objects(rng: Generator, size: int) -> Array:
    """One to six shaded bodies with shadows on a quiet or textured ground."""
    picture = quiet(rng, size) if rng.random() < 0.7 else texture(rng, size)
    light = np.array([np.cos(a := rng.uniform(0, 2 * np.pi)), np.sin(a)]) * rng.uniform(0.3, 0.9)
    for _ in range(int(rng.integers(1, 7))):
        distance = np.roll(
            shape(rng, size, size * rng.uniform(0.05, 0.42)),
            rng.integers(-size // 3, size // 3, 2),
            (0, 1),
        )
        depth = rng.uniform(3, size / 5)
        height = (
            np.sqrt(np.clip(1 - (1 - np.clip(distance, 0, depth) / depth) ** 2, 0, 1)) * depth * rng.uniform(0.2, 1)
        )
        height = height + rng.uniform(0, 1.5) * noise(rng, size, 1.0)
        gy, gx = np.gradient(height)
        normal = np.sqrt(1 + gx**2 + gy**2)
        shade = np.clip((0.8 - light[0] * gx - light[1] * gy) / normal, 0, 2)
        skin = colour(rng, noise(rng, size)) if rng.random() < 0.6 else texture(rng, size)
        body = skin * shade[..., None] + (rng.uniform(0, 0.8) * np.clip(shade, 0, 1) ** 20)[..., None]
        cover = np.clip(distance + 0.5, 0, 1)[..., None]
        shadow = ndimage.shift(cover[..., 0], -light[::-1] * -size * 0.06, order=1)
        picture = picture * (1 - 0.5 * ndimage.uniform_filter(shadow, 5))[..., None]
        picture = picture * (1 - cover) + body * cover
    return np.clip(picture, 0, 1).astype(np.float32)


def leaves(rng: Generator, size: int) -> Array:
    """Dead leaves: many overlapping outlines of all sizes, flat or cut from textures and photographs."""
    bank = [texture(rng, size) if rng.random() < 0.5 else photo(rng, size) for _ in range(3)]
    picture = bank[0].copy()
    smallest, largest = rng.uniform(3, 10), size * rng.uniform(0.15, 0.5)
    for _ in range(int(rng.integers(20, 160))):
        radius = 1 / np.sqrt(rng.uniform(1 / largest**2, 1 / smallest**2))
        side = int(2.2 * radius) + 4
        cover = np.clip(shape(rng, side, radius) + 0.5, 0, 1)[..., None]
        top, left = rng.integers(-side // 2, size - side // 2, 2)
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, size), min(left + side, size)
        cover = cover[y0 - top : y1 - top, x0 - left : x1 - left]
        fill = rng.uniform(0, 1, 3).astype(np.float32)
        if rng.random() < 0.6:
            sy, sx = rng.integers(0, size - (y1 - y0) + 1), rng.integers(0, size - (x1 - x0) + 1)
            leaf = bank[rng.integers(3)][sy : sy + y1 - y0, sx : sx + x1 - x0]
            fill = leaf * rng.uniform(0.6, 1.2) + 0.3 * (fill - 0.5)
        picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - cover) + np.clip(fill, 0, 1) * cover
    return picture


def photo(rng: Generator, size: int, *, held_out: bool = False) -> Array:
    """A view of a photograph: any place, many scales, turned, mirrored, its colours changed."""
    bank = photos(held_out=held_out)
    for _ in range(4):  # an empty sky teaches little
        view = look(rng, bank, size)
        if view.std() > 0.05:
            break
    if np.ptp(view, axis=2).max() < 0.02 and rng.random() < 0.6:
        return colour(rng, np.ascontiguousarray(view[..., 0]))
    if rng.random() < 0.4:
        mix = np.eye(3) + rng.normal(0, 0.2, (3, 3))
        view = view @ (mix / mix.sum(1, keepdims=True)).T.astype(np.float32)
    return np.clip(view, 0, 1).astype(np.float32)


def look(rng: Generator, bank: list[Array], size: int) -> Array:
    """One square view of one of the photographs, ``(size, size, 3)``."""
    source = bank[rng.integers(len(bank))]
    height, width = source.shape[:2]
    side = min(height, width) if rng.random() < 0.15 else size * np.exp(rng.uniform(np.log(0.5), np.log(1.6)))
    side = int(min(side, height, width))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    crop = Image.fromarray((source[top : top + side, left : left + side] * 255).astype(np.uint8))
    if rng.random() < 0.4:
        crop = crop.rotate(rng.uniform(-30, 30), Image.BICUBIC, expand=False)
        cut = side // 6
        crop = crop.crop((cut, cut, side - cut, side - cut))
    view = np.asarray(crop.resize((size, size), Image.BICUBIC), np.float32) / 255
    view = np.rot90(view, int(rng.integers(4)))
    return view[:, ::-1] if rng.random() < 0.5 else view


TEXTURES = (cloud, wave, weave, cells, julia, flame)


def texture(rng: Generator, size: int) -> Array:
    """Any of the computed textures."""
    return TEXTURES[rng.integers(len(TEXTURES))](rng, size)


def develop(rng: Generator, picture: Array) -> Array:
    """What a camera adds: exposure, uneven light, blur, grain; at times no colour."""
    size = len(picture)
    if rng.random() < 0.15:
        picture = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    picture = np.clip(picture, 0, 1) ** np.exp(rng.normal(0, 0.35))
    if rng.random() < 0.3:
        x, y = grid(rng, size)
        picture = picture * (1 - rng.uniform(0, 0.5) * unit(np.hypot(x, y)))[..., None]
    if rng.random() < 0.3:
        picture = ndimage.gaussian_filter(picture, (s := rng.uniform(0.4, 1.5), s, 0))
    contrast = rng.uniform(0.5, 1.2)
    picture = (picture - 0.5) * contrast + 0.5 + rng.uniform(-0.5, 0.5) * abs(1 - contrast)
    if rng.random() < 0.5:
        picture = picture + rng.normal(0, rng.uniform(0, 0.03), picture.shape)
    return np.clip(picture, 0, 1).astype(np.float32)


KINDS = {"photo": 0.42, "leaves": 0.16, "objects": 0.16, "strokes": 0.06, "texture": 0.20}


def render(seed: int, index: int, size: int, kind: str | None = None) -> NDArray[np.uint8]:
    """Image ``index`` of the endless series of ``seed``, ``(size, size, 3)``.

    ``kind`` is a key of ``KINDS`` or ``"held_out"`` (photographs that are never trained on).
    """
    rng = np.random.default_rng([seed, index])
    if kind is None:
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "held_out":
        picture = photo(rng, size, held_out=True)
    else:
        makers = {"photo": photo, "leaves": leaves, "objects": objects, "strokes": strokes, "texture": texture}
        picture = develop(rng, makers[kind](rng, size))
    return np.round(picture * 255).astype(np.uint8)
