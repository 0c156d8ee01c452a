# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One sentence that names a model, by the user's own wish and a rule that the sentence states; and what to watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from anomalib_mkd.results.advice import LEAST_CAUGHT, MOST_ALARMS, SEPARATED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomalib_mkd.compare.rows import Row

Wish = Literal["accuracy", "speed", "size"]

NEAR = 0.01
"""Image AUROC that counts as equal: a point, less than another seed changes."""
ENOUGH = 0.05
"""Image AUROC that speed or size may cost."""
LEAST = 0.6
"""Image AUROC below which no model is recommended: chance has 0.5."""


def recommend(rows: Sequence[Row], wish: Wish) -> str:
    """Recommend a model.

    Args:
        rows: Of all models.
        wish: See :func:`pick`.

    Example:
        >>> from anomalib_mkd.compare.rows import Row
        >>> exact = Row("Exact", image_auroc=0.99, latency=0.04, megabytes=30.0)
        >>> swift = Row("Swift", image_auroc=0.985, latency=0.02, megabytes=20.0)
        >>> recommend([exact, swift], "accuracy")
        'Take Swift: the fastest of the models within one point of the best image AUROC (98.5 %, 20.0 ms per image).'
    """
    chosen = pick(rows, wish)
    if chosen is None:
        if tested := _tested(rows):
            best = 100 * max(row.image_auroc or 0 for row in tested)
            which = "no model" if len(tested) == len(rows) else "no model that finished"
            return f"No recommendation: {which} tells good parts from bad ones (best image AUROC {best:.1f} %)."
        if any(not row.reason for row in rows):
            return "No recommendation: without both good and bad test parts, no accuracy was measured."
        return "No recommendation: no model finished."
    points, superlative = (
        "one point" if wish == "accuracy" else "five points",
        "smallest" if wish == "size" else "fastest",
    )
    if len(rows) == 1:
        why = "no other model was compared"
    elif len(_tested(rows)) == 1:
        why = "no other model finished"
    elif len(_near(rows, wish)) == 1:
        why = f"no other model is within {points} of its image AUROC"
    elif _price(chosen, wish) is None:
        why = "it has the best image AUROC, and no export was timed"
    else:
        why = f"the {superlative} of the models within {points} of the best image AUROC"
    latency = "" if chosen.latency is None else f", {1000 * chosen.latency:.1f} ms per image"
    return f"Take {chosen.model}: {why} ({100 * (chosen.image_auroc or 0):.1f} %{latency})."


def pick(rows: Sequence[Row], wish: Wish) -> Row | None:
    """Choose a model by accuracy in f32, and among near ones by its price.

    Args:
        rows: Of all models.
        wish: ``accuracy``: the fastest among those within one point of the best image AUROC. ``speed`` and ``size``:
            the fastest or smallest among those within five points.

    Returns:
        Its row; ``None`` if no accuracy was measured, or none is better than about chance.
    """
    near = _near(rows, wish)
    priced = [row for row in near if _price(row, wish) is not None]
    if priced:
        return min(priced, key=lambda row: _price(row, wish) or 0)
    return max(near, key=lambda row: row.image_auroc or 0, default=None)


def caution(row: Row, *, ours: bool) -> list[str]:
    """Say if verdicts are of no use: bad parts missed by the threshold, not by the scores, or good parts called bad.

    Args:
        row: Its figures.
        ours: Whether it is one of this package's, whose threshold an argument moves.

    Returns:
        A text for each fault; none if there is no fault.

    Example:
        >>> from anomalib_mkd.compare.rows import Row
        >>> caution(Row("Strict", image_auroc=0.96, caught=13, bad=56), ours=False)[0]
        'Caught only 13 of 56 bad parts, although most score higher than good ones: its threshold is too high for them.'
    """
    found = []
    separated = row.image_auroc is not None and 100 * row.image_auroc >= SEPARATED
    if row.caught is not None and row.bad and row.caught < LEAST_CAUGHT * row.bad and separated:
        text = (
            f"Caught only {row.caught} of {row.bad} bad parts, although most score higher than good ones: its "
            "threshold is too high for them."
        )
        remedy = " Allow more false alarms, with --model.false_alarms 0.05 for example." if ours else ""
        found.append(text + remedy)
    if row.false_alarms is not None and row.good and row.false_alarms > MOST_ALARMS * row.good:
        text = f"Called {row.false_alarms} of {row.good} good parts bad."
        found.append(f"{text} If all models do, these parts differ from those learnt.")
    return found


def warnings(row: Row) -> list[str]:
    """Return the notes on a model that say what it must not be used for, or that its verdicts are of no use.

    Args:
        row: Its notes, those of :func:`caution` included.
    """
    return [note for note in row.notes if note.startswith(("Not ", "Caught ", "Called "))]


def _tested(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.reason and row.image_auroc is not None]


def _near(rows: Sequence[Row], wish: Wish) -> list[Row]:
    tested = _tested(rows)
    best = max((row.image_auroc or 0 for row in tested), default=0)
    least = max(LEAST, best - (NEAR if wish == "accuracy" else ENOUGH)) - 1e-9  # rounding
    return [row for row in tested if (row.image_auroc or 0) >= least]


def _price(row: Row, wish: Wish) -> float | None:
    return row.megabytes if wish == "size" else row.latency
