# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tables of rows, and functions for their cells."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.rows import Row

Group = Sequence[Row]
Cell = Callable[[Group], str]
Key = str | Callable[[Row], object]

EMPTY = "*Not measured yet.*"


def groups_by(rows: Iterable[Row], *keys: Key) -> list[Group]:
    """Group rows by the values of columns, or of functions of a row, in order of first appearance."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(getattr(row, key) if isinstance(key, str) else key(row) for key in keys)].append(row)
    return list(groups.values())


@dataclass(frozen=True)
class Table:
    """Specification of a table.

    Args:
        where: Whether the table uses a row.
        by: Columns, or functions of a row, that have one value per line.
        cells: Header of each column, and its text: a function of the line's rows, or a template for the first of them.
        answers: Label of a line to variants that are the same model; if set, no other variant is shown, and the labels
            are the first column, whose header is ``title``.
        title: See ``answers``.
        order: Sort key of the lines; equal ones stay in the order of the rows.
        more: Replaces the line of a group by any number of lines.
    """

    where: Callable[[Row], bool]
    by: Sequence[Key]
    cells: Mapping[str, Cell | str]
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    title: str = ""
    order: Callable[[Group], Any] = lambda _: 0
    more: Callable[[Group], Iterable[Group]] = lambda group: [group]

    def markdown(self, rows: Iterable[Row]) -> str:
        """Render the table, with numbers aligned right.

        A column of :data:`RUN`, or of seeds, that says the same in every line becomes a note below the table.
        """
        label = {variant: answer for answer, variants in self.answers.items() for variant in variants}
        rows = (row for row in rows if self.where(row) and (not label or row.variant in label))
        groups = groups_by(rows, *((lambda row: label[row.variant],) if label else ()), *self.by)
        if label:
            groups.sort(key=lambda group: list(self.answers).index(label[group[0].variant]))
        shown = [line for group in sorted(groups, key=self.order) for line in self.more(group)]
        if not shown:
            return EMPTY
        labels: dict[str, Cell | str] = {self.title: lambda group: label[group[0].variant]} if label else {}
        cells = labels | dict(self.cells)
        lines = [
            [cell.format(row=line[0]) if isinstance(cell, str) else cell(line) for cell in cells.values()]
            for line in shown
        ]
        named = [dict(zip(cells, line, strict=True)) for line in lines]
        runs = [name for name in (*RUN, "Seeds") if name in cells and len({line[name] for line in named}) == 1]
        same = {name: named[0][name] for name in runs if len(named) > 1}
        header = [name for name in cells if name not in same]
        rule = [" --- ", *(" ---: " for _ in header[1:])]
        table = [f"| {' | '.join(header)} |", f"|{'|'.join(rule)}|"]
        table += [f"| {' | '.join(line[name] for name in header)} |" for line in named]
        note = "; ".join(f"{name.lower()} {text}" for name, text in same.items())
        return "\n".join([*table, *(["", f"All lines: {note}."] if note else [])])


def percent(values: Sequence[float]) -> str:
    """Format mean and sample standard deviation in percent, with one decimal; only the mean for one value.

    Example:
        >>> percent([0.98, 0.99, 1.0]), percent([0.98]), percent([])
        ('99.0±1.0', '98.0', '')
    """
    spread = f"±{100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f}{spread}" if values else ""


def over_seeds(group: Group, metric: str, categories: Sequence[str]) -> list[float]:
    """Compute the mean of a metric over categories, for each seed that has them all."""
    chosen = [row for row in group if row.metric == metric and row.subset == "all" and row.category in categories]
    return [
        statistics.fmean(statistics.fmean(row.value for row in same) for same in of_categories)
        for of_categories in (groups_by(of_seed, "category") for of_seed in groups_by(chosen, "seed"))
        if len(of_categories) == len(categories)
    ]


def score(metrics: Iterable[str], categories: Sequence[str]) -> Cell:
    """Build a cell of metrics over categories, separated by slashes; empty if one of them is missing."""

    def cell(group: Group) -> str:
        values = [over_seeds(group, metric, categories) for metric in metrics]
        return " / ".join(map(percent, values)) if all(values) else ""

    return cell


def scores(metrics: Iterable[str], columns: Mapping[str, Sequence[str]]) -> dict[str, Cell]:
    """Build cells for the number of seeds, and for metrics over the categories of each column."""

    def seeds(group: Group) -> str:
        found = {len(over_seeds(group, metric, each)) for each in columns.values() for metric in metrics} - {0}
        return "-".join(map(str, sorted({min(found), max(found)}))) if found else ""

    return {"Seeds": seeds, **{name: score(metrics, categories) for name, categories in columns.items()}}


def of(where: Callable[[Row], bool], cell: Cell) -> Cell:
    """Build a cell from some of a line's rows."""
    return lambda group: cell([row for row in group if where(row)])


def mean(metric: str) -> Cell:
    """Build a cell of mean and deviation of a metric over a line's rows."""
    return lambda group: percent([row.value for row in group if row.metric == metric])


def median(metric: str, form: str, scale: float = 1) -> Cell:
    """Build a cell of the median of a metric over a line's rows, times ``scale``."""

    def cell(group: Group) -> str:
        values = [row.value for row in group if row.metric == metric]
        return format(scale * statistics.median(values), form) if values else ""

    return cell


def quoted(metric: str) -> Cell:
    """Build a cell of the mean of a metric in percent, with the two decimals of a published table."""

    def cell(group: Group) -> str:
        values = [row.value for row in group if row.metric == metric]
        return f"{100 * statistics.fmean(values):.2f}" if values else ""

    return cell


def extent(group: Group) -> str:
    """Format the lowest and the highest value, in percent."""
    return " to ".join(f"{100 * end(row.value for row in group):.1f}" for end in (min, max))


def teacher(group: Group) -> str:
    """Return the teacher's name in tables."""
    name = "embedded" if group[0].weights == "quickstart" else f"`{group[0].weights}`"
    return f"{name} form, random weights" if group[0].variant == "random_teacher" else name


def steps(group: Group) -> str:
    """Format steps and batch size."""
    return ", ".join(sorted({f"{row.steps or 'one pass'} x {row.batch}" for row in group}))


def seeds(group: Group) -> str:
    """Return the number of seeds."""
    return str(len({row.seed for row in group}))


RUN: dict[str, Cell] = {
    "Teacher": teacher,
    "Trained on": lambda group: "all four" if group[0].is_joint else "each",
    "Steps x batch": steps,
}
seconds, milliseconds = median("train_seconds", ".0f"), median("latency_seconds", ".1f", 1000)
