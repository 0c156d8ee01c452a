# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thumbnails of images, maps and masks, as text that a page embeds."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageOps

from anomalib_mkd.results.report.gallery import SIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from anomalib_mkd.results.report.gallery import Exhibit

COLORS = colormaps["inferno"]  # lightness rises with the value: readable in grey and for the colour-blind


class Scale(NamedTuple):
    """The values of the first and the last colour of all heat maps of a page."""

    low: float
    high: float

    @classmethod
    def of(cls, exhibits: Iterable[Exhibit]) -> Scale | None:
        """Find the lowest and the highest finite value of maps; ``None`` if there is none."""
        maps = (each.anomaly_map[np.isfinite(each.anomaly_map)] for each in exhibits if each.anomaly_map is not None)
        ranges = [(values.min(), values.max()) for values in maps if values.size]
        return cls(float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))) if ranges else None

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring values to 0..1; what is not finite becomes 1."""
        scaled = (values - self.low) / (self.high - self.low or 1)
        return np.where(np.isfinite(values), scaled, 1).clip(0, 1)


def read(file: str) -> Image.Image | None:
    """Read an image as an RGB thumbnail; ``None`` if it cannot be read.

    Grey values of more than 8 bits, which have no common range, are stretched to that of the image.
    """
    try:
        with Image.open(file) as opened:
            opened.draft("RGB", (2 * SIDE, 2 * SIDE))  # decodes large JPEGs at a fraction of their size
            if opened.mode.startswith(("I", "F")):
                values = np.asarray(opened, np.float64)
                spread = np.ptp(values) or 1
                picture = Image.fromarray(((values - values.min()) / spread * 255).astype(np.uint8))
            else:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for broken files
        return None
    picture.thumbnail((SIDE, SIDE))
    return picture.convert("RGB")


def draw_heat_map(values: NDArray[np.float32], scale: Scale, picture: Image.Image | None) -> Image.Image:
    """Lay a map over its image in grey, more opaque where it is higher.

    Args:
        values: ``(h, w)``.
        scale: Of the page.
        picture: Thumbnail; without one, the map alone is drawn.
    """
    share = Image.fromarray(scale(values))
    if picture is None:
        return Image.fromarray(COLORS(np.asarray(share), bytes=True)).convert("RGB")
    values = np.asarray(share.resize(picture.size, Image.Resampling.BILINEAR)).clip(0, 1)
    opacity = (0.35 + 0.65 * values)[..., None]
    grey = np.asarray(picture.convert("L"))[..., None] / 255
    return Image.fromarray((255 * (opacity * COLORS(values)[..., :3] + (1 - opacity) * grey)).astype(np.uint8))


def draw_legend() -> Image.Image:
    """Draw the colours of the heat maps from low to high."""
    return Image.fromarray(COLORS(np.linspace(0, 1, SIDE)[None].repeat(8, 0), bytes=True)).convert("RGB")


def draw_mask(mask: NDArray[np.bool_], picture: Image.Image | None) -> Image.Image:
    """Draw the marked defect in white on black, in the size of the image if there is one."""
    drawn = Image.fromarray(mask).convert("L")
    return drawn.resize(picture.size, Image.Resampling.NEAREST) if picture else drawn


def embedded(picture: Image.Image | None) -> str | None:
    """Encode an image, if there is one, as a ``data:`` address."""
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
