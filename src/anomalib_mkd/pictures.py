# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One reader of images and masks for training, checks and deployment; NumPy and Pillow only."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, TiffImageFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Suffixes of files that anomalib reads as images (torchvision's list)."""
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
"""Pillow's modes that become RGB without loss of range, unless :func:`drops_bits`; the others are 16 bits or floats."""
EXIF_ORIENTATION = 0x0112
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises, and warns of, for images so large that it holds them for an attack; those of line cameras are."""
MASK_VALUES = 16
"""Most grey values of a mask that may be numbers of defects; more are soft edges or the noise of JPEG."""


def is_named_as_image(file: Path) -> bool:
    """Return whether a file has the name of an image, and no hidden one such as macOS's ``._000.jpg``."""
    return file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")


def files_below(
    folder: Path, skipped: Collection[str] = (), unlisted: Callable[[OSError], None] | None = None
) -> list[Path]:
    """List all files below a folder, links followed, outside hidden folders.

    Args:
        folder: The folder.
        skipped: Names of folders directly in it that are left out.
        unlisted: Takes the error of a folder that cannot be listed; its files are left out.

    Raises:
        OSError: If a folder cannot be listed, and there is no ``unlisted``.
    """

    def stop(error: OSError) -> None:
        msg = f"Expected folders that can be listed, got {error}. "
        msg += "Check the name and permissions of the folder, or leave it out."
        raise type(error)(msg) from error

    files: list[Path] = []
    seen = {folder.resolve()}  # a link to a folder above would go on for ever
    for home, folders, names in os.walk(folder, onerror=unlisted or stop, followlinks=True):
        out = skipped if home == str(folder) else ()
        places = {name: Path(home, name).resolve() for name in sorted(folders)}
        folders[:] = [
            name for name, place in places.items() if name[0] != "." and name not in out and place not in seen
        ]
        seen |= {places[name] for name in folders}
        files += [Path(home, name) for name in names]
    return files


def read_picture(path: Path | str) -> NDArray[np.uint8]:
    """Read a file as RGB ``(H, W, 3)``, upright where its EXIF data says that it lies.

    Args:
        path: Any format that Pillow reads, with 8 bits per channel.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or has more bits or pages.
    """
    with opened(path, "image") as image:
        return as_rgb(image, path)


def as_rgb(image: Image.Image, place: Path | str) -> NDArray[np.uint8]:
    """Convert an image to RGB ``(H, W, 3)``, upright.

    Args:
        image: The image.
        place: Where it is from, for the message.

    Raises:
        ValueError: If it has more than 8 bits per channel.
    """
    _refuse_dropped_bits(image, place)
    if image.mode not in EIGHT_BIT_MODES:
        msg = (
            f"Expected 8 bits per channel in {place}, got Pillow's mode {image.mode!r}. Convert it to 8 bits as for "
            "training."
        )
        raise ValueError(msg)
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))  # writable, as torch wants it


def drops_bits(image: Image.Image) -> bool:
    """Return whether Pillow keeps 8 bits of more per channel, as of 16-bit colour; PNG and PPM tell before decoding.

    A camera of 12 bits fills the lower ones: the 8 upper bits are near black.
    """
    if image.mode not in EIGHT_BIT_MODES:
        return False
    if isinstance(image, TiffImageFile):
        return bool(max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8)
    for codec, _, _, arguments in getattr(image, "tile", ())[:1]:
        if codec.startswith("ppm"):
            return bool(arguments[1] > 255)  # its highest value
        return image.format == "PNG" and ";16" in str(arguments)  # 16 bits of a BMP are those of three channels
    return False


def pages(image: Image.Image) -> int:
    """Return how many images an opened file holds; 1 for a phone's photo with previews (MPO)."""
    return 1 if image.format in {"MPO", "PSD"} else getattr(image, "n_frames", 1)


def _refuse_dropped_bits(image: Image.Image, place: Path | str) -> None:
    if drops_bits(image):
        msg = f"Expected 8 bits per channel in {place}, got more in colour. Convert it to 8 bits as for training."
        raise ValueError(msg)


def read_mask(path: Path | str, picture: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read which pixels of an image a mask marks as defective; see :func:`marked`.

    Args:
        path: Any format that Pillow reads; grey of any depth, colour of 8 bits.
        picture: Height and width of the upright image.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has colour of more bits or several pages, or is of another size.
    """
    with opened(path, "mask") as image:
        upright = ImageOps.exif_transpose(image)
        values = np.asarray(upright.convert("L") if upright.mode in EIGHT_BIT_MODES else upright)
    if values.shape != tuple(picture):
        (rows, columns), (height, width) = values.shape, picture
        lying = ", as its photo is stored, which EXIF data turns" if (columns, rows) == (height, width) else ""
        msg = (
            f"Expected a mask of its image's size, {width} x {height} pixels, in {path}, got {columns} x {rows}"
            f"{lying}. Draw it on the image as viewers show it."
        )
        raise ValueError(msg)
    return marked(values)


def marked(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pixels of a mask ``(H, W)`` are defective: above 0, or above half of the highest if edges are soft.

    Example:
        >>> marked(np.array([[0, 1, 2]])).tolist(), int(marked(np.arange(20)[None]).sum())
        ([[False, True, True]], 10)
    """
    soft = len(np.unique(values)) > MASK_VALUES
    return np.asarray(values > (values.max() / 2 if soft else 0))


def is_turned(image: Image.Image) -> bool:
    """Return whether EXIF data says that an opened image is not upright as stored."""
    return image.getexif().get(EXIF_ORIENTATION, 1) in range(2, 9)


def refuse_turned(path: Path | str) -> None:
    """Refuse a photo with depth that EXIF data turns: whether the depth is turned as well, nothing says.

    Raises:
        ValueError: If it does. What cannot be opened, :func:`read_picture` names.
    """
    try:
        with Image.open(path) as image:
            turned = is_turned(image)
    except (OSError, SyntaxError, *BOMBS):
        return
    if turned:
        msg = f"Expected a photo stored upright, as its depth is, in {path}, got one turned by EXIF data. Save it anew."
        raise ValueError(msg)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image once it is upright; reads its header only."""
    width, height = image.size
    if image.getexif().get(EXIF_ORIENTATION, 1) not in range(5, 9):
        return width, height
    if isinstance(image, TiffImageFile):  # Pillow 13 has turned its size already, older versions have not
        width, height = (image.tag_v2[tag] for tag in (IMAGEWIDTH, IMAGELENGTH))
    return height, width


@contextmanager
def opened(path: Path | str, what: str) -> Iterator[Image.Image]:
    """Open and decode a file.

    Args:
        path: The file.
        what: What it should be, for messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is too large for Pillow, or has colour of more than 8 bits or several pages.
    """
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _unreadable(path, what, error) from error
    with image:
        _refuse_dropped_bits(image, path)
        try:
            number = pages(image)
            image.load()
        except Exception as error:  # whatever one of Pillow's readers raises on a damaged file
            raise _unreadable(path, what, error) from error
        if number > 1:
            msg = f"Expected one page in {path}, got {number}. Save each as a file of its own."
            raise ValueError(msg)
        yield image


def _unreadable(path: Path | str, what: str, error: Exception) -> ValueError:
    if isinstance(error, BOMBS):
        return ValueError(f"Expected fewer pixels in the {what} {path}, got {too_large(error)}.")
    reason = f"{type(error).__name__}: {error}"
    return ValueError(f"Expected a readable {what} in {path}, got {reason}. Save it again, or remove it.")


def allow_large() -> None:
    """Silence Pillow's suspicion of an attack for images that it reads all the same, of 89 to 179 million pixels."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def too_large(error: Exception) -> str:
    """Say which of Pillow's limits an image exceeds, and the remedy; its own words suspect an attack.

    Example:
        >>> too_large(Image.DecompressionBombError("Image size (3 pixels) exceeds limit of 2 pixels, could be ..."))
        'Image size (3 pixels) exceeds limit of 2 pixels. Cut it into parts, or scale it down'
    """
    return f"{str(error).partition(',')[0]}. Cut it into parts, or scale it down"
