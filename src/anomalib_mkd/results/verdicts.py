# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What predictions mean on the factory floor: defective parts that are caught, and good parts that are called bad."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text
from rich.table import Table

from anomalib_mkd.results.predictions import word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomalib_mkd.results.predictions import Prediction

LISTED = 20
"""Most rows of the table that a prediction prints; ``predictions.csv`` has all of them."""
FEW_KINDS = 10
"""So many kinds of defect are always listed, however few parts each has."""


class Group(NamedTuple):
    """Parts that are counted together.

    Attributes:
        category: Of a datamodule with several; else empty.
        kind: Kind of defect, or folder of the good parts; see :func:`with_kinds`.
        defective: Whether these parts are.
    """

    category: str
    kind: str
    defective: bool


class Counts(NamedTuple):
    """How many parts a group has.

    Attributes:
        called_bad: Those that the model calls bad.
        parts: All of them.
    """

    called_bad: int
    parts: int


def with_kinds(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Name the kinds of a category ``good`` and ``bad`` if its folders are none.

    Some data sets have a folder for each part, as Kolektor's, not for each kind of defect. A category's folders are
    taken for that if its bad parts lie in more than :data:`FEW_KINDS`, and in more than half as many as they are.
    """
    bad = defaultdict(list)
    for row in predictions:
        if row.truth:
            bad[row.category].append(row.kind)
    none = {category for category, kinds in bad.items() if len({*kinds}) > max(FEW_KINDS, len(kinds) / 2)}
    return [row._replace(kind=word(row.truth)) if row.category in none else row for row in predictions]


def counts(predictions: Sequence[Prediction]) -> dict[Group, Counts]:
    """Count the parts whose truth is known and whose score has a threshold, by category and kind.

    Returns:
        Groups in the order of category, good parts before bad ones, and kind.
    """
    known = [row for row in with_kinds(predictions) if row.truth is not None and row.bad is not None]
    parts = Counter(Group(row.category, row.kind, bool(row.truth)) for row in known)
    called_bad = Counter(Group(row.category, row.kind, bool(row.truth)) for row in known if row.bad)
    groups = sorted(parts, key=lambda group: (group.category, group.defective, group.kind))
    return {group: Counts(called_bad[group], parts[group]) for group in groups}


def total(groups: Mapping[Group, Counts], defective: bool, category: str | None = None) -> Counts:
    """Add up the groups of good or of bad parts, of all categories or of one."""
    chosen = [n for group, n in groups.items() if group.defective is defective and category in {None, group.category}]
    return Counts(sum(n.called_bad for n in chosen), sum(n.parts for n in chosen))


class Alternative(NamedTuple):
    """What another threshold would do to the same parts.

    Attributes:
        false_alarms: Share of false alarms that sets it.
        threshold: In the unit of the scores.
        bad: Counts of the bad parts.
        good: Counts of the good parts.
    """

    false_alarms: float
    threshold: float
    bad: Counts
    good: Counts


def alternatives(predictions: Sequence[Prediction], thresholds: Mapping[float, float]) -> list[Alternative]:
    """Count what other thresholds would call bad.

    Args:
        predictions: With scores on one scale.
        thresholds: Share of false alarms to the threshold that it sets.

    Returns:
        One for each, in their order; none unless the truth says of some parts that they are bad, and of some good.
    """
    scores = {truth: [row.score for row in predictions if row.truth is truth] for truth in (True, False)}
    if not all(scores.values()):
        return []

    def counted(truth: bool, threshold: float) -> Counts:
        return Counts(sum(not score <= threshold for score in scores[truth]), len(scores[truth]))  # NaN is bad

    return [Alternative(share, at, counted(True, at), counted(False, at)) for share, at in thresholds.items()]


def sentence(predictions: Sequence[Prediction]) -> str:
    """Sum up all parts.

    Returns:
        For example ``"22 of 24 bad parts caught, 0 of 12 good parts called bad"``, or only one of both if there are no
        good or no bad parts; without truth ``"3 of 36 parts called bad"``.
    """
    if not any(row.bad is not None for row in predictions):
        return "No threshold, so no verdicts: no validation has set one."
    groups = counts(predictions)
    if not groups:
        return f"{sum(bool(row.bad) for row in predictions)} of {len(predictions)} parts called bad"
    (caught, bad), (alarms, good) = (total(groups, defective=defective) for defective in (True, False))
    of_bad, of_good = f"{caught} of {bad} bad parts caught", f"{alarms} of {good} good parts called bad"
    return ", ".join([of_bad] * bool(bad) + [of_good] * bool(good))


def group_table(predictions: Sequence[Prediction]) -> Table | None:
    """Lay out the counts per category and kind; ``None`` if the sentence says all of it."""
    groups = counts(predictions)
    if len(groups) <= 1 + any(not group.defective for group in groups):
        return None
    several = any(group.category for group in groups)
    table = Table(title="Parts called bad")
    for name in ("category", "kind", "called bad", "of")[not several :]:
        table.add_column(name, justify="right" if name in {"called bad", "of"} else "left")
    for group, count in groups.items():
        cells = (Text(group.category), Text(group.kind), str(count.called_bad), str(count.parts))
        table.add_row(*cells[not several :])
    return table


def prediction_table(predictions: Sequence[Prediction]) -> Table:
    """List files, scores and verdicts, the highest scores first and those that are not finite before them.

    Returns:
        A table of at most :data:`LISTED` rows, whose title says how many there are.
    """
    ranked = sorted(predictions, key=lambda row: -row.score if math.isfinite(row.score) else -math.inf)
    shown = ranked[:LISTED]
    many = len(ranked) > len(shown)
    table = Table(title=f"The {len(shown)} highest of {len(ranked)} scores" if many else "Predictions")
    table.add_column("file", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("verdict")
    names = short_names([row.file for row in shown])
    for name, row in zip(names, shown, strict=True):
        table.add_row(Text(name), f"{row.score:.3f}", word(row.bad))
    return table


def short_names(files: Sequence[str]) -> list[str]:
    """Leave out the folder that all files share.

    Example:
        >>> short_names(["parts/test/good/1.png", "parts/test/dent/1.png"]), short_names(["parts/1.png"])
        (['good/1.png', 'dent/1.png'], ['1.png'])
    """
    paths = [Path(file).absolute() for file in files]  # some may be relative, others not
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [str(path.relative_to(shared)) for path in paths]
