# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The files of a comparison: ``compare.html``, ``compare.csv`` and ``compare.md``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from anomalib_mkd.compare import timing
from anomalib_mkd.compare.exports import exports_of
from anomalib_mkd.compare.plots import Point, below, trade_off
from anomalib_mkd.compare.recipes import RECIPES
from anomalib_mkd.compare.recommend import INT8, Export, Wish, pick, recommend, warnings
from anomalib_mkd.compare.rows import table_csv, table_md, tables
from anomalib_mkd.compare.runs import PAGE, TABLE, TEXT
from anomalib_mkd.files import whole
from anomalib_mkd.results.report.page import Plot, environment
from anomalib_mkd.threads import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from anomalib_mkd.compare.rows import Row


@dataclass(frozen=True)
class Comparison:
    """Circumstances of a comparison.

    Attributes:
        data: Name of the data.
        command: That repeats it.
        date: When it ended.
        wish: By which a model is recommended.
        budget: In words.
        seed: Of the trainings.
        machine: Processor, cores and features.
        versions: By package.
        remarks: What to know about all figures, a sentence each.
        validates_on_test: Whether test images set thresholds.
    """

    data: str
    command: str
    date: datetime
    wish: Wish
    budget: str
    seed: int
    machine: str
    versions: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    validates_on_test: bool = False


MEASURED = """\
All models learn from the same good images, and are tested on the same others.{labels}

anomalib's models have the backbone that this package's default has, ResNet-18 with the same ImageNet weights, so that
methods are compared and not backbones. Larger ones find more, and take longer.

Image AUROC and AUPRO (up to 30 % false alarms) are anomalib's, on raw scores and maps; of several categories, the mean.
Caught and called bad: by the threshold that each model delivers, from the validation images of the data.

Training: until the threshold is set, on the CPU. Peak memory: of the process of that model, until then.

One image: of the model's own size, by OpenVINO with {threads} thread; median of {rounds} turns \N{PLUS-MINUS SIGN}
interquartile range. All models take turns, so that other work on the computer slows all of them. Reading and shrinking
a file are not part of it.

Images per second: {burst} at a time on {cores} {noun}, median of {bursts} turns.

First verdict: from the start of a process with OpenVINO, NumPy and Pillow alone, on an image of 256 x 256 pixels;
median of {starts} starts.

Size: all files of the export. 8 bits: by INT8_PTQ, anomalib's for its models and this package's own for its. Image
AUROC there is that of the export's scores, before anomalib clips them at 0 and 1; caught and called bad, by the
threshold in the export."""
"""How the figures come about, a paragraph each."""


def measured(*, validates_on_test: bool) -> list[str]:
    """Say how the figures come about, a sentence or two each."""
    labels = "" if validates_on_test else " No test label chooses anything but the model to recommend."
    cores = allowed_cores()
    text = MEASURED.format(
        labels=labels,
        threads=timing.THREADS,
        rounds=timing.ROUNDS,
        burst=timing.BURST,
        bursts=timing.BURSTS,
        cores=cores,
        noun="core" if cores == 1 else "cores",
        starts=timing.STARTS,
    )
    return [" ".join(each.split()) for each in text.split("\n\n")]


def write_files(folder: Path, rows: Sequence[Row], run: Comparison) -> None:
    """Write the three files, each whole or not at all.

    Args:
        folder: Where they go.
        rows: Of all models.
        run: The circumstances.
    """
    sentences = {wish: recommend(rows, wish) for wish in get_args(Wish)}
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    picked = {wish: pick(rows, wish) for wish in sentences}
    failed = [row for row in rows if row.reason]
    chosen = picked[run.wish]
    same = [wish for wish, export in picked.items() if export == chosen]
    exports = "" if chosen is None else ready(chosen.row, folder, folder)
    about = [
        *run.remarks,
        f"Data: {run.data}. Seed: {run.seed}. Budget: {run.budget}.",
        f"Machine: {run.machine}.",
        f"Versions: {versions}.",
        *measured(validates_on_test=run.validates_on_test),
    ]
    html = (
        environment("anomalib_mkd.compare")
        .get_template("compare.html")
        .render(
            run=run,
            rows=[row for row in rows if not row.reason],
            failed=failed,
            sentence=sentences[run.wish],
            ready=exports,
            others={wish: sentences[wish] for wish in picked if wish not in same},
            same=[wish for wish in same if wish != run.wish and chosen is not None],
            plots=_plots(rows),
            tables=tables(rows),
            recipes=RECIPES,
            measured=measured(validates_on_test=run.validates_on_test),
        )
    )
    contents = {
        PAGE: html,
        TABLE: table_csv(rows),
        TEXT: table_md(rows, "\n\n".join(filter(None, [sentences[run.wish], exports])), about),
    }
    for name, text in contents.items():
        with whole(folder / name) as unfinished:
            unfinished.write_bytes(text.encode("utf-8", "backslashreplace"))  # names of files need not be Unicode


def ready(row: Row, output: Path, shown_from: Path | None = None) -> str:
    """Warn of what a model is unfit for, and name its exports and what they take: a fixed size, for the timing.

    Args:
        row: Of the model.
        output: Folder for results.
        shown_from: Folder to which the text is relative.

    Returns:
        Sentences; empty if there is nothing to say.
    """
    homes = [path.parent for path in exports_of(output, [row]).values() if path.is_file()]
    places = [(home.relative_to(shown_from) if shown_from else home).as_posix() for home in homes]
    exports = [f"Its exports, for images resized to its input: {' and '.join(places)}"] if places else []
    return " ".join([*warnings(row), *exports])


def _plots(rows: Sequence[Row]) -> list[Plot]:
    """Draw what there are figures for."""
    drawn = []
    for title, label, factor, cost in (
        ("Accuracy and latency", f"one image, ms, {timing.THREADS} thread", 1000, "latency"),
        ("Accuracy and size", "size of the export, MB", 1, "megabytes"),
    ):
        points = [point for row in rows if (point := _point(row, cost, factor)) is not None]
        if points:
            caption = " ".join(
                [
                    "Up and to the left is better. Filled: f32. Hollow, joined to it: the same model in 8 bits.",
                    *(
                        f"Not drawn: {point.name} in 8 bits, far below at {point.int8[1]:.1f} %."
                        for point in below(points)
                        if point.int8 is not None
                    ),
                ]
            )
            drawn.append(Plot(title, trade_off(points, label), caption))
    return drawn


def _point(row: Row, cost: str, factor: float) -> Point | None:
    """Place a model; ``None`` if it was not measured."""
    places = [
        (factor * value, 100 * accuracy) if value is not None and accuracy is not None else None
        for value, accuracy in ((export.value(cost), export.image_auroc) for export in (Export(row), Export(row, INT8)))
    ]
    return None if places[0] is None else Point(row.model, places[0], places[1])
