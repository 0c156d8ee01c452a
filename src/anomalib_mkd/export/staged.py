# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Files that appear under their final name only once they are complete."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomalib_mkd.deploy.metadata import SUFFIXES, finish, publish
from anomalib_mkd.files import new_folder

PREFIX = ".staged-"


@contextmanager
def staged(root: Path | str) -> Iterator[Path]:
    """Provide a folder whose files move to ``root`` when the block succeeds, and are deleted when it fails.

    What killed processes of this computer left in ``root`` is deleted first.

    Args:
        root: Destination of the files, under the same relative names; created if missing.

    Yields:
        The folder to write to.

    Raises:
        OSError: If ``root`` is not writable, or the disk is full.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        staging = new_folder(root, PREFIX)
    except OSError as error:
        msg = f"Expected a writable folder for the export, got '{root}' ({error}). Choose another export_root."
        raise type(error)(msg) from error
    try:
        yield staging
        for graph in staging.rglob("*.xml"):
            target = root / graph.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            if all(graph.with_suffix(suffix).is_file() for suffix in SUFFIXES):
                publish(graph.parent, target)
            else:  # another post-processor's, without metadata
                finish(target)
        for file in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = root / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        msg = f"Expected room for the export in '{root}', got a full disk ({error}). Free space, or choose another."
        raise OSError(error.errno, msg) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # file servers keep a file that is open: the next export clears it
