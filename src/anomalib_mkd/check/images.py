# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What one image file is, and which images are copies of others."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from anomalib_mkd.pictures import (
    BOMBS,
    EIGHT_BIT_MODES,
    MASK_VALUES,
    drops_bits,
    is_turned,
    pages,
    too_large,
    upright_size,
)
from anomalib_mkd.threads import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 32  # of a fingerprint
DECODERS = 8  # most images decoded at once: one of 12 megapixels takes about 48 MB
READERS = 16  # headers read at once, whatever the cores: these wait for the disk or the network
DEEP_MODES = {"I;16": "16 bits", "I;16L": "16 bits", "I;16B": "16 bits", "I": "32 bits", "F": "floating point"}


@dataclass(frozen=True)
class Facts:
    """What one file is.

    Attributes:
        path: The file.
        fault: Why it cannot be read; None if it can.
        format: Its format by content, such as ``"PNG"``.
        size: Width and height in pixels, once upright.
        mode: Pillow's name of its channels, such as ``"RGB"``.
        dropped: Whether Pillow drops bits of its channels; see :func:`anomalib_mkd.pictures.drops_bits`.
        pages: How many images it holds.
        turned: Whether EXIF data says that it is not upright as stored.
        fingerprint: The image in grey, ``SIDE * SIDE`` bytes; None if it was not decoded.
    """

    path: Path
    fault: str | None = None
    format: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    dropped: bool = False
    pages: int = 1
    turned: bool = False
    fingerprint: bytes | None = None

    @property
    def depth(self) -> str | None:
        """Its bits per channel where there are not 8, in words."""
        if self.dropped:
            return "16 bits"
        return None if self.fault or self.mode in EIGHT_BIT_MODES else DEEP_MODES.get(self.mode, f"mode {self.mode}")


def read_facts(path: Path, *, decode: bool = True) -> Facts:
    """Read what a file is.

    Args:
        path: The file.
        decode: Whether to decode its pixels, which finds truncated files; otherwise only its header is read.
    """
    if path.is_symlink() and not path.exists():
        return Facts(path, "a broken link")
    try:
        if path.stat().st_size == 0:
            return Facts(path, "empty")
        with Image.open(path) as image:
            dropped, number = drops_bits(image), pages(image)  # first: of a PNG, EXIF data decodes
            kind, size, mode, turned = image.format or "", upright_size(image), image.mode, is_turned(image)
            fingerprint = None
            if decode:
                image.draft("L", (2 * SIDE, 2 * SIDE))  # JPEG decodes to an eighth, the whole file all the same
                small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
                fingerprint = small.tobytes()
    except UnidentifiedImageError:
        return Facts(path, "not an image")
    except BOMBS as error:
        return Facts(path, too_large(error))
    except Exception as error:  # noqa: BLE001  # whatever a reader raises on a damaged file
        return Facts(path, str(error))
    return Facts(path, None, kind, size, mode, dropped, number, turned, fingerprint)


def read_all(paths: Sequence[Path], *, decode: bool = True) -> Iterator[Facts]:
    """Read what files are, in their order, several at once."""
    with ThreadPoolExecutor(min(allowed_cores(), DECODERS) if decode else READERS) as pool:
        yield from pool.map(lambda path: read_facts(path, decode=decode), paths)


def mask_fault(mask: Path) -> str | None:
    """Return what is odd about a readable mask; None if nothing is.

    Of one with soft edges, anomalib takes every pixel above 0 as defective, :class:`anomalib_mkd.data.Parts` half.
    """
    with Image.open(mask) as picture:
        counts = np.asarray(picture.convert("L").histogram())
    values = np.flatnonzero(counts)
    if not values.any():
        return "marks nothing"
    if values[0] > 0:
        return "marks the whole image"
    if len(values) > MASK_VALUES:
        return f"{len(values)} grey values, of which those above half of the highest count as defective"
    return None


def exact_copies(facts: Iterable[Facts]) -> list[list[Path]]:
    """Group images of equal pixels; only images of equal fingerprints are read again."""
    alike = defaultdict(list)
    for each in facts:
        if each.fingerprint is not None:
            alike[each.size, each.fingerprint].append(each.path)
    equal = defaultdict(list)
    for paths in alike.values():
        for path in paths if len(paths) > 1 else ():
            with Image.open(path) as image:
                equal[hashlib.sha256(image.convert("RGB").tobytes()).digest()].append(path)
    return [paths for paths in equal.values() if len(paths) > 1]


NEAR = 2.0  # grey levels of 255; images saved anew differ by 0.3 to 2.5, other parts of one set by 2.5 to 60


def near_copies(train: Sequence[Facts], test: Sequence[Facts]) -> list[tuple[Path, Path]]:
    """Find test images that hardly differ from a training image: saved anew, or the same part taken twice.

    "Hardly" is a root mean square of less than ``NEAR`` grey levels between fingerprints, and less than half of what a
    typical training image has to its nearest other one: under a fixed camera all images are alike.

    Args:
        train: Decoded training images.
        test: Decoded test images.

    Returns:
        Pairs of a test image and its nearest training image.
    """
    if not train or not test:
        return []
    good, other = _matrix(train), _matrix(test)
    sample = good[:: max(1, len(good) // 256)]
    apart = np.sort(np.concatenate([block for block, _ in _distances(sample, good, nearest=2)]))
    limit = min(NEAR, float(np.median(apart)) / 2) if len(good) > 1 else NEAR
    pairs = []
    start = 0
    for distances, places in _distances(other, good, nearest=1):
        near = np.flatnonzero(distances < limit)
        pairs += [(test[start + row].path, train[places[row]].path) for row in near]
        start += len(distances)
    return pairs


def _matrix(facts: Sequence[Facts]) -> NDArray[np.float32]:
    rows = b"".join(each.fingerprint or b"" for each in facts)
    return np.frombuffer(rows, np.uint8).reshape(-1, SIDE * SIDE).astype(np.float32)


def _distances(
    rows: NDArray[np.float32], others: NDArray[np.float32], nearest: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]:
    """Yield, block by block, the distance of each row to its nearest (1) or second nearest (2) other, and the place."""
    norms = (others**2).sum(1)
    for start in range(0, len(rows), 256):
        block = rows[start : start + 256]
        squares = (block**2).sum(1)[:, None] + norms - 2 * block @ others.T
        if nearest > 1 and len(others) > 1:
            squares[np.arange(len(block)), squares.argmin(1)] = np.inf
        places = squares.argmin(1)
        yield np.sqrt(np.maximum(squares[np.arange(len(block)), places], 0) / rows.shape[1]), places
