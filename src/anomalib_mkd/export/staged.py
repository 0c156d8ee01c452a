# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Files that appear under their final name only once they are complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(root: Path | str) -> Iterator[Path]:
    """Provide a folder whose files move to ``root`` when the block succeeds, and are deleted when it fails.

    Args:
        root: Destination of the files, under the same relative names; created if missing.

    Yields:
        The folder to write to.

    Raises:
        OSError: If ``root`` is not writable.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staged-", dir=root))
    except OSError as error:
        msg = f"Expected a writable folder for the export, got '{root}' ({error}). Choose another export_root."
        raise type(error)(msg) from error
    try:
        yield staging
        for file in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = root / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(staging)
