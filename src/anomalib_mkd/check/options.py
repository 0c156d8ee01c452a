# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Options that several commands have, checked before anything slow begins."""

from __future__ import annotations

import tempfile
from pathlib import Path

from anomalib_mkd.check.layout import OUTPUTS
from anomalib_mkd.check.words import shown

TEACHERS = ("auto", "imagenet", "quickstart")
"""Values of ``--weights`` that are not a file."""


def check_output(output: Path, data: Path | None = None) -> None:
    """Check that results can be written.

    Args:
        output: Folder for results; created if missing.
        data: Folder of parts, in which it must not lie, other than as one that a check of the folder leaves out.

    Raises:
        OSError: If it is not writable.
        ValueError: If its images would count as parts.
    """
    if data is not None and output.resolve().is_relative_to(data.resolve()):
        inside = output.resolve().relative_to(data.resolve()).parts
        if not inside or inside[0] not in OUTPUTS:
            msg = (
                f"Expected --output outside of the folder of parts, got '{shown(output)}', whose images would count as "
                f"parts. Choose another folder, or {min(OUTPUTS)} in it."
            )
            raise ValueError(msg)
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        msg = f"Expected a writable folder as --output, got '{shown(output)}' ({error}). Choose another folder."
        raise type(error)(msg) from error


def check_weights(weights: str) -> None:
    """Check that ``--weights`` names a teacher or a file.

    Raises:
        ValueError: If it does neither.

    Example:
        >>> check_weights("auto")
    """
    if weights not in TEACHERS and not Path(weights).is_file():
        msg = (
            f"Expected {', '.join(TEACHERS)} or a file as --weights, got '{shown(weights)}', which does not exist. "
            "Set --weights to one of them."
        )
        raise ValueError(msg)
