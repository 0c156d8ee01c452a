# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The models one after another: which were finished before, what share of the time each gets, which does not fit."""

from __future__ import annotations

import dataclasses
import math
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_mkd.compare.budget import TRAINING, Budget
from anomalib_mkd.compare.recipes import MANY_TIMES, Recipe, is_extra
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.compare.runs import PAGE, TABLE, TEXT, Job, finished, folder_of, kept, key, run
from anomalib_mkd.terminal.bar import Bar, duration, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

PACKAGES = ("anomalib-mkd", "anomalib", "torch", "openvino", "nncf")
"""Packages whose versions the page names, and on which a result depends."""


def train_all(
    options: argparse.Namespace, data: Path, files: Sequence[Any], recipes: Sequence[Recipe], budget: Budget
) -> list[Row]:
    """Train, test and export each model, unless an earlier run has done so.

    Args:
        options: The parsed arguments.
        data: Configuration of the datamodule.
        files: Its files, as :func:`anomalib_mkd.compare.runs.examine` lists them.
        recipes: Their order is that of the rows.
        budget: What they share.

    Returns:
        A row for each.
    """
    jobs = {recipe.name: job_of(options, data, files, recipe, budget) for recipe in recipes}
    ended = {name for name, job in jobs.items() if kept(dataclasses.replace(job, seconds=math.inf)) is not None}
    waiting = [recipe for recipe in recipes if recipe.name not in ended]
    share = TRAINING * budget.share(sum(not is_extra(recipe) for recipe in waiting) or 1)
    done: dict[str, Row] = {}
    for name, job in jobs.items():
        row = kept(dataclasses.replace(job, seconds=share))
        if row is not None:
            done[name] = row
            say(f"{name}: finished before, kept.")
        elif finished(job) is not None:
            say(f"{name}: had too little time, trains again.")
        elif job.folder.exists():
            say(f"{name}: no finished result for these data and settings, starts again.")
    waiting = [recipe for recipe in recipes if recipe.name not in done]
    if waiting:  # an old page would point at the exports that are about to change
        for name in (PAGE, TABLE, TEXT):
            (options.output / name).unlink(missing_ok=True)
    bar = Bar("Comparing", budget.total, "% of the budget", about="at most") if waiting else None
    try:
        for number, recipe in enumerate(waiting):
            limit = budget.share(sum(not is_extra(each) for each in waiting[number:]) or 1)
            reason = no_time(recipe, done, TRAINING * limit)
            if reason:
                done[recipe.name] = Row(recipe.name, reason=reason)
                continue
            title = f"[{number + 1}/{len(waiting)}] {recipe.name}"

            def tick(phase: str, title: str = title) -> None:
                assert bar is not None  # noqa: S101  # for the type checker
                bar.update(min(budget.used, 0.999 * budget.total), phase, title)

            job = dataclasses.replace(jobs[recipe.name], seconds=TRAINING * limit)
            done[recipe.name] = run(job, limit, tick)
    finally:
        if bar is not None:
            bar.close()
    return [done[recipe.name] for recipe in recipes]


def no_time(recipe: Recipe, done: dict[str, Row], seconds: float) -> str:
    """Say why PatchCore's large selection does not run; empty for any other model, and if there is time for it.

    Args:
        recipe: The next one.
        done: Rows so far.
        seconds: Left for its training.
    """
    small = done.get("Patchcore")
    if not is_extra(recipe) or small is None:
        return ""
    if small.training_seconds is None or small.stopped:
        return "Not run: Patchcore with 1 % did not finish its training."
    needed = MANY_TIMES * small.training_seconds
    if needed <= seconds:
        return ""
    return (
        f"Not run: its training would take about {duration(needed)}, and the budget leaves {duration(seconds)}. Allow "
        "a longer --budget."
    )


def job_of(options: argparse.Namespace, data: Path, files: Sequence[Any], recipe: Recipe, budget: Budget) -> Job:
    """Describe the work on one model."""
    folder = folder_of(options.output, recipe.name)
    file = Path(options.weights)
    weights = (file.stat().st_size, file.stat().st_mtime_ns) if file.is_file() else None
    identity = key(
        data=data.read_text(encoding="utf-8"),
        files=files,
        recipe=dataclasses.asdict(recipe),
        weights=(options.weights, weights),
        seed=options.seed,
        versions=versions(),
    )
    return Job(recipe.name, folder, data, options.weights, options.seed, 0.0, identity, budget.total)


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    return {name: version(name) for name in PACKAGES}
