# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One sentence that names an export, by the user's own wish and a rule that the sentence states; and what to watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from anomalib_mkd.results.advice import LEAST_CAUGHT, MOST_ALARMS, SEPARATED, looser_threshold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomalib_mkd.compare.rows import Row
    from anomalib_mkd.results.verdicts import Alternative

Wish = Literal["accuracy", "verdicts", "speed", "size"]

NEAR = 0.01
"""Image AUROC that counts as equal: a point, less than another seed changes."""
ENOUGH = 0.05
"""Image AUROC that speed or size may cost, and verdicts that count as equal: one good part of twenty is no reason."""


class Rule(NamedTuple):
    """How a wish decides: among the exports near the best in one figure, the lowest in another wins.

    Attributes:
        figure: Property of :class:`Export`.
        name: Of that figure, in words.
        near: Largest distance from the best.
        price: Field of :class:`~anomalib_mkd.compare.rows.Row`, of :attr:`Export.prefix`.
    """

    figure: Literal["image_auroc", "verdicts"]
    name: str
    near: float
    price: Literal["latency", "megabytes"]


RULES: dict[Wish, Rule] = {
    "accuracy": Rule("image_auroc", "image AUROC", NEAR, "latency"),
    "verdicts": Rule("verdicts", "verdicts", ENOUGH, "latency"),
    "speed": Rule("image_auroc", "image AUROC", ENOUGH, "latency"),
    "size": Rule("image_auroc", "image AUROC", ENOUGH, "megabytes"),
}

LEAST = 0.6
"""Image AUROC below which no model is recommended: chance has 0.5."""
INT8 = "int8_"
"""Begins the names of the figures in 8 bits."""


class Export(NamedTuple):
    """A model in f32 or in 8 bits.

    Args:
        row: Its figures.
        prefix: Of the names of its figures: empty in f32, ``INT8`` in 8 bits.
    """

    row: Row
    prefix: str = ""

    @property
    def name(self) -> str:
        """As a sentence names it."""
        return f"{self.row.model} in 8 bits" if self.prefix else self.row.model

    @property
    def image_auroc(self) -> float | None:
        """Image AUROC, 0..1."""
        return self.row.int8_auroc if self.prefix else self.row.image_auroc

    @property
    def verdicts(self) -> float | None:
        """Share of the bad parts that are caught minus that of the good ones called bad, -1..1: Youden's index."""
        caught, alarms = self.value("caught"), self.value("false_alarms")
        if caught is None or alarms is None or not (self.row.bad and self.row.good):
            return None
        return float(caught / self.row.bad - alarms / self.row.good)

    def figure(self, wish: Wish) -> float | None:
        """Return the figure that a wish goes by."""
        value: float | None = getattr(self, RULES[wish].figure)
        return value

    def price(self, wish: Wish) -> float | None:
        """Return what decides between exports that are near in that figure."""
        value: float | None = self.value(RULES[wish].price)
        return value

    def said(self, wish: Wish) -> str:
        """Put the figure that a wish goes by into words."""
        if RULES[wish].figure == "image_auroc":
            return f"{100 * (self.image_auroc or 0):.1f} %"
        caught, alarms = self.value("caught"), self.value("false_alarms")
        return f"{caught} of {self.row.bad} bad parts caught, {alarms} of {self.row.good} good parts called bad"

    def value(self, field: str) -> Any:
        """Return a figure; ``None`` if it was not measured."""
        return getattr(self.row, f"{self.prefix}{field}")


def recommend(rows: Sequence[Row], wish: Wish) -> str:
    """Recommend an export.

    Args:
        rows: Of all models.
        wish: See :func:`pick`.

    Example:
        >>> from anomalib_mkd.compare.rows import Row
        >>> exact = Row("Exact", image_auroc=0.99, latency=0.04, megabytes=30.0)
        >>> swift = Row("Swift", image_auroc=0.985, latency=0.02, megabytes=20.0)
        >>> recommend([exact, swift], "accuracy")
        'Take Swift: the fastest of the exports within one point of the best image AUROC (98.5 %, 20.0 ms per image).'
    """
    chosen = pick(rows, wish)
    if chosen is None:
        if tested := _tested(rows):
            if any(_told(export) for export in tested):
                return "No recommendation: no model has a threshold whose verdicts are better than chance."
            best = 100 * max(export.image_auroc or 0 for export in tested)
            which = "no model" if len(_models(tested)) == len(rows) else "no model that finished"
            return f"No recommendation: {which} tells good parts from bad ones (best image AUROC {best:.1f} %)."
        if any(not row.reason for row in rows):
            return "No recommendation: without both good and bad test parts, no accuracy was measured."
        return "No recommendation: no model finished."
    rule = RULES[wish]
    points, superlative = (
        "one point" if rule.near == NEAR else "five points",
        "smallest" if wish == "size" else "fastest",
    )
    if len(rows) == 1:
        why = "no other model was compared"
    elif len(_models(_tested(rows))) == 1:
        why = "no other model finished"
    elif len(_models(_near(rows, wish))) == 1:
        why = f"no other model is within {points} of the best {rule.name}"
    elif chosen.price(wish) is None:
        why = f"it has the best {rule.name}, and no export was timed"
    else:
        why = f"the {superlative} of the exports within {points} of the best {rule.name}"
    latency, size = chosen.value("latency"), chosen.value("megabytes")
    costs = "" if latency is None else f", {1000 * latency:.1f} ms per image"
    costs += f", {size:.1f} MB" if wish == "size" and size is not None else ""
    return f"Take {chosen.name}: {why} ({chosen.said(wish)}{costs})."


def pick(rows: Sequence[Row], wish: Wish) -> Export | None:
    """Choose an export by accuracy, and among near ones by its price.

    Args:
        rows: Of all models.
        wish: ``accuracy``: the fastest among those within one point of the best image AUROC. ``verdicts``: the fastest
            within five points of the best share of bad parts caught minus that of good ones called bad. ``speed`` and
            ``size``: the fastest or smallest within five points of the best image AUROC. In 8 bits a model counts only
            if its verdicts are no worse: see :func:`caution`.

    Returns:
        The export; ``None`` if the figure was not measured, or none is better than about chance.
    """
    near = _near(rows, wish)
    priced = [(price, export) for export in near if (price := export.price(wish)) is not None]
    if priced:
        return min(priced, key=lambda pair: pair[0])[1]
    return max(near, key=lambda export: export.figure(wish) or 0, default=None)


def caution(row: Row, *, ours: bool, others: Sequence[Alternative] = ()) -> list[str]:
    """Say if verdicts are of no use: bad parts missed by the threshold, not by the scores, or good parts called bad.

    Args:
        row: Its figures.
        ours: Whether it is one of this package's, whose threshold an argument moves.
        others: What other thresholds would do in f32; none where each category has its own.

    Returns:
        A text for each fault, those of 8 bits only if they are not also those of f32; none if there is no fault.

    Example:
        >>> from anomalib_mkd.compare.rows import Row
        >>> caution(Row("Strict", image_auroc=0.96, caught=13, bad=56), ours=False)[0]
        'Caught only 13 of 56 bad parts, although most score higher than good ones: its threshold is too high for them.'
    """
    misses, alarms = _faults(Export(row))
    int8_misses, int8_alarms = _faults(Export(row, INT8))
    found = []
    if misses or int8_misses:
        caught, where = (row.caught, "") if misses else (row.int8_caught, " in 8 bits")
        text = (
            f"Caught only {caught} of {row.bad} bad parts{where}, although most score higher than good ones: its "
            "threshold is too high for them."
        )
        if ours:
            looser = looser_threshold(caught or 0, row.bad or 0, others if misses else ())
            text += f" Allow more false alarms: {looser or '--model.false_alarms'}."
        found.append(text)
    if alarms or int8_alarms:
        called, where = (row.false_alarms, "") if alarms else (row.int8_false_alarms, " in 8 bits")
        text = f"Called {called} of {row.good} good parts bad{where}."
        found.append(f"{text} If all models do, these parts differ from those learnt.")
    return found


def warnings(row: Row) -> list[str]:
    """Return the notes on a model that say what it must not be used for, or that its verdicts are of no use.

    Args:
        row: Its notes, those of :func:`caution` included.
    """
    return [note for note in row.notes if note.startswith(("Not ", "Caught ", "Called "))]


def _faults(export: Export) -> tuple[bool, bool]:
    """Return whether an export misses bad parts that its scores tell, and whether it calls many good ones bad."""
    row, caught, alarms = export.row, export.value("caught"), export.value("false_alarms")
    separated = export.image_auroc is not None and 100 * export.image_auroc >= SEPARATED
    misses = caught is not None and bool(row.bad) and caught < LEAST_CAUGHT * (row.bad or 0) and separated
    return misses, alarms is not None and bool(row.good) and alarms > MOST_ALARMS * (row.good or 0)


def _tested(rows: Sequence[Row]) -> list[Export]:
    """Return the exports whose accuracy is known, in 8 bits only if no fault is new there."""
    found = []
    for row in rows:
        exact, eight = Export(row), Export(row, INT8)
        new = any(now and not before for now, before in zip(_faults(eight), _faults(exact), strict=True))
        found += [exact, *([] if new else [eight])]
    return [export for export in found if not export.row.reason and export.image_auroc is not None]


def _models(exports: Sequence[Export]) -> set[str]:
    return {export.row.model for export in exports}


def _told(export: Export) -> bool:
    return (export.image_auroc or 0) >= LEAST


def _near(rows: Sequence[Row], wish: Wish) -> list[Export]:
    able = [(value, export) for export in _tested(rows) if _told(export) and (value := export.figure(wish) or 0) > 0]
    best = max((value for value, _ in able), default=0)
    return [export for value, export in able if value >= best - RULES[wish].near - 1e-9]  # rounding
