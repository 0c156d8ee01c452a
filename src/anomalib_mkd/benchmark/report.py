# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tables of the documentation, generated from result rows.

A document holds a table between ``<!-- table:NAME -->`` and ``<!-- /table -->``; :data:`TABLES` knows the names.
"""

from __future__ import annotations

import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from anomalib_mkd.benchmark.rows import DATA, Row, read_folder
from anomalib_mkd.benchmark.variants import BASELINES

MARKED = re.compile(r"(<!-- table:(?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
CATEGORIES = tuple(name.rsplit("/", 1)[-1] for name in DATA)
INT8 = "-int8"
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "AUPRO": "AUPRO"}
EMPTY = "*Not measured yet.*"

Table = Callable[[Sequence[Row], Path], str]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right.

    Args:
        header: Column names; the first column is text.
        lines: Cells.
    """
    lines = list(lines)
    if not lines:
        return EMPTY
    rule = [" --- ", *(" ---: " for _ in header[1:])]
    rows = [f"| {' | '.join(header)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join(rows)


def percent(values: Sequence[float]) -> str:
    """Mean and sample standard deviation in percent, one decimal; the mean alone for one value.

    Args:
        values: Fractions, one per seed.

    Example:
        >>> percent([0.98, 0.99, 1.0]), percent([0.98]), percent([])
        ('99.0 ± 1.0', '98.0', '')
    """
    if not values:
        return ""
    mean = f"{100 * statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def _count(numbers: Iterable[int]) -> str:
    """``3``, or ``1-3`` where the numbers differ."""
    numbers = sorted(set(numbers))
    return "" if not numbers else str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _by(rows: Iterable[Row], *names: str) -> dict[tuple[object, ...], list[Row]]:
    """Rows by the values of some columns, in order of first appearance."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(getattr(row, name) for name in names)].append(row)
    return groups


def _teacher(weights: str, variant: str) -> str:
    """How a table names a teacher."""
    name = "quick-start" if weights == "quickstart" else f"`{weights}`"
    return f"{name} form, random weights" if variant == "random_teacher" else name


def _steps(rows: Sequence[Row]) -> str:
    """Batch and steps of runs, as their names tell, with the passes over the training images."""
    plans = {tuple(row.run_id.removesuffix(INT8).rsplit("-", 2)[1:]) for row in rows}
    texts = sorted(f"{'own' if steps == 'nauto' else steps[1:]} x {batch[1:]}" for batch, steps in plans)
    return ", ".join(texts)


def _accuracy(metric: str) -> Table:
    """Table of one metric: a line per model, teacher and variant, a column per category."""

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [
            row
            for row in rows
            if row.metric == metric
            and row.subset == "all"
            and row.protocol in {"user", "paper"}
            and row.variant in {"default", "paper", *(variant for variant, _ in BASELINES.values())}
            and row.data in DATA
            and not row.run_id.endswith(INT8)
        ]
        lines = []
        for (model, variant, protocol, weights), group in sorted(
            _by(chosen, "model", "variant", "protocol", "weights").items(),
            key=lambda item: [str(part) for part in item[0]],
        ):
            by_category = {name: [row.value for row in group if row.category == name] for name in CATEGORIES}
            mean = ""
            if all(by_category.values()):
                mean = f"{100 * statistics.fmean(statistics.fmean(values) for values in by_category.values()):.1f}"
            label = f"{model} (anomalib)" if model in BASELINES else f"{model}, {protocol}"
            lines.append(
                [
                    label,
                    _teacher(str(weights), str(variant)),
                    _steps(group),
                    _count(len(values) for values in by_category.values() if values),
                    *(percent(values) for values in by_category.values()),
                    mean,
                ],
            )
        return markdown(["Model, protocol", "Teacher", "Steps x batch", "Seeds", *CATEGORIES, "mean"], lines)

    return table


def _quickstart(rows: Sequence[Row], folder: Path) -> str:
    """The quick-start teacher against the same network with random weights, on bottle."""
    del folder
    chosen = [
        row
        for row in rows
        if row.weights == "quickstart"
        and row.data == DATA[0]
        and row.subset == "all"
        and row.protocol == "user"
        and row.variant in {"default", "random_teacher"}
    ]
    lines = []
    for (variant,), group in sorted(_by(chosen, "variant").items(), key=lambda item: str(item[0])):
        values = {metric: [row.value for row in group if row.metric == metric] for metric in METRICS}
        lines.append(
            [
                "random weights" if variant == "random_teacher" else "distilled from ResNet-18",
                _count(len(found) for found in values.values() if found),
                *(percent(found) for found in values.values()),
            ],
        )
    return markdown(["Quick-start network", "Seeds", *METRICS.values()], lines)


def _times(rows: Sequence[Row], folder: Path) -> str:
    """Seconds of training and of testing."""
    del folder
    chosen = [row for row in rows if row.metric == "train_seconds" and row.protocol in {"user", "paper"}]
    lines = []
    for (model, variant, weights, machine), group in _by(chosen, "model", "variant", "weights", "machine").items():
        lines.append(
            [
                f"{model}, {variant}",
                _teacher(str(weights), str(variant)),
                _steps(group),
                f"{statistics.median(row.value for row in group):.0f}",
                str(machine),
            ],
        )
    return markdown(["Model, variant", "Teacher", "Steps x batch", "Training, s (median)", "Machine"], lines)


def _stability(rows: Sequence[Row], folder: Path) -> str:
    """Single late checkpoints at a constant learning rate against the delivered weights."""
    del folder
    studied = {(row.data, row.weights) for row in rows if row.variant.startswith("constant_step")}
    lines = []
    for data, weights in sorted(studied):
        for metric, title in METRICS.items():
            own = [
                row
                for row in rows
                if (row.data, row.weights, row.metric, row.subset, row.model) == (data, weights, metric, "all", "Mkd")
            ]
            single = [row for row in own if row.variant.startswith("constant_step")]
            plans = {row.run_id.rsplit("-", 2)[1:][0] + row.run_id.rsplit("-", 2)[2] for row in single}
            delivered = {
                row.seed: row.value
                for row in own
                if row.variant == "delivered"
                and row.protocol == "user"
                and row.run_id.rsplit("-", 2)[1] + row.run_id.rsplit("-", 2)[2] in plans
            }
            spreads = [
                max(row.value for row in group) - min(row.value for row in group)
                for group in _by(single, "seed").values()
            ]
            values = [row.value for row in single]
            if not values:
                continue
            lines.append(
                [
                    f"{data.rsplit('/', 1)[-1]}, {title}",
                    _teacher(weights, ""),
                    str(len(spreads)),
                    percent(values),
                    f"{100 * min(values):.1f} to {100 * max(values):.1f}",
                    f"{100 * max(spreads):.1f}",
                    percent(list(delivered.values())),
                    f"{100 * min(delivered.values()):.1f} to {100 * max(delivered.values()):.1f}" if delivered else "",
                ],
            )
    return markdown(
        [
            "Category, metric",
            "Teacher",
            "Seeds",
            "Single checkpoints",
            "lowest to highest",
            "largest spread in one training",
            "Delivered weights",
            "lowest to highest",
        ],
        lines,
    )


def _selection(model: str) -> Table:
    """Candidates of a model on painted anomalies, best mean of the three metrics first."""

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [
            row
            for row in rows
            if (row.model, row.protocol, row.subset) == (model, "painted", "all") and row.metric in METRICS
        ]
        lines = []
        for (variant, weights), group in _by(chosen, "variant", "weights").items():
            values = {metric: [row.value for row in group if row.metric == metric] for metric in METRICS}
            lines.append(
                (
                    statistics.fmean(row.value for row in group),
                    [
                        f"`{variant}`",
                        _teacher(str(weights), ""),
                        _steps(group),
                        ", ".join(dict.fromkeys(row.category for row in group)),
                        str(len(values["image_AUROC"])),
                        *(percent(found) for found in values.values()),
                    ],
                ),
            )
        lines.sort(key=lambda line: -line[0])
        header = ["Candidate", "Teacher", "Steps x batch", "Categories", "Runs", *METRICS.values()]
        return markdown(header, [line for _, line in lines])

    return table


def _ablation(model: str) -> Table:
    """Variants of a model: image AUROC and AUPRO of each category, and their means."""

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [
            row
            for row in rows
            if (row.model, row.subset) == (model, "all")
            and row.protocol in {"user", "paper"}
            and row.data in DATA
            and not row.run_id.endswith(INT8)
        ]
        lines = []
        for (variant, weights), group in _by(chosen, "variant", "weights").items():
            by_category = [
                [[row.value for row in group if (row.category, row.metric) == (name, metric)] for name in CATEGORIES]
                for metric in ("image_AUROC", "AUPRO")
            ]
            cells = [
                " / ".join(map(percent, values)) if all(values) else "" for values in zip(*by_category, strict=True)
            ]
            means = [f"{100 * statistics.fmean(map(statistics.fmean, m)):.1f}" for m in by_category if all(m)]
            seeds = _count(len(values) for values in by_category[0] if values)
            lines.append([f"`{variant}`", _teacher(str(weights), ""), _steps(group), seeds, *cells, " / ".join(means)])
        header = ["image AUROC / AUPRO", "Teacher", "Steps x batch", "Seeds", *CATEGORIES, "mean"]
        return markdown(header, lines)

    return table


def _int8(rows: Sequence[Row], folder: Path) -> str:
    """Exports in 8 bits beside the models that they were made of, over the runs that have both."""
    del folder
    values = {(row.run_id, row.metric): row.value for row in rows if row.subset == "all" and row.metric in METRICS}
    exported = [row for row in rows if row.run_id.endswith(INT8) and (row.run_id, row.metric) in values]
    lines = []
    for (model, variant), group in _by(exported, "model", "variant").items():
        pairs = {
            metric: [
                (values[row.run_id.removesuffix(INT8), metric], row.value)
                for row in group
                if row.metric == metric and row.subset == "all" and (row.run_id.removesuffix(INT8), metric) in values
            ]
            for metric in METRICS
        }
        cells = [
            " / ".join(f"{100 * statistics.fmean(side):.1f}" for side in zip(*found, strict=True)) if found else ""
            for found in pairs.values()
        ]
        lines.append([f"{model}, {variant}", str(len(pairs["image_AUROC"])), *cells])
    return markdown(["torch / 8 bits", "Runs", *METRICS.values()], lines)


def _paper(rows: Sequence[Row], folder: Path) -> str:
    """The paper's own numbers (VGG-16, 128 px), as quoted in ``paper_mkd.csv``."""
    del rows
    path = folder / "paper_mkd.csv"
    if not path.exists():
        return EMPTY
    with path.open(newline="", encoding="utf-8") as file:
        quoted = list(csv.DictReader(file))
    lines = [[line["category"], line["image_AUROC"], line["pixel_AUROC"]] for line in quoted]
    means = [f"{statistics.fmean(float(line[key]) for line in quoted):.2f}" for key in ("image_AUROC", "pixel_AUROC")]
    return markdown(
        ["Category (MVTec AD)", "image AUROC, quoted", "pixel AUROC, quoted"],
        [*lines, ["mean", *means]],
    )


def _provenance(rows: Sequence[Row], folder: Path) -> str:
    """Which machines, versions and commits the rows come from."""
    del folder
    groups = _by(rows, "machine", "versions", "commit")
    lines = [
        [", ".join(sorted({row.model for row in group})), str(len({row.run_id for row in group})), *map(str, key)]
        for key, group in groups.items()
    ]
    return markdown(["Models", "Runs", "Machine", "Versions", "Commit"], lines)


TABLES: dict[str, Table] = {
    "image": _accuracy("image_AUROC"),
    "pixel": _accuracy("pixel_AUROC"),
    "aupro": _accuracy("AUPRO"),
    "quickstart": _quickstart,
    "times": _times,
    "stability": _stability,
    "selection": _selection("Mkd"),
    "selection-mixed_distillation": _selection("MixedDistillation"),
    "selection-dcam": _selection("Dcam"),
    "ablation-mixed_distillation": _ablation("MixedDistillation"),
    "ablation-dcam": _ablation("Dcam"),
    "int8": _int8,
    "paper": _paper,
    "provenance": _provenance,
}
"""Every table by the name that a document uses."""


def render(text: str, rows: Sequence[Row], folder: Path) -> str:
    """A document with its tables brought up to date.

    Args:
        text: Markdown.
        rows: Result rows.
        folder: Folder of results, for quoted tables.

    Raises:
        ValueError: If a marker names no table, or has no end.
    """

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            msg = f"Expected a table among {', '.join(TABLES)}, got {name!r}. Correct the marker."
            raise ValueError(msg)
        return f"{match[1]}\n{TABLES[name](rows, folder)}\n\n{match[3]}"

    new, count = MARKED.subn(replace, text)
    starts = len(re.findall(r"^<!-- table:", text, re.MULTILINE))
    if count != starts:
        msg = f"Expected {starts} tables to end with '<!-- /table -->', got {count}. Add the missing line."
        raise ValueError(msg)
    return new


def documents(root: Path) -> list[Path]:
    """README and pages that may hold tables.

    Args:
        root: Root of the repository.
    """
    return [path for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if path.exists()]


def report(root: Path, results: Path, *, check: bool = False) -> list[Path]:
    """Bring the tables of all documents up to date.

    Args:
        root: Root of the repository.
        results: Folder of CSV files.
        check: Write nothing.

    Returns:
        The documents that differed.
    """
    rows = read_folder(results)
    changed = []
    for path in documents(root):
        text = path.read_text(encoding="utf-8")
        new = render(text, rows, results)
        if new != text:
            changed.append(path)
            if not check:
                path.write_text(new, encoding="utf-8")
    return changed
