# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What ``latest`` means in anomalib's folder of a model's runs: the last one that has a checkpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LATEST = "latest"


def forget_failed_run(folder: Path) -> None:
    """Let ``latest`` point to the run before one that ended without a checkpoint, or to none.

    anomalib sets the link before a training begins, so that commands with ``latest`` in a path would no longer find the
    model of the day before.

    Args:
        folder: Of the run that failed, ``v3`` for example; kept.
    """
    latest = folder.parent / LATEST
    if not latest.is_symlink() or latest.resolve() != folder.resolve() or _has_checkpoint(folder):
        return
    runs = {int(each.name[1:]): each for each in folder.parent.iterdir() if re.fullmatch(r"v\d+", each.name)}
    complete = [number for number in runs if _has_checkpoint(runs[number])]
    latest.unlink()
    if complete:
        latest.symlink_to(runs[max(complete)].resolve(), target_is_directory=True)


def _has_checkpoint(folder: Path) -> bool:
    return any(folder.rglob("*.ckpt"))
