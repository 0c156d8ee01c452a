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
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

from benchmark.rows import DATA, INT8, MEAN, PAINTED, PAINTED_SCANS, SURFACE_ONLY, Row, read_folder
from benchmark.variants import BASELINES, CONSTANT, DELIVERED, NARROWED, STUDIES

MARKED = re.compile(r"(<!-- table:(?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
CATEGORIES = tuple(name.rsplit("/", 1)[-1] for name in DATA)
TEXTURE = "mt"
OBJECTS = tuple(name for name in CATEGORIES if name != TEXTURE)
COLUMNS = {
    **{name: (name,) for name in OBJECTS},
    "objects": OBJECTS,
    f"{TEXTURE} (texture)": (TEXTURE,),
    "mean": CATEGORIES,
}
"""Columns of most tables, and the categories that each is the mean of."""
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "AUPRO": "AUPRO"}
SHORT = ("image_AUROC", "AUPRO")
SHORT_TITLE = " / ".join(METRICS[metric] for metric in SHORT)
FILES = {"MixedDistillation": "mixed_distillation", "Dcam": "dcam"}
DEPTH_SETS = {
    "rgbd": ("rgbd/table_top", "user"),
    "drawn3d": ("drawn3d/metal", "user"),
    "painted": ("rgbd/table_top", PAINTED_SCANS),
}
"""How documents call what Mmrd is judged on, to data and protocol of the rows."""
DEPTH_METRICS = {**METRICS, "recall": "recall"}
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
    """Steps and batch of runs."""
    return ", ".join(
        sorted(f"{'own' if steps == 'auto' else steps} x {batch}" for batch, steps in {r.plan for r in rows})
    )


def _trained_on(is_joint: object) -> str:
    """How a table says whether one model learned all categories."""
    return "all four" if is_joint else "each"


def _over_seeds(rows: Iterable[Row], metric: str, categories: Sequence[str]) -> list[float]:
    """Mean of a metric over categories, for each seed that has them all."""
    chosen = [row for row in rows if row.metric == metric and row.subset == "all" and row.category in categories]
    return [
        statistics.fmean(statistics.fmean(row.value for row in same) for same in by_category.values())
        for by_category in (_by(group, "category") for group in _by(chosen, "seed").values())
        if len(by_category) == len(categories)
    ]


def _scores(
    rows: Sequence[Row], metrics: Sequence[str], columns: Mapping[str, Sequence[str]]
) -> dict[str, list[list[float]]]:
    """Column to a list per metric of values over seeds."""
    return {name: [_over_seeds(rows, metric, categories) for metric in metrics] for name, categories in columns.items()}


def _cells(scores: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """Number of seeds, and a cell per column with its metrics one after the other."""
    seeds = _count(len(values) for metrics in scores.values() for values in metrics if values)
    return [seeds, *(" / ".join(map(percent, metrics)) if all(metrics) else "" for metrics in scores.values())]


def _is_full_test(row: Row) -> bool:
    """Whether a row belongs to a test in full precision on one of the categories or on all of them together."""
    return row.protocol in {"user", "paper"} and (row.data in DATA or row.is_joint) and not row.run_id.endswith(INT8)


def _accuracy(metric: str) -> Table:
    """Table of one metric: a line per model, teacher and variant, a column per category."""
    columns = {**{name: (name,) for name in CATEGORIES}, "mean": CATEGORIES}

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [
            row
            for row in rows
            if row.metric == metric
            and row.variant in {"default", "paper", *(variant for variant, _ in BASELINES.values())}
            and _is_full_test(row)
            and not row.is_joint
        ]
        lines = []
        for (model, variant, protocol, weights, _), group in sorted(
            _by(chosen, "model", "variant", "protocol", "weights", "plan").items(),
            key=lambda item: [str(part) for part in item[0]],
        ):
            label = f"{model} (anomalib)" if model in BASELINES else f"{model}, {protocol}"
            cells = _cells(_scores(group, [metric], columns))
            lines.append([label, _teacher(str(weights), str(variant)), _steps(group), *cells])
        return markdown(["Model, protocol", "Teacher", "Steps x batch", "Seeds", *columns], lines)

    return table


def _defects(rows: Sequence[Row], folder: Path) -> str:
    """Image AUROC by kind of defect: the models for single categories beside PatchCore, each at its own length."""
    del folder
    shown = {
        **{model: (model, STUDIES[model]["widths"]["0.5, the default"]) for model in NARROWED},
        f"{NARROWED[0]}, width 1": (NARROWED[0], STUDIES[NARROWED[0]]["widths"]["1"]),
        "Patchcore": ("Patchcore", BASELINES["Patchcore"][:1]),
    }
    chosen = [
        row
        for row in rows
        if row.metric == "image_AUROC" and _is_full_test(row) and not row.is_joint and row.plan[1] == "auto"
    ]
    lines = []
    for (category, defect), group in _by(chosen, "category", "subset").items():
        values = [
            [row.value for row in group if row.model == model and row.variant in variants]
            for model, variants in shown.values()
        ]
        if any(values):
            cells = (percent(each) if each else "" for each in values)
            lines.append([str(category), "all of them" if defect == "all" else str(defect), *cells])
    lines.sort(key=lambda line: CATEGORIES.index(line[0]))
    return markdown(["Category", "Defects", *shown], lines)


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
    """Seconds of training."""
    del folder
    chosen = [row for row in rows if row.metric == "train_seconds" and row.protocol in {"user", "paper"}]
    groups = _by(chosen, "model", "variant", "weights", "is_joint", "plan", "machine")
    lines = [
        [
            f"{model}, {variant}",
            _teacher(str(weights), str(variant)),
            _trained_on(is_joint),
            _steps(group),
            f"{statistics.median(row.value for row in group):.0f}",
            str(machine),
        ]
        for (model, variant, weights, is_joint, _, machine), group in groups.items()
    ]
    header = ["Model, variant", "Teacher", "Trained on", "Steps x batch", "Training, s (median)", "Machine"]
    return markdown(header, lines)


def _stability(model: str) -> Table:
    """Table of single late checkpoints of a model at a constant learning rate against the delivered weights."""

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [row for row in rows if row.model == model and row.subset == "all"]
        studied = {(row.data, row.weights) for row in chosen if row.variant.startswith(CONSTANT)}
        lines = []
        for (data, weights), (metric, title) in product(sorted(studied), METRICS.items()):
            own = [row for row in chosen if (row.data, row.weights, row.metric) == (data, weights, metric)]
            single = [row for row in own if row.variant.startswith(CONSTANT)]
            plans = {row.plan for row in single}
            delivered = {
                row.seed: row.value
                for row in own
                if row.variant == DELIVERED and row.protocol == "user" and row.plan in plans
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
        header = [
            "Category, metric",
            "Teacher",
            "Seeds",
            "Single checkpoints",
            "lowest to highest",
            "largest spread in one training",
            "Delivered weights",
            "lowest to highest",
        ]
        return markdown(header, lines)

    return table


def _selection(model: str, protocol: str) -> Table:
    """Candidates of a model on painted anomalies; those with most categories first, then the best mean."""

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [row for row in rows if (row.model, row.protocol, row.subset) == (model, protocol, "all")]
        columns = {name: (name,) for name in CATEGORIES}
        lines = []
        for (variant, weights, is_joint, _), group in _by(chosen, "variant", "weights", "is_joint", "plan").items():
            there = [name for name in CATEGORIES if any(row.category == name for row in group)]
            scores = _scores(group, [*METRICS], {**columns, "mean of these": there})
            best = statistics.fmean(row.value for row in group if row.metric in METRICS and row.category in there)
            seconds = [row.value for row in group if row.metric == "train_seconds"]
            lines.append(
                (
                    (-len(there), -best),
                    [
                        f"`{variant}`",
                        _teacher(str(weights), ""),
                        _trained_on(is_joint),
                        _steps(group),
                        *_cells(scores),
                        f"{statistics.median(seconds):.0f}" if seconds else "",
                    ],
                ),
            )
        lines.sort(key=lambda line: line[0])
        header = [" / ".join(METRICS.values()), "Teacher", "Trained on", "Steps x batch", "Seeds"]
        return markdown([*header, *columns, "mean of these", "Training, s"], [line for _, line in lines])

    return table


def _study(model: str, shown: Mapping[str, Sequence[str]] | None = None) -> Table:
    """Variants of a model: image AUROC and AUPRO over categories.

    Args:
        model: Class name.
        shown: Label of a line to variants that are the same model; ``None`` for all variants that no study of the model
            shows.
    """

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        chosen = [row for row in rows if row.model == model and _is_full_test(row)]
        chosen = [row for row in chosen if row.variant != DELIVERED and not row.variant.startswith(CONSTANT)]
        studied = {variant for labels in STUDIES[model].values() for names in labels.values() for variant in names}
        rest = dict.fromkeys(row.variant for row in chosen if row.variant not in studied)
        lines = []
        for label, variants in shown.items() if shown else ((f"`{name}`", [name]) for name in rest):
            own = [row for row in chosen if row.variant in variants]
            for (weights, is_joint, _), group in _by(own, "weights", "is_joint", "plan").items():
                cells = _cells(_scores(group, SHORT, COLUMNS))
                lines.append([label, _teacher(str(weights), ""), _trained_on(is_joint), _steps(group), *cells])
        return markdown([SHORT_TITLE, "Teacher", "Trained on", "Steps x batch", "Seeds", *COLUMNS], lines)

    return table


def _difference(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> str:
    """Difference of two means in points, per metric."""
    if not all([*ours, *theirs]):
        return ""
    means = (map(statistics.fmean, side) for side in (ours, theirs))
    points = (round(100 * (mine - other), 1) + 0.0 for mine, other in zip(*means, strict=True))  # 0.0 where it is -0.0
    return " / ".join(f"{value:+.1f}" for value in points)


def _joint(rows: Sequence[Row], folder: Path) -> str:
    """One model for all categories beside one for each, and the difference in points.

    Beside a joint training stand the single ones of the same length, or the only ones that there are.
    """
    del folder
    lines = []
    groups = _by([row for row in rows if _is_full_test(row)], "model", "variant", "weights")
    for (model, variant, weights), group in groups.items():
        label = [f"{model}, {variant}", _teacher(str(weights), str(variant))]
        single = _by((row for row in group if not row.is_joint), "plan")
        for plan, joint in _by((row for row in group if row.is_joint), "plan").items():
            each = single.get(plan) or (next(iter(single.values())) if len(single) == 1 else [])
            ours, theirs = (_scores(found, SHORT, COLUMNS) for found in (joint, each))
            lines.append([*label, _trained_on(is_joint=True), _steps(joint), *_cells(ours)])
            if each:
                points = [_difference(ours[name], theirs[name]) for name in COLUMNS]
                lines.append([*label, _trained_on(is_joint=False), _steps(each), *_cells(theirs)])
                lines.append([*label, "difference", "", "", *points])
    return markdown([SHORT_TITLE, "Teacher", "Trained on", "Steps x batch", "Seeds", *COLUMNS], lines)


def _depth_study(data: str, protocol: str, answers: Mapping[str, Sequence[str]]) -> Table:
    """Table of variants of Mmrd on one data set: a line per variant and defect type, a column per metric."""

    def table(rows: Sequence[Row], folder: Path) -> str:
        del folder
        wanted = ("Mmrd", data, protocol)
        chosen = [
            row for row in rows if (row.model, row.data, row.protocol) == wanted and not row.run_id.endswith(INT8)
        ]
        lines = []
        for answer, variants in answers.items():
            of_answer = [row for row in chosen if row.variant in variants]
            for (subset,), group in _by(of_answer, "subset").items():
                seeds = _count([len({row.seed for row in group})])
                values = [[row.value for row in group if row.metric == metric] for metric in DEPTH_METRICS]
                lines.append([answer, str(subset), _steps(group), seeds, *map(percent, values)])
        return markdown(["Mmrd", "Defects", "Steps x batch", "Seeds", *DEPTH_METRICS.values()], lines)

    return table


def _int8(rows: Sequence[Row], folder: Path) -> str:
    """Exports in 8 bits beside the models that they were made of, over the runs that have both."""
    del folder
    chosen = [row for row in rows if row.subset == "all" and row.metric in METRICS and row.category != MEAN]
    full = {(row.run_id, row.category, row.metric): row.value for row in chosen}
    quantized = [
        row
        for row in chosen
        if row.run_id.endswith(INT8) and (row.run_id.removesuffix(INT8), row.category, row.metric) in full
    ]
    lines = []
    for (model, variant, is_joint), group in _by(quantized, "model", "variant", "is_joint").items():
        cells = []
        for metric in METRICS:
            own = [row for row in group if row.metric == metric]
            before = [full[row.run_id.removesuffix(INT8), row.category, row.metric] for row in own]
            sides = (before, [row.value for row in own])
            cells.append(" / ".join(f"{100 * statistics.fmean(side):.1f}" for side in sides) if own else "")
        runs = str(len({row.run_id for row in group}))
        lines.append([f"{model}, {variant}", _trained_on(is_joint), runs, *cells])
    return markdown(["torch / 8 bits", "Trained on", "Runs", *METRICS.values()], lines)


def _speed(rows: Sequence[Row], folder: Path) -> str:
    """Milliseconds per image of exported models, in turns on one machine."""
    del folder
    lines = []
    chosen = [row for row in rows if row.protocol == "speed"]
    groups = _by(chosen, "run_id", "model", "variant", "precision", "machine")
    for (_, model, variant, precision, machine), group in groups.items():
        values = {row.metric: row.value for row in group}
        milliseconds = [f"{1000 * values[name]:.1f}" for name in ("latency_seconds", "latency_spread")]
        ratio, size = f"{values['latency_ratio']:.2f}", f"{values['megabytes']:.1f}"
        lines.append([f"{model}, {variant}", str(precision), *milliseconds, ratio, size, str(machine)])
    header = ["Graph", "Precision", "ms per image", "quartiles apart", "of the teacher alone", "MB", "Machine"]
    return markdown(header, lines)


def _price(rows: Sequence[Row], folder: Path) -> str:
    """What a wider student brings and costs: accuracy, seconds of training and milliseconds, all of one machine.

    The machine is the one that was timed in 8 bits last. The graphs of all narrowed models have the same parts: one
    model's stand for all.
    """
    del folder
    machine = next((row.machine for row in reversed(rows) if (row.protocol, row.precision) == ("speed", "int8")), None)
    chosen = [row for row in rows if row.machine == machine]
    timed = [row for row in chosen if row.metric == "latency_seconds" and row.model == NARROWED[-1]]
    lines = []
    for model, (label, names) in product(NARROWED, STUDIES[NARROWED[0]]["widths"].items()):
        same = {*names, *(f"{name}+bf16" for name in names)}
        own = [row for row in chosen if row.model == model and row.variant in same and _is_full_test(row)]
        cells = []
        for is_joint, steps in ((False, "auto"), (True, "300")):
            group = [row for row in own if row.is_joint == is_joint and row.plan[1] == steps]
            scores = [_over_seeds(group, metric, CATEGORIES) for metric in SHORT]
            seconds = [row.value for row in group if row.metric == "train_seconds"]
            cells.append(" / ".join(map(percent, scores)) if all(scores) else "")
            cells.append(f"{statistics.median(seconds):.0f}" if seconds else "")
        for precision in ("f32", "int8"):
            values = [row.value for row in timed if row.variant in names and row.precision == precision]
            cells.append(f"{1000 * values[-1]:.1f}" if values else "")
        lines.append([f"{model}, width {label}", *cells])
    each, joint = (f"{SHORT_TITLE}: {data}" for data in ("each", "all four, 300 steps"))
    header = ["Student", each, "training, s", joint, "training, s", "ms in f32", "ms in 8 bits"]
    return markdown(header, [line for line in lines if any(line[1:])])


def _short_runs(rows: Sequence[Row], folder: Path) -> str:
    """How many short trainings collapsed."""
    del folder
    chosen = [row for row in rows if row.metric == "collapsed"]
    groups = _by(chosen, "model", "variant", "weights", "category", "plan")
    lines = [
        [
            f"{model}, {variant}",
            _teacher(str(weights), str(variant)),
            str(category),
            _steps(group),
            str(len(group)),
            f"{sum(row.value for row in group):.0f}",
        ]
        for (model, variant, weights, category, _), group in groups.items()
    ]
    return markdown(["Model, variant", "Teacher", "Category", "Steps x batch", "Seeds", "Collapsed"], lines)


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
    "defects": _defects,
    "quickstart": _quickstart,
    "times": _times,
    "stability": _stability("Mkd"),
    "stability-mixed_distillation": _stability("MixedDistillation"),
    "selection": _selection("Mkd", SURFACE_ONLY),
    "surface-mixed_distillation": _selection("MixedDistillation", SURFACE_ONLY),
    **{f"selection-{file}": _selection(model, PAINTED) for model, file in FILES.items()},
    "joint": _joint,
    **{f"{study}-{FILES[model]}": _study(model, shown) for model in FILES for study, shown in STUDIES[model].items()},
    **{f"other-{FILES[model]}": _study(model) for model in FILES},
    **{
        f"{study}-{name}": _depth_study(data, protocol, answers)
        for study, answers in STUDIES["Mmrd"].items()
        for name, (data, protocol) in DEPTH_SETS.items()
    },
    "int8": _int8,
    "speed": _speed,
    "price": _price,
    "short_runs": _short_runs,
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
