# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tables of the documentation, generated from result rows.

A document holds a table between ``<!-- table:NAME -->`` and ``<!-- /table -->``; :data:`TABLES` specifies each by name.
"""

from __future__ import annotations

import math
import re
import statistics
from typing import TYPE_CHECKING

from anomalib_mkd.files import whole
from anomalib_mkd.thresholds import ALLOWED
from benchmark.rows import (
    BATTERY,
    CHECKED,
    CHOOSING,
    COMPARE,
    DATA,
    FOUR,
    INT8,
    JOINT,
    JUDGED,
    MEAN,
    OTHER_STEPS,
    OWN_STEPS,
    QUOTED,
    TEN,
    Row,
    allowed,
    training_pictures,
)
from benchmark.tables import (
    RUN,
    Cell,
    Group,
    Table,
    extent,
    groups_by,
    mean,
    median,
    milliseconds,
    of,
    over_seeds,
    percent,
    quoted,
    score,
    scores,
    seconds,
    seeds,
    steps,
    teacher,
)
from benchmark.variants import CONSTANT, DELIVERED, NARROWED, OPTIONS, STUDIES, USUAL, WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

MARKED = re.compile(r"(<!-- table:(?P<name>[\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
CATEGORIES = tuple(name.rsplit("/", 1)[-1] for name in DATA)
TEXTURE = CATEGORIES[-1]
COLUMNS = {
    **{f"{name} (texture)" if name == TEXTURE else name: (name,) for name in CATEGORIES},
    MEAN: CATEGORIES,
}
"""Columns of most tables, and the categories over which each averages."""
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "AUPRO": "AUPRO"}
SHORT = ("image_AUROC", "AUPRO")
SHORT_TITLE = " / ".join(METRICS[metric] for metric in SHORT)
PIXEL_LEVELS = ("anomalib", "delivered", "q99.9", "peak1", "best")
"""Candidates for the threshold of pixels that are shown."""
VGG, RESNET18 = "vgg16.tv_in1k", "resnet18.tv_in1k"
"""Teachers of Mkd's paper, and of the other models."""
SCANS = "rgbd/table_top"
"""Mmrd's test data."""
PAPER_STEPS = 3000
"""About those of Mkd's paper, of batches of 64, on ``screw``."""
EVERY = {
    "MixedDistillation": ("MixedDistillation", "default", 300),
    "fast": ("MixedDistillation", "size144", 300),
    "accurate": ("MixedDistillation", "size320", 300),
    "384 px": ("MixedDistillation", "size384", 300),
    "width 1, 600 steps": ("MixedDistillation", "width1.0", 600),
    "Dcam": ("Dcam", "default", 300),
    "Mkd": ("Mkd", "default", 1200),
    "Stfpm": ("Stfpm", USUAL["Stfpm"], 100),
    "PatchCore 1 %": ("Patchcore", USUAL["Patchcore"], 0),
}
"""Every method with its presets, and anomalib's: title to model, variant and steps."""
TEN_STEPS = 1200
"""Those of one model for ten categories."""
TENTH = ("Patchcore", "coreset0.1", 0)
"""PatchCore with anomalib's default core set."""
COMPARED = {title: EVERY[title] for title in ("MixedDistillation", "PatchCore 1 %")} | {"PatchCore 10 %": TENTH}
"""Those that were trained on some of the good images."""
FEW = ("mvtec/bottle", "mvtec/screw", "magnetic_tile/mt", "aitex/fabric03")
"""Data sets that were trained on with some of their good images."""
MISSED = ("screw", "mt")
"""Categories of which not every defect is found."""
PROCESSORS = {
    "EPYC, AVX2": ("AMD EPYC", "AVX2"),
    "EPYC, AVX-512": ("AMD EPYC", "AVX512-BF16"),
    "Xeon, AVX-512": ("Intel", "AVX512-BF16"),
    "Xeon, AMX": ("Intel", "AMX-INT8"),
}
"""Processors that graphs were timed on: title to the beginning of the name, and the last feature."""
VERDICTS, INT8_VERDICTS = list(JUDGED)[:2], list(JUDGED)[2:]
"""Metrics of verdicts in f32 and in 8 bits."""
BOARDS = "group20085"
"""Circuit boards, of which every image shows another place."""


def is_full_test(row: Row) -> bool:
    """Return whether a row is from a test in full precision on one of the categories or on all of them together."""
    return row.protocol in {"user", "paper"} and row.data in {*DATA, FOUR} and row.precision != INT8


def is_single(row: Row) -> bool:
    """Return whether a row is from such a test of a single-category model, trained for the default length."""
    return is_full_test(row) and not row.is_joint and row.steps == (OWN_STEPS | OTHER_STEPS).get(row.model)


def is_long_mkd(row: Row) -> bool:
    """Return whether a row is of ``Mkd`` with its paper's teacher, trained for about the paper's number of steps."""
    paper = row.weights == VGG and row.steps == PAPER_STEPS and row.subset == "all"
    return row.model == "Mkd" and row.variant == "default" and paper


def is_checkpoint(row: Row) -> bool:
    """Return whether a row is from a single late checkpoint."""
    return row.variant.startswith(CONSTANT)


def stability(model: str) -> Table:
    """Compare single late checkpoints at a constant learning rate with the recipe's final weights."""

    def spread(group: Group) -> str:
        spans = [[row.value for row in of_seed] for of_seed in groups_by(group, "seed")]
        return f"{100 * max(max(span) - min(span) for span in spans):.1f}" if is_checkpoint(group[0]) else ""

    return Table(
        lambda row: (
            (row.model, row.subset) == (model, "all")
            and row.metric in METRICS
            and (row.variant == DELIVERED or is_checkpoint(row))
        ),
        ("data", "weights", "metric", "batch", "steps", is_checkpoint),
        {
            "Category, metric": lambda group: f"{group[0].category}, {METRICS[group[0].metric]}",
            "Weights": lambda group: "single checkpoints" if is_checkpoint(group[0]) else "delivered",
            "Teacher": teacher,
            "Steps x batch": steps,
            "Seeds": seeds,
            "Mean": lambda group: percent([row.value for row in group]),
            "Lowest to highest": extent,
            "Largest spread in one training": spread,
        },
        order=lambda group: (group[0].data, group[0].weights, [*METRICS].index(group[0].metric)),
    )


def study(model: str, answers: Mapping[str, Sequence[str]]) -> Table:
    """Compare variants of a model: image AUROC and AUPRO over categories."""
    return Table(
        lambda row: row.model == model and is_full_test(row),
        ("weights", "is_joint", "batch", "steps"),
        {**RUN, **scores(SHORT, COLUMNS)},
        answers=answers,
        title=SHORT_TITLE,
    )


def options(model: str) -> Table:
    """Compare options in short trainings of one seed, each below its control."""
    scans: dict[str, Cell | str] = {"Data": "{row.data}", **{title: mean(metric) for metric, title in METRICS.items()}}
    return Table(
        lambda row: (row.model, row.protocol, row.subset) == (model, "options", "all"),
        ("data", "batch", "steps") if model == "Mmrd" else ("weights", "batch", "steps"),
        {**RUN, **(scans if model == "Mmrd" else scores(SHORT, COLUMNS))},
        answers=OPTIONS[model],
        title="Mmrd" if model == "Mmrd" else SHORT_TITLE,
    )


def is_on(name: str, feature: str) -> Callable[[Row], bool]:
    """Build what says whether a row is of a processor, by the beginning of its name and its last feature."""
    return lambda row: row.machine.startswith(name) and row.machine.endswith(feature)


def latency(group: Group) -> str:
    """Write median and distance between the quartiles in milliseconds, and the ratio to the teacher alone."""
    spread, ratio = median("latency_spread", ".1f", 1000), median("latency_ratio", ".2f")
    return f"{milliseconds(group)} ({spread(group)}), {ratio(group)}" if group else ""


def over_sets(metric: str, subset: str = "all", pick: Callable[[list[float]], float] = statistics.fmean) -> Cell:
    """Build a cell of a metric over data sets, of each its mean over seeds: their mean, or another statistic."""

    def cell(group: Group) -> str:
        rows = [row for row in group if (row.metric, row.subset) == (metric, subset)]
        means = [statistics.fmean(row.value for row in of_set) for of_set in groups_by(rows, "category")]
        return f"{100 * pick(means):.1f}" if means else ""

    return cell


def category_or_mean(group: Group) -> str:
    """Name the category of a line; ``mean`` if it has several."""
    return group[0].category if len({row.category for row in group}) == 1 else MEAN


def half(row: Row) -> str:
    """Say whether a data set chose the rules of thresholds or judged them."""
    return "choosing" if row.data in CHOOSING else "judging"


def threshold_rules() -> Table:
    """Compare rules of thresholds: false alarms, and what is caught, also with wrong images among those held out."""
    return Table(
        lambda row: (
            (row.protocol == "held_out" and row.variant != "default")
            and row.metric in {"caught", "false_alarms"}
            and row.steps == OWN_STEPS[row.model]
        ),
        ("variant", half),
        {
            "Rule": "`{row.variant}`",
            "Data sets": lambda group: half(group[0]),
            "Seeds": seeds,
            "false alarms": over_sets("false_alarms"),
            "highest of a set": over_sets("false_alarms", pick=max),
            "caught": over_sets("caught"),
            "1 wrong": over_sets("caught", "1 wrong"),
            "3 wrong": over_sets("caught", "3 wrong"),
        },
    )


def allowed_alarms() -> Table:
    """Show what the delivered rule catches and calls bad by the share of false alarms asked for, and the means."""

    def cell(subset: str) -> Cell:
        return lambda group: " / ".join(over_sets(metric, subset)(group) for metric in ("caught", "false_alarms"))

    return Table(
        lambda row: row.protocol == "held_out" and row.variant == "delivered" and row.steps == OWN_STEPS[row.model],
        (),
        {
            "caught / called bad, %": category_or_mean,
            "Seeds": seeds,
            **{f"{100 * share:g} % allowed": cell(allowed(share)) for share in ALLOWED},
        },
        more=lambda group: [*sorted(groups_by(group, "category"), key=lambda own: own[0].category), group],
    )


def pixel_levels() -> Table:
    """Compare thresholds of pixels by the F1 of marked pixels."""
    return Table(
        lambda row: row.metric == "pixel_F1" and row.variant in PIXEL_LEVELS and row.steps == OWN_STEPS[row.model],
        ("variant", half),
        {
            "Level": "`{row.variant}`",
            "Data sets": lambda group: half(group[0]),
            "Seeds": seeds,
            "pixel F1": over_sets("pixel_F1"),
        },
    )


def in_8_bits() -> Table:
    """Compare f32 and exports in 8 bits at thresholds of their own, by data set."""

    def both(metric: str) -> Cell:
        def cell(group: Group) -> str:
            rows = [row for row in group if row.metric == metric and row.subset == "all"]
            in_8 = [row for row in rows if row.precision == INT8]
            texts = [mean(metric)(kind) for kind in ([row for row in rows if row.precision != INT8], in_8)]
            return "/".join(texts) if all(texts) else ""

        return cell

    names = {"image_AUROC": "image AUROC", "AUPRO": "AUPRO", "caught": "caught", "false_alarms": "false alarms"}
    return Table(
        lambda row: row.protocol == "held_out" and row.variant == "default" and row.metric in names,
        ("model", "data"),
        {
            "f32 / 8 bits": "{row.model}, {row.category}",
            "Steps x batch": steps,
            "Seeds": seeds,
            **{title: both(metric) for metric, title in names.items()},
        },
        order=lambda group: (group[0].model, group[0].data),
    )


def depth_study(name: str, protocol: str) -> Table:
    """Compare variants of Mmrd on the real scans: a line per variant and defect type, a column per metric."""
    return Table(
        lambda row: (row.model, row.data, row.protocol) == ("Mmrd", SCANS, protocol) and row.precision != INT8,
        ("subset",),
        {
            "Defects": "{row.subset}",
            "Steps x batch": steps,
            "Seeds": seeds,
            **{title: mean(metric) for metric, title in {**METRICS, "recall": "recall"}.items()},
        },
        answers=STUDIES["Mmrd"][name],
        title="Mmrd",
    )


def both(group: Group) -> str:
    """Write image AUROC and AUPRO over the data sets of a line."""
    return " / ".join(filter(None, (over_sets(metric)(group) for metric in SHORT)))


def compared(title: str, cells: Mapping[str, tuple[str, Sequence[str]]], form: Callable[[float], str]) -> Table:
    """Show what ``compare`` found, a line per category, and the mean of models that ran on all of them.

    Args:
        title: Of the first column.
        cells: Title of each other column to model and metrics.
        form: Writes a figure.
    """

    def of_model(model: str, metrics: Sequence[str]) -> Cell:
        def cell(group: Group) -> str:
            own = [[row.value for row in group if (row.model, row.metric) == (model, metric)] for metric in metrics]
            complete = all(len(values) == len({row.category for row in group}) for values in own)
            return " / ".join(form(statistics.fmean(values)) for values in own) if complete else ""

        return cell

    return Table(
        lambda row: row.protocol == COMPARE,
        (),
        {
            title: category_or_mean,
            **{name: of_model(*cell) for name, cell in cells.items()},
        },
        more=lambda group: [*groups_by(group, "category"), group],
    )


def few_pictures() -> Table:
    """Compare the recommended model with PatchCore after training on some of the good images: means over data sets."""

    def compared(kind: tuple[str, str, int]) -> Cell:
        def cell(group: Group) -> str:
            return both(group) if {row.data for row in group} == {*FEW} else ""

        return of(lambda row: trained_as(row) == kind, cell)

    def of_whole_seeds(group: Group) -> Iterable[Group]:
        sets = {seed: {(row.data, trained_as(row)) for row in group if row.seed == seed} for seed in (0, 1)}
        usual = {(data, kind) for data in FEW for kind in COMPARED.values() if kind != TENTH}
        yield [row for row in group if usual <= sets.get(row.seed, set())] or list(group)

    return Table(
        lambda row: (
            (trained_as(row) in COMPARED.values() and row.data in FEW)
            and (row.weights, row.subset) == (RESNET18, "all")
            and (row.protocol == "user" or training_pictures(row.protocol) is not None)
            and row.precision != INT8
        ),
        ("protocol",),
        {
            "Good images": lambda group: str(training_pictures(group[0].protocol) or "all"),
            "Seeds": seeds,
            **{title: compared(kind) for title, kind in COMPARED.items()},
        },
        order=lambda group: training_pictures(group[0].protocol) or math.inf,
        more=of_whole_seeds,
    )


def trained_as(row: Row) -> tuple[str, str, int]:
    """Return model, variant and steps of a row."""
    return row.model, row.variant, row.steps


def on_sets(kinds: Mapping[str, tuple[str, str, int]], data: Sequence[str] = JOINT[TEN]) -> Table:
    """Compare models on the categories of photos.

    Means are over those with masks, with and without the circuit boards, of models that were tested on all of these.

    Args:
        kinds: Title to model, variant and steps.
        data: What they were trained on: each category alone, or all of them together.
    """
    shown = set(kinds.values())

    def lines(group: Group) -> Iterable[Group]:
        sets = groups_by(group, "category")
        masked = [rows for rows in sets if any(row.metric == "AUPRO" for row in rows)]
        others = [rows for rows in masked if rows[0].category != BOARDS]
        means = [[row for rows in some for row in rows] for some in (masked, others) if some]
        return [*sets, *(means if others != masked else means[:1])]

    def name(group: Group) -> str:
        sets = {row.category for row in group}
        return group[0].category if len(sets) == 1 else f"mean of {len(sets)}{'' if BOARDS in sets else ', no boards'}"

    def only(kind: tuple[str, str, int]) -> Cell:
        def cell(group: Group) -> str:
            own = [row for row in group if trained_as(row) == kind]
            return both(own) if {row.category for row in own} == {row.category for row in group} else ""

        return cell

    return Table(
        lambda row: (
            trained_as(row) in shown
            and (row.data in data and row.category != MEAN)
            and (row.protocol, row.subset) == ("user", "all")
            and row.weights == (VGG if row.model == "Mkd" else RESNET18)
            and row.precision != INT8
        ),
        (),
        {
            SHORT_TITLE: name,
            **{title: only(kind) for title, kind in kinds.items()},
        },
        more=lines,
    )


def joint() -> Table:
    """Compare one model for all categories with one per category, of equal or else any length; difference in points."""

    def lines(group: Group) -> Iterable[Group]:
        single = groups_by((row for row in group if not row.is_joint), "batch", "steps")
        shown_before: Group = ()
        for together in groups_by((row for row in group if row.is_joint), "batch", "steps"):
            each = [rows for rows in single if rows[0].key[1:] == together[0].key[1:]] or single
            yield together
            if len(each) == 1:
                yield from [] if each[0] is shown_before else each
                yield [*together, *each[0]]
                shown_before = each[0]

    def is_both(group: Group) -> bool:
        return len({row.is_joint for row in group}) == 2

    def difference(categories: Sequence[str]) -> Cell:
        def cell(group: Group) -> str:
            sides = [[row for row in group if row.is_joint is is_joint] for is_joint in (True, False)]
            means = [[over_seeds(side, metric, categories) for side in sides] for metric in SHORT]
            if not all(all(found) for found in means):
                return ""
            points = (100 * (statistics.fmean(ours) - statistics.fmean(theirs)) for ours, theirs in means)
            return " / ".join(f"{round(value, 1) + 0.0:+.1f}" for value in points)  # +0.0 where it is -0.0

        return cell

    compared: dict[str, Cell] = {"Teacher": teacher, "Trained on": lambda _: "difference"}
    compared |= {name: difference(categories) for name, categories in COLUMNS.items()}

    def nothing(_: Group) -> str:
        return ""

    def either(name: str, cell: Cell) -> Cell:
        instead = compared.get(name, nothing)
        return lambda group: instead(group) if is_both(group) else cell(group)

    shown = {"default", *USUAL.values()}
    return Table(
        lambda row: is_full_test(row) and row.variant in shown,
        ("model", "variant", "weights"),
        {
            SHORT_TITLE: "{row.model}, {row.variant}",
            **{name: either(name, cell) for name, cell in {**RUN, **scores(SHORT, COLUMNS)}.items()},
        },
        more=lines,
    )


def defects() -> Table:
    """Show image AUROC by kind of defect: single-category models and PatchCore, each with its default length."""
    default, whole = WIDTHS["0.5, the default"], WIDTHS["1"]
    shown = {
        **{model: [(model, name) for name in default] for model in NARROWED},
        f"{NARROWED[0]}, width 1": [(NARROWED[0], name) for name in whole],
        "Patchcore": [("Patchcore", USUAL["Patchcore"])],
    }
    known = {of_model for several in shown.values() for of_model in several}

    def column(several: list[tuple[str, str]]) -> Cell:
        return of(lambda row: (row.model, row.variant) in several, mean("image_AUROC"))

    return Table(
        lambda row: (
            (row.model, row.variant) in known
            and is_single(row)
            and row.metric == "image_AUROC"
            and row.category in MISSED
        ),
        ("category", "subset"),
        {
            "Category": "{row.category}",
            "Defects": lambda group: "all of them" if group[0].subset == "all" else group[0].subset,
            **{name: column(several) for name, several in shown.items()},
        },
        order=lambda group: CATEGORIES.index(group[0].category),
    )


def price(machine: str) -> Table:
    """Show gain and cost of a wider student: accuracy, seconds of training and milliseconds, all on one machine.

    The graphs of all narrowed models have the same parts, so the last model's times stand for all.
    """

    def lines(group: Group) -> Iterable[Group]:
        timed = [row for row in group if row.protocol == "speed" and row.model == NARROWED[-1]]
        return ([*of_model, *timed] for of_model in groups_by(filter(is_full_test, group), "model"))

    def trained(cell: Cell, *, is_joint: bool) -> Cell:
        return of(lambda row: is_full_test(row) and row.is_joint is is_joint, cell)

    return Table(
        lambda row: row.machine.endswith(machine) and (row.protocol == "speed" or row.steps == OWN_STEPS["Dcam"]),
        (),
        {
            "Model": "{row.model}",
            f"{SHORT_TITLE}: each": trained(score(SHORT, CATEGORIES), is_joint=False),
            "training, s": trained(seconds, is_joint=False),
            f"{SHORT_TITLE}: all four": trained(score(SHORT, CATEGORIES), is_joint=True),
            "training of all four, s": trained(seconds, is_joint=True),
            "ms in f32": of(lambda row: row.precision == "f32", milliseconds),
            "ms in 8 bits": of(lambda row: row.precision == INT8, milliseconds),
        },
        answers={width: [*names, *(f"{name}+bf16" for name in names)] for width, names in WIDTHS.items()},
        title="Width of the student",
        more=lines,
    )


class Outcomes(Table):
    """Table of checks, with a column per model and the reasons below."""

    def markdown(self, rows: Iterable[Row]) -> str:
        """Render the last outcome of each check and model."""
        last = {(row.metric, row.model): row for row in rows if self.where(row)}
        reasons = [*dict.fromkeys(row.subset for row in last.values() if row.value != 1)]

        def mark(model: str) -> Cell:
            def cell(group: Group) -> str:
                row = next((row for row in group if row.model == model), None)
                if row is None or row.value == 1:
                    return "passed" if row else ""
                return f"{'failed' if row.value == 0 else 'skipped'} ({reasons.index(row.subset) + 1})"

            return cell

        models = [name for name in CHECKED if any(model == name for _, model in last)]
        cells = {"Check": lambda group: group[0].metric.replace("_", " "), **{name: mark(name) for name in models}}
        table = Table(self.where, self.by, cells).markdown(last.values())
        return "\n".join([table, *([""] if reasons else []), *(f"{n}. `{text}`" for n, text in enumerate(reasons, 1))])


FILES = {"MixedDistillation": "mixed_distillation", "Dcam": "dcam"}
TABLES: dict[str, Table] = {
    "defects": defects(),
    "quickstart": Table(
        lambda row: (row.weights, row.data, row.protocol, row.model) == ("quickstart", DATA[0], "user", "Mkd"),
        (),
        {"Seeds": seeds, **{title: score([metric], CATEGORIES[:1]) for metric, title in METRICS.items()}},
        answers={
            "distilled from ResNet-18": ["map345+absolute"],
            "random weights": ["random_teacher+map345+absolute"],
        },
        title="Embedded teacher",
    ),
    "stability": stability("Mkd"),
    "joint": joint(),
    "every-model": on_sets(EVERY),
    "verdicts": compared(
        "caught / called bad, %",
        {
            "MixedDistillation": ("MixedDistillation", VERDICTS),
            "in 8 bits": ("MixedDistillation", INT8_VERDICTS),
            "fast": ("MixedDistillation fast", VERDICTS),
            "fast, in 8 bits": ("MixedDistillation fast", INT8_VERDICTS),
            "PatchCore 1 %": ("Patchcore", VERDICTS),
            "PatchCore in 8 bits": ("Patchcore", INT8_VERDICTS),
        },
        lambda value: f"{100 * value:.1f}",
    ),
    "training": compared(
        "training, s",
        {
            "Good images": ("MixedDistillation", ["pictures"]),
            "MixedDistillation": ("MixedDistillation", ["training_seconds"]),
            "fast": ("MixedDistillation fast", ["training_seconds"]),
            "PatchCore 1 %": ("Patchcore", ["training_seconds"]),
        },
        lambda value: f"{value:.0f}",
    ),
    "paths": on_sets(
        {"both paths, the default": EVERY["MixedDistillation"], "none": ("MixedDistillation", "none", 300)}
    ),
    "gates": on_sets({"gate": ("Dcam", "default", TEN_STEPS), "none": ("Dcam", "no_gate", TEN_STEPS)}, (TEN,)),
    "few-pictures": few_pictures(),
    **{f"{name}-{FILES[model]}": study(model, answers) for model in FILES for name, answers in STUDIES[model].items()},
    **{f"options-{model.lower()}": options(model) for model in OPTIONS},
    "thresholds": threshold_rules(),
    "allowed": allowed_alarms(),
    "pixel-levels": pixel_levels(),
    "verdicts-8-bits": in_8_bits(),
    "branches-rgbd": depth_study("branches", "user"),
    "speed": Table(
        lambda row: (
            row.protocol == "speed"
            and row.variant in {"alone", "default", "size144", "bottle"}  # widths have a table of their own
        ),
        ("model", "variant", "precision"),
        {
            "Graph": "{row.model}, {row.variant}",
            "Precision": "{row.precision}",
            "MB": median("megabytes", ".1f"),
            **{title: of(is_on(*of_machine), latency) for title, of_machine in PROCESSORS.items()},
        },
    ),
    "deployment": Table(
        lambda row: row.protocol == "deployment",
        ("run_id", "model", "precision", "machine"),
        {
            "Export": "{row.model}, {row.precision}",
            "ms per image": milliseconds,
            "quartiles apart": median("latency_spread", ".1f", 1000),
            "images per second": median("pictures_per_second", ".0f"),
            "s to the first verdict": median("first_verdict_seconds", ".1f"),
            "with a model cache": median("cached_first_verdict_seconds", ".1f"),
            "MB in memory": median("peak_memory_megabytes", ".0f"),
            "MB of the export": median("megabytes", ".1f"),
            "MB of the environment": median("environment_megabytes", ".0f"),
            "Machine": lambda group: group[0].machine.partition(";")[0],
        },
    ),
    "battery": Outcomes(lambda row: row.protocol == BATTERY, ("metric",), {}),
    "price": price("AMX-INT8"),
    "short_runs": Table(
        lambda row: row.metric == "collapsed",
        ("model", "variant", "weights", "category", "batch", "steps"),
        {
            "Model, variant": "{row.model}, {row.variant}",
            "Teacher": teacher,
            "Category": "{row.category}",
            "Steps x batch": steps,
            "Seeds": seeds,
            "Collapsed": lambda group: f"{sum(row.value for row in group):.0f}",
        },
    ),
    "paper": Table(
        lambda row: row.protocol == QUOTED or is_long_mkd(row),
        ("model",),
        {
            "Category (MVTec AD)": lambda group: (
                "mean of all 15" if len({row.category for row in group}) > 1 else group[0].category
            ),
            **{
                f"{metric.replace('_', ' ')}, {of_whom}": of(where, quoted(metric))
                for metric in ("image_AUROC", "pixel_AUROC")
                for of_whom, where in {"quoted": lambda row: row.protocol == QUOTED, "ours": is_long_mkd}.items()
            },
        },
        more=lambda group: [
            *(own for own in groups_by(group, "category") if own[0].data in {"mvtec/bottle", "mvtec/screw"}),
            [row for row in group if row.protocol == QUOTED],
        ],
    ),
}
"""Every table by the name that a document uses."""


def find_table(name: str) -> Table:
    """Return the table of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in TABLES:
        msg = f"Expected a table among {', '.join(TABLES)}, got {name!r}. Use one of these names."
        raise ValueError(msg)
    return TABLES[name]


def render(document: str, rows: Sequence[Row]) -> str:
    """Return a document with its tables brought up to date.

    Args:
        document: Markdown.
        rows: Result rows.

    Raises:
        ValueError: If a marker names no table, or has no end.
    """

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{find_table(match['name']).markdown(rows)}\n\n{match[3]}"

    new, count = MARKED.subn(replace, document)
    starts = len(re.findall(r"^<!-- table:", document, re.MULTILINE))
    if count != starts:
        msg = f"Expected {starts} tables to end with '<!-- /table -->', got {count}. Add the missing line."
        raise ValueError(msg)
    return new


def update(root: Path, rows: Sequence[Row], *, check: bool = False) -> list[Path]:
    """Bring the tables of README.md and of all pages below docs/ up to date.

    Args:
        root: Root of the repository.
        rows: Result rows.
        check: Whether to write nothing.

    Returns:
        The documents that differed.
    """
    changed = []
    for path in documents(root):
        document = path.read_text(encoding="utf-8")
        new = render(document, rows)
        if new != document:
            changed.append(path)
            if not check:
                with whole(path) as unfinished:
                    unfinished.write_text(new, encoding="utf-8")
    return changed


def documents(root: Path) -> list[Path]:
    """List the documents below a folder that may hold tables."""
    return [path for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if path.exists()]
