# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A comparison from the check of the folder to the page."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from anomalib_mkd.check.configuration import configuration
from anomalib_mkd.check.folder import check_folder
from anomalib_mkd.check.options import check_output, check_weights
from anomalib_mkd.check.words import shown
from anomalib_mkd.compare.budget import Budget, seconds
from anomalib_mkd.compare.exports import time_all
from anomalib_mkd.compare.recipes import FAST, choose, is_extra
from anomalib_mkd.compare.recommend import pick, recommend, warnings
from anomalib_mkd.compare.rows import tables
from anomalib_mkd.compare.runs import PAGE, TABLE, TEXT, examine
from anomalib_mkd.compare.trainings import train_all, versions
from anomalib_mkd.files import whole
from anomalib_mkd.results.machine import machine
from anomalib_mkd.terminal.bar import say
from anomalib_mkd.terminal.output import plain_console

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from anomalib_mkd.compare.rows import Row

TEST_LABELS = """\
The thresholds come from test images and their labels: on new parts, more bad ones may be missed or good ones called \
bad. Set val_split_mode: from_train in the configuration."""
"""Remark on such data."""


def compare(options: argparse.Namespace, command: str) -> int:
    """Run a comparison.

    Args:
        options: The parsed arguments.
        command: As it was typed, for the page.

    Returns:
        The exit code.

    Raises:
        OSError: If a folder cannot be read or written.
        ValueError: If an argument or the data are wrong.
    """
    if options.folder is None and options.data is None and options.models and Path(options.models[-1]).is_dir():
        msg = (
            f"Expected FOLDER before --models, got '{shown(options.models[-1])}' among the models. Put it first: "
            "compare FOLDER --models ..."
        )
        raise ValueError(msg)
    if not 0 <= options.seed < 2**32:
        msg = f"Expected a seed from 0 to 4294967295, got {options.seed}. Set --seed to one of them."
        raise ValueError(msg)
    if (options.folder is None) == (options.data is None):
        msg = "Expected either FOLDER or --data FILE, got both or none. Name one of them."
        raise ValueError(msg)
    models = None if options.models is None else choose(options.models)
    total = seconds(options.budget)
    check_weights(options.weights)
    check_output(options.output, options.folder)
    data, depth = prepare(options)
    contents = examine(data, options.output)
    fast = [FAST] if options.prefer == "speed" and not depth else []
    recipes = models or choose(["Mmrd" if depth else "MixedDistillation", *fast, "Patchcore", "Padim"])
    budget = Budget(total, sum(not is_extra(recipe) for recipe in recipes) or 1)
    rows = train_all(options, data, contents.files, recipes, budget)
    return finish(options, command, rows, validates_on_test=contents.validates_on_test)


def prepare(options: argparse.Namespace) -> tuple[Path, bool]:
    """Check the folder, and write the configuration that trains on it.

    Returns:
        The configuration, and whether there is depth.

    Raises:
        OSError: If the folder does not exist.
        ValueError: If it cannot be trained on.
    """
    if options.folder is None:
        if not options.data.is_file():
            msg = f"Expected a configuration as --data, got '{shown(options.data)}', which is no file. Name one."
            raise ValueError(msg)
        return options.data, "DepthFolder" in options.data.read_text(encoding="utf-8", errors="replace")
    try:
        check = check_folder(options.folder.resolve())
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    for warning in check.require():
        say(f"Warning: {warning}")
    layout = check.layout
    if not (layout.images("bad") and layout.images("test", "train")):
        msg = (
            f"Expected bad parts to test on in '{shown(options.folder)}', got none. Put some into test/<defect>; "
            "'python -m anomalib_mkd check' says what is there."
        )
        raise ValueError(msg)
    file: Path = options.output / "data.yaml"
    with whole(file) as unfinished:
        unfinished.write_text(str(configuration(layout)), encoding="utf-8")
    return file, layout.kind == "depth"


def finish(options: argparse.Namespace, command: str, rows: list[Row], *, validates_on_test: bool) -> int:
    """Time the exports in turns, write the files, and print what was found."""
    trained = [row for row in rows if not row.reason]
    remarks: list[str] = []
    if trained:
        say(f"Timing {len(trained)} models in turns.")
        rows, remarks = time_all(options.output, rows)
    if validates_on_test:
        remarks.append(TEST_LABELS)
    say("Writing the page.")
    from anomalib_mkd.compare.page import Comparison, ready, write_files  # noqa: PLC0415  # torch: slow

    run = Comparison(
        data=(options.folder or options.data).resolve().name,
        command=command,
        date=datetime.now().astimezone(),
        wish=options.prefer,
        budget=options.budget,
        seed=options.seed,
        machine=machine(),
        versions=versions(),
        remarks=remarks,
        validates_on_test=validates_on_test,
    )
    write_files(options.output, rows, run)
    chosen = pick(rows, options.prefer)
    show(rows, None if chosen is None else chosen.row)
    for remark in remarks:
        say(f"\n{remark}")
    say(f"\n{recommend(rows, options.prefer)}")
    say("" if chosen is None else f"{ready(chosen.row, options.output)}\n")
    for name in (PAGE, TABLE, TEXT):
        say(f"  {shown(options.output / name)}")
    return 0 if trained else 1


def show(rows: Sequence[Row], chosen: Row | None) -> None:
    """Print the tables, why a model has no figures, and the warnings of all but the chosen one, which come with it."""
    console = plain_console(sys.stdout)
    for columns in tables(rows).values():
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("model", no_wrap=True)
        for column in columns:
            table.add_column(column.title, justify="right")
        for row in rows:
            if not row.reason:
                table.add_row(row.model, *(column.text(row) for column in columns))
        if table.row_count:
            console.print()
            console.print(table)
    for row in rows:
        for text in filter(None, (row.reason, *([] if row is chosen else warnings(row)))):
            console.print()
            console.print(Text(f"{row.model}: {text}"), soft_wrap=True)
