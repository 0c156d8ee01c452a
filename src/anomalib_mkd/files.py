# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Files that appear under their name only once they are complete, and names that a table may hold."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Provide a name to write a file to, which then replaces ``path``, or is deleted when the block fails.

    Args:
        path: Final name, in a folder that exists.

    Yields:
        A hidden name in the same folder, with the same suffix and of this process alone.

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
    unfinished = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        with suppress(OSError):  # the first error matters
            unfinished.unlink(missing_ok=True)


def no_formula(name: Path | str) -> str:
    """Write the name of a file so that no spreadsheet takes it for a formula; it stays a path.

    Example:
        >>> no_formula("=1.png"), no_formula("a=1.png")
        ('./=1.png', 'a=1.png')
    """
    return f"./{name}" if str(name).startswith(("=", "+", "-", "@", "\t")) else str(name)
