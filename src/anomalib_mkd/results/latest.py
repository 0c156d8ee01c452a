# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What ``latest`` means in anomalib's folder of a model's runs: the last one that has a checkpoint."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

LATEST = "latest"
VERSION = r"v\d+"


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
    runs = _runs(folder.parent)
    complete = [number for number in runs if _has_checkpoint(runs[number])]
    latest.unlink()
    if complete:
        _link(latest, runs[max(complete)])


def remember_run(folder: Path) -> None:
    """Let ``latest`` point to a run again that has ended well, if another that failed has removed the link meanwhile.

    Args:
        folder: Of the run, ``v3`` for example.
    """
    latest = folder.parent / LATEST
    if re.fullmatch(VERSION, folder.name) and not latest.is_symlink() and not latest.exists():
        _link(latest, folder)


def number_run(folder: Path) -> None:
    """Turn a folder called ``latest`` into the next version, and ``latest`` into a link to it.

    anomalib makes such a folder for a test before any training, and its next training stops at it.
    """
    home = folder.parent.resolve()  # itself behind a link, perhaps
    if folder.name != LATEST or not folder.is_dir() or folder.resolve() != home / LATEST:
        return
    numbered = folder.with_name(f"v{max(_runs(folder.parent), default=-1) + 1}")
    folder.rename(numbered)
    _link(folder, numbered)


def _link(latest: Path, run: Path) -> None:
    """Make the link, or say where the run is: Windows wants a privilege for links, and some disks have none."""
    try:
        latest.symlink_to(run.resolve(), target_is_directory=True)
    except OSError as error:
        logger.warning("There is no link %s (%s). The run is in %s.", latest, error, run)


def _runs(folder: Path) -> dict[int, Path]:
    return {int(each.name[1:]): each for each in folder.iterdir() if re.fullmatch(VERSION, each.name)}


def _has_checkpoint(folder: Path) -> bool:
    return any(folder.rglob("*.ckpt"))
