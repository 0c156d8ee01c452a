# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Files that appear under their final name only when they are complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(root: Path | str) -> Iterator[Path]:
    """Give a folder whose files move to ``root`` when the block ends well, and vanish when it does not.

    Args:
        root: Where the files shall end up, under the same relative names; made if it does not exist.

    Yields:
        The folder to write into.

    Raises:
        OSError: If ``root`` cannot be written.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staged-", dir=root))
    except OSError as error:
        msg = (
            f"Expected a folder that can be written for the export, got '{root}' ({error}). Choose another export_root."
        )
        raise type(error)(msg) from error
    try:
        yield staging
        for file in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = root / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(staging)
