# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The exports of all models, and what their times add to the rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anomalib_mkd.compare.runs import export_of
from anomalib_mkd.compare.timing import time_first, time_turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anomalib_mkd.compare.rows import Row
RESTLESS = 0.2
"""Interquartile range over median from which on a latency is not to be relied on."""


def time_all(output: Path, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Add the times of all exports; what fails becomes a note or a remark.

    Args:
        output: Folder for results.
        rows: Of all models.

    Returns:
        The rows, and remarks on all of them.
    """
    exports = exports_of(output, rows)
    picture = output / "models" / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    try:
        taken = time_turns({f"{name}/{kind}": path for (name, kind), path in exports.items()})
    except RuntimeError as error:
        return list(rows), [f"Nothing was timed. {error}"]
    starts = time_first({name: path for (name, kind), path in exports.items() if kind == "f32"}, picture)
    timed = []
    for row in rows:
        changes: dict[str, object] = {"first_verdict": starts.get(row.model)}
        notes = list(row.notes)
        for kind, prefix in (("f32", ""), ("int8", "int8_")):
            for name, value in taken.get(f"{row.model}/{kind}", {}).items():
                if name == "error":
                    notes.append(f"Its {kind} export was not timed: {value}")
                else:
                    changes[prefix + name] = value
        timed.append(dataclasses.replace(row, notes=tuple(notes), **changes))  # type: ignore[arg-type]
    return timed, disturbed(timed)


def disturbed(rows: Sequence[Row]) -> list[str]:
    """Warn if other work on the computer disturbed the times."""
    restless = [row.model for row in rows if row.latency and (row.latency_spread or 0) > RESTLESS * row.latency]
    if not restless:
        return []
    warning = (
        f"Other work on the computer disturbed the times: those of {', '.join(restless)} are spread over more than a "
        "fifth of their median. Repeat the command on a quiet computer; finished models are not trained again."
    )
    return [warning]


def exports_of(output: Path, rows: Sequence[Row]) -> dict[tuple[str, str], Path]:
    """Find the exports of the models that finished, by name and ``f32`` or ``int8``."""
    found = {}
    for row in rows:
        for kind, size in (("f32", row.megabytes), ("int8", row.int8_megabytes)):
            if not row.reason and size is not None:
                found[row.model, kind] = export_of(output, row.model, kind)
    return found
