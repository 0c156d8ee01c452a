# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How the commands print: any name of a file, and tables into files as well."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def print_any_name() -> None:
    """Write what the encoding of the output lacks with backslashes: names of files may be anything."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def plain_console(file: TextIO) -> Console:
    """Make a console that prints texts as they are.

    Args:
        file: Where it prints; if that is no terminal, 160 columns wide, as a file does not fold at 80.
    """
    from rich.console import Console  # noqa: PLC0415  # not installed where exports are deployed

    console = Console(file=file, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 160
    return console
