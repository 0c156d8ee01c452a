# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Files and folders that appear under their name only once they are complete, and names that a table may hold."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Provide a name to write a file to, which then replaces ``path``, or is deleted when the block fails.

    Args:
        path: Final name, in a folder that exists.

    Yields:
        A hidden name in the same folder, with the same suffix and of this block alone.

    Raises:
        OSError: If the folder is not writable.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with whole(Path(folder) / "table.csv") as unfinished:
        ...         written = unfinished.write_text("file,score")
        ...     [file.name for file in Path(folder).iterdir()]
        ['table.csv']
    """
    unfinished = path.with_name(f".{token_hex(4)}.part.{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        with suppress(OSError):  # the first error matters
            unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Provide a folder to write to, which then becomes ``path``, or is deleted when the block fails.

    What killed processes of this computer left of it is deleted first.

    Args:
        path: Final name, in a folder that exists.

    Yields:
        An empty folder with a hidden name beside it, of this block alone.

    Raises:
        OSError: If the folder around it is not writable, or ``path`` holds files by the end: another was faster.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with whole_folder(Path(folder) / "version") as unfinished:
        ...         written = (unfinished / "table.csv").write_text("file,score")
        ...     [file.relative_to(folder).as_posix() for file in Path(folder).rglob("*")]
        ['version', 'version/table.csv']
    """
    unfinished = new_folder(path.parent, ".", f".part.{path.name}")
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def new_folder(folder: Path, start: str, end: str = "") -> Path:
    """Make an empty folder that no other caller has, after deleting those of processes that run no longer.

    Args:
        folder: Where to make it.
        start: How its name starts.
        end: How its name ends.

    Returns:
        Its path.

    Raises:
        OSError: If ``folder`` is not writable.
    """
    here = f"@{_here()}-"
    for left in folder.glob(f"{escape(start)}*{here}*{escape(end)}"):
        process = left.name.removeprefix(start).partition(here)[0]
        if process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    path = folder / f"{start}{os.getpid()}{here}{token_hex(4)}{end}"
    path.mkdir()
    return path


def _here() -> str:
    """Name the computer and the container: several may share a disk, and each numbers its processes on its own."""
    place = platform.node()
    with suppress(OSError):  # no Linux
        place += str(Path("/proc/self/ns/pid").readlink())  # a container may have the name of its computer
    return f"{crc32(place.encode()):08x}"


def _runs(process: int) -> bool:
    """Return whether a process runs on this computer, or may."""
    if sys.platform == "win32":
        return True  # there, os.kill ends whom it is to ask
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def no_formula(name: Path | str) -> str:
    """Write the name of a file so that no spreadsheet takes it for a formula; it stays a path.

    Example:
        >>> no_formula("=1.png"), no_formula("a=1.png")
        ('./=1.png', 'a=1.png')
    """
    return f"./{name}" if str(name).startswith(("=", "+", "-", "@", "\t")) else str(name)
