# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Names and numbers in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence, Sized
    from pathlib import Path

MOST = 5  # files named before the rest is counted


def shown(name: Path | str) -> str:
    r"""Write out what a terminal would not show as text.

    Example:
        >>> shown("a\x1b[31m\n.png")
        'a\\x1b[31m\\n.png'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))


def count(items: Sized, noun: str) -> str:
    """Count items of a noun whose plural ends in s.

    Example:
        >>> count([1], "mask"), count([], "mask")
        ('1 mask', '0 masks')
    """
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Name the first few, and count the rest.

    Example:
        >>> listed(["a", "b"]), listed(list("abcdefg"))
        ('a, b', 'a, b, c, d, e and 2 more')
    """
    rest = len(names) - MOST
    return ", ".join(names[:MOST]) + (f" and {rest} more" if rest > 0 else "")
