# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What was measured of one model, and the tables ``compare.csv`` and ``compare.md``."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Row:
    """One model; what was not measured is ``None``.

    Attributes:
        model: Its name.
        reason: Why there are no figures; empty if there are.
        notes: What to know about the figures, a sentence each.
        pictures: Good images that it learnt from.
        image_auroc: Of raw scores, 0..1.
        aupro: Of raw maps up to 30 % false alarms, 0..1; ``None`` without masks.
        caught: Bad test parts that are called bad, by the threshold that the model delivers.
        bad: Bad test parts.
        false_alarms: Good test parts that are called bad.
        good: Good test parts.
        training_seconds: Of the training, with the choice of the threshold.
        steps: Training steps that were made.
        stopped: Whether the budget ended the training.
        unfinished: Whether the process ended before the export in 8 bits.
        peak_megabytes: Most memory of the process until the training ended.
        megabytes: Size of the export in f32.
        int8_megabytes: Size of the export in 8 bits.
        int8_auroc: Image AUROC of the scores of the export in 8 bits.
        int8_caught: Bad test parts that this export calls bad; ``None`` with a threshold for each category.
        int8_false_alarms: Good test parts that it calls bad.
        latency: Median seconds of one image in f32.
        latency_spread: Interquartile range of these.
        int8_latency: Median seconds of one image in 8 bits.
        int8_latency_spread: Interquartile range of these.
        throughput: Images per second in f32.
        int8_throughput: Images per second in 8 bits.
        first_verdict: Seconds from the start of a process to its first verdict, in f32.
    """

    model: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    pictures: int | None = None
    image_auroc: float | None = None
    aupro: float | None = None
    caught: int | None = None
    bad: int | None = None
    false_alarms: int | None = None
    good: int | None = None
    training_seconds: float | None = None
    steps: int | None = None
    stopped: bool = False
    unfinished: bool = False
    peak_megabytes: float | None = None
    megabytes: float | None = None
    int8_megabytes: float | None = None
    int8_auroc: float | None = None
    int8_caught: int | None = None
    int8_false_alarms: int | None = None
    latency: float | None = None
    latency_spread: float | None = None
    int8_latency: float | None = None
    int8_latency_spread: float | None = None
    throughput: float | None = None
    int8_throughput: float | None = None
    first_verdict: float | None = None

    @property
    def cut_short(self) -> bool:
        """Whether more time would have brought more."""
        return self.stopped or self.unfinished


NONE = "\N{EN DASH}"
"""Stands for what was not measured."""


@dataclass(frozen=True)
class Column:
    """A column of the tables for readers.

    Attributes:
        title: Short; its unit is part of it.
        pattern: How the fields are written.
        fields: Of :class:`Row`.
        factor: From the unit of the fields to that of the title.
        best: Whether the highest or the lowest value is the best.
    """

    title: str
    pattern: str
    fields: tuple[str, ...]
    factor: float = 1
    best: Literal["high", "low"] = "low"

    def text(self, row: Row) -> str:
        """Write the cell of a row."""
        values = [getattr(row, name) for name in self.fields]
        return NONE if None in values else self.pattern.format(*(self.factor * value for value in values))

    def winners(self, rows: Sequence[Row]) -> set[str]:
        """Return the models whose cells are the best as written; none where all are equal."""
        cells = {row.model: (getattr(row, self.fields[0]), self.text(row)) for row in rows}
        cells = {model: (value, text) for model, (value, text) in cells.items() if text != NONE}
        if len({text for _, text in cells.values()}) < 2:
            return set()
        _, best = (max if self.best == "high" else min)(cells.values(), key=lambda cell: cell[0])
        return {model for model, (_, text) in cells.items() if text == best}


FINDS = (
    Column("Image AUROC, %", "{:.1f}", ("image_auroc",), 100, "high"),
    Column("AUPRO, %", "{:.1f}", ("aupro",), 100, "high"),
    Column("Bad parts caught", "{} of {}", ("caught", "bad"), best="high"),
    Column("Good parts called bad", "{} of {}", ("false_alarms", "good")),
    Column("Training, s", "{:.0f}", ("training_seconds",)),
    Column("Peak memory, MB", "{:.0f}", ("peak_megabytes",)),
)
"""What a model finds, and what its training takes."""
RUNS = (
    Column("One image, f32, ms", "{:.1f} \N{PLUS-MINUS SIGN} {:.1f}", ("latency", "latency_spread"), 1000),
    Column("One image, 8 bits, ms", "{:.1f} \N{PLUS-MINUS SIGN} {:.1f}", ("int8_latency", "int8_latency_spread"), 1000),
    Column("Images per s, f32", "{:.1f}", ("throughput",), best="high"),
    Column("Images per s, 8 bits", "{:.1f}", ("int8_throughput",), best="high"),
    Column("First verdict, s", "{:.2f}", ("first_verdict",)),
    Column("Size, f32, MB", "{:.1f}", ("megabytes",)),
    Column("Size, 8 bits, MB", "{:.1f}", ("int8_megabytes",)),
)
"""What its exports take on the line."""
EIGHT_BITS = (
    Column("Image AUROC in 8 bits, %", "{:.1f}", ("int8_auroc",), 100, "high"),
    Column("Bad parts caught in 8 bits", "{} of {}", ("int8_caught", "bad"), best="high"),
    Column("Good parts called bad in 8 bits", "{} of {}", ("int8_false_alarms", "good")),
)
"""What its export in 8 bits finds."""


def tables(rows: Sequence[Row]) -> dict[str, list[Column]]:
    """Return columns by title of their table: the first ones always, of the others those that a row has a value for."""
    titled = {"What they find": FINDS, "What they take on the line": RUNS, "What they find in 8 bits": EIGHT_BITS}
    kept = {
        title: [column for column in columns if columns is FINDS or any(column.text(row) != NONE for row in rows)]
        for title, columns in titled.items()
    }
    return {title: columns for title, columns in kept.items() if columns}


def table_csv(rows: Sequence[Row]) -> str:
    """Write all values in units of 1, s and MB, a line per model; what was not measured stays empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        flags = {"stopped": int(row.stopped), "unfinished": int(row.unfinished)}
        values = asdict(row) | flags | {"notes": " ".join(row.notes)}
        writer.writerow(
            "" if value is None else f"{value:.6g}" if isinstance(value, float) else value for value in values.values()
        )
    return buffer.getvalue()


def table_md(rows: Sequence[Row], sentence: str, about: Sequence[str]) -> str:
    """Write the tables in Markdown, with the recommendation above and the circumstances below."""
    blocks = [sentence]
    for columns in tables(rows).values():
        lines = [["Model", *(column.title for column in columns)], ["---", *["---:"] * len(columns)]]
        lines += [[row.model, *(column.text(row) for column in columns)] for row in rows]
        blocks.append("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))
    remarks = [(row.model, text) for row in rows for text in (row.reason, *row.notes) if text]
    blocks.append("\n".join(f"- **{model}**: {' '.join(text.split())}" for model, text in remarks))
    return "\n\n".join(filter(None, [*blocks, *about])) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
