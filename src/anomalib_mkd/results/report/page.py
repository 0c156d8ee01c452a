# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The page itself: its parts, and what stands where one is missing."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from anomalib_mkd.files import whole
from anomalib_mkd.results.predictions import word
from anomalib_mkd.results.report import plots
from anomalib_mkd.results.report.gallery import Exhibit, Gallery
from anomalib_mkd.results.report.pictures import Scale, draw_heat_map, draw_legend, draw_mask, embedded, read
from anomalib_mkd.results.verdicts import Counts, counts, sentence, short_names, total, with_kinds
from anomalib_mkd.thresholds import SUSPECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from anomalib_mkd.results.predictions import Prediction
    from anomalib_mkd.results.verdicts import Alternative, Group

MULTIPLES = 12
"""Most categories with a histogram of their own."""

UNKNOWN = "images"
"""Name of those whose truth is unknown, where others are called good and bad."""

HEAD = 1000
"""Characters of a page in which its command is named."""

SUSPICIOUS = 12
"""Most training images that are shown."""


@dataclass(frozen=True)
class Run:
    """Circumstances of a run.

    Attributes:
        command: ``train``, ``test`` or ``predict``.
        model: Name of the model.
        data: Name of the data.
        date: When the run ended.
        machine: Processor, cores and features, after the accelerator if it ran on one.
        arguments: Of the model.
        versions: By package.
        metrics: As Lightning reports them.
        training_seconds: Of the training, since it was last resumed; ``None`` if there was none.
        resumed_at: Step from which it was resumed; 0 if it was not.
        seconds: Of the pass over ``pictures``, reading included.
        pictures: How many that pass had.
        megabytes: Size of the checkpoint.
        parameters: Number of the model's parameters.
        rule: How the threshold was set; empty if unknown.
        alternatives: What other thresholds would have done; empty if unknown.
    """

    command: str
    model: str
    data: str
    date: datetime
    machine: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    training_seconds: float | None = None
    resumed_at: int = 0
    seconds: float | None = None
    pictures: int | None = None
    megabytes: float | None = None
    parameters: int | None = None
    rule: str = ""
    alternatives: Sequence[Alternative] = ()


class Card(NamedTuple):
    """An image of a gallery and what belongs to it, as ``data:`` addresses; ``None`` where there is none."""

    name: str
    row: Prediction
    picture: str | None
    heat_map: str | None
    mask: str | None


class Plot(NamedTuple):
    """A plot and what it says in words."""

    title: str
    svg: str
    caption: str


class Kind(NamedTuple):
    """A row of the table of kinds; scores are the lowest, the median and the highest one."""

    category: str
    kind: str
    truth: bool | None
    called_bad: int | None
    parts: int
    scores: tuple[float, float, float]


def write_report(
    path: Path,
    run: Run,
    predictions: Sequence[Prediction],
    gallery: Gallery,
    training: Sequence[tuple[Prediction, float]] = (),
    exhibits: Sequence[Exhibit] = (),
    advice: Sequence[str] = (),
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: Final name of the file.
        run: Its circumstances.
        predictions: All of them.
        gallery: To which each was added.
        training: Predictions of the good images of a training and how suspicious they are, the most suspicious first.
        exhibits: Maps of the first ones of those.
        advice: What to do about a result that is unfit for use.
    """
    content = _content(predictions, gallery, training, exhibits)
    html = environment().get_template("template.html").render(content, run=run, advice=advice)
    with whole(path) as unfinished:
        unfinished.write_bytes(html.encode("utf-8", "backslashreplace"))  # names of files need not be Unicode


def command_of(path: Path) -> str:
    """Return the command that wrote a page: ``train``, ``test`` or ``predict``; empty for another file."""
    with path.open(encoding="utf-8", errors="replace") as file:
        found = re.search(r'<meta name="command" content="(\w+)">', file.read(HEAD))
    return found[1] if found else ""


def environment(*packages: str) -> Environment:
    """Make the reader of templates; all pages include this one's ``style.css``.

    Args:
        packages: Packages with templates, by their full names; this one comes last.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, "") for name in (*packages, "anomalib_mkd.results.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "percent": percent, "word": word}
    return made


def number(value: float) -> str:
    """Format a score.

    Example:
        >>> number(0.51234), number(12), number(0.000012345), number(float("nan"))
        ('0.512', '12.000', '1.23e-05', 'nan')
    """
    return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def percent(share: float) -> str:
    """Format a share, with a space at which no line ends.

    Example:
        >>> percent(0.98765).split()
        ['98.8', '%']
    """
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _content(
    rows: Sequence[Prediction],
    gallery: Gallery,
    training: Sequence[tuple[Prediction, float]],
    trained: Sequence[Exhibit],
) -> dict[str, Any]:
    """Compute what the template shows."""
    files = [row.file for row in (*rows, *(row for row, _ in training))]
    names = dict(zip(files, short_names(files), strict=True)) if files else {}
    suspects = training[:SUSPICIOUS]
    kept = {exhibit.prediction: exhibit for exhibit in trained}
    shown = {group.name: gallery.shown(group.name) for group in gallery.groups}
    exhibits = {exhibit.prediction: exhibit for each in shown.values() for exhibit in each}
    exhibits |= {row: kept.get(row, Exhibit(row)) for row, _ in suspects}
    scale = Scale.of(exhibits.values())
    cards = {row: _card(exhibit, names[row.file], scale) for row, exhibit in exhibits.items()}
    groups = counts(rows)
    return {
        "rows": rows,
        "unscored": sum(not math.isfinite(row.score) for row in rows),
        "sentence": sentence(rows) if rows else "No images were predicted, so nothing was counted",
        "sums": {truth: total(groups, defective=truth) for truth in (True, False)},
        "truths": list({row.truth for row in rows}),
        "thresholds": sorted({row.threshold for row in rows if row.threshold is not None}),
        "plots": _plots(rows, groups),
        "multiples": _multiples(rows),
        "gallery": {name: [cards[exhibit.prediction] for exhibit in each] for name, each in shown.items()},
        "totals": {group.name: sum(map(group.belongs, rows)) for group in gallery.groups},
        "scale": scale,
        "legend": embedded(draw_legend()),
        "masked": any(exhibit.mask is not None for exhibit in exhibits.values()),
        "kinds": _kinds(rows),
        "categories": _categories(rows, groups),
        "training": training,
        "suspects": [(cards[row], distance) for row, distance in suspects],
        "far": sum(distance > SUSPECT for _, distance in training),
        "called": sum(bool(row.bad) for row, _ in training),
        "spreads": SUSPECT,
    }


def _card(exhibit: Exhibit, name: str, scale: Scale | None) -> Card:
    """Draw the images of an exhibit."""
    row, values, mask = exhibit
    picture = read(row.file)
    drawn = None if values is None or scale is None else draw_heat_map(values, scale, picture)
    marked = None if mask is None or not mask.any() else draw_mask(mask, picture)
    return Card(name, row, *map(embedded, (picture, drawn, marked)))


def _scores(rows: Iterable[Prediction]) -> NDArray[np.float64]:
    """Return the finite scores."""
    return np.array([row.score for row in rows if math.isfinite(row.score)])


def _by_truth(rows: Sequence[Prediction]) -> dict[str, NDArray[np.float64]]:
    """Return the finite scores of good parts, of bad ones and of those without a truth, as far as there are any."""
    scores = {
        word(truth) or UNKNOWN: _scores(row for row in rows if row.truth is truth) for truth in (False, True, None)
    }
    return {name: values for name, values in scores.items() if values.size}


def _plots(rows: Sequence[Prediction], groups: Mapping[Group, Counts]) -> list[Plot]:
    """Draw the plots for which there are scores."""
    thresholds = {row.threshold for row in rows}
    threshold = thresholds.pop() if len(thresholds) == 1 else None
    scores = _by_truth(rows)
    if not scores:
        return []
    medians = (
        f"half of the {name if name == UNKNOWN else f'{name} ones'} score below {number(np.median(values))}"
        for name, values in scores.items()
    )
    drawn = [Plot("Scores", plots.histogram(scores, threshold), f"{'; '.join(medians).capitalize()}.")]
    if not {"good", "bad"} <= scores.keys():
        return drawn
    unit = "threshold"
    if thresholds:  # several, one per category
        scores = _by_truth([row._replace(score=row.above) for row in rows])
        threshold, unit = 0.0, "threshold, from each category's own"
    good, bad = scores["good"], scores["bad"]
    levels, caught, alarms = plots.sweep(good, bad)
    now = [total(groups, defective=truth) for truth in (True, False)]
    shares = (now[0].called_bad / now[0].parts, now[1].called_bad / now[1].parts) if all(n.parts for n in now) else None
    auroc = plots.area(caught, alarms)
    alarms_then, caught_then = (good >= bad.min()).mean(), (bad > good.max()).mean()
    return [
        *drawn,
        Plot(
            "Along the threshold",
            plots.trade(levels, caught, alarms, threshold, unit),
            f"A threshold just below {number(bad.min())}, the lowest bad part, catches every bad part and calls "
            f"{percent(alarms_then)} of the good ones bad. One of {number(good.max())}, the highest good part, calls no "
            f"good part bad and catches {percent(caught_then)} of the bad ones. A threshold read from these curves does worse on other images.",
        ),
        Plot(
            "ROC curve",
            plots.roc(caught, alarms, shares),
            f"Area {auroc:.3f}: of a bad and a good part, the bad one scores higher in {percent(auroc)} of all pairs.",
        ),
    ]


def _multiples(rows: Sequence[Prediction]) -> list[Plot]:
    """Draw the scores of each category, if there are several, in the order of their names."""
    categories = defaultdict(list)
    for row in rows:
        categories[row.category].append(row)
    drawn = []
    for category, its in sorted(categories.items())[:MULTIPLES] if len(categories) > 1 else []:
        if scores := _by_truth(its):
            drawn.append(Plot(category or "no category", plots.histogram(scores, its[0].threshold), ""))
    return drawn


def _kinds(rows: Sequence[Prediction]) -> list[Kind]:
    """Sum up the images of each category and kind, good parts first."""
    kinds = defaultdict(list)
    for row in with_kinds(rows):
        kinds[row.category, row.truth is not False, row.kind, row.truth].append(row)
    listed = []
    for (category, _, kind, truth), its in sorted(kinds.items(), key=lambda item: item[0][:3]):
        called_bad = None if any(row.bad is None for row in its) else sum(bool(row.bad) for row in its)
        scores = np.percentile(values, [0, 50, 100]).tolist() if (values := _scores(its)).size else [math.nan] * 3
        listed.append(Kind(category, kind, truth, called_bad, len(its), tuple(scores)))
    return listed


def _categories(
    rows: Sequence[Prediction], groups: Mapping[Group, Counts]
) -> list[tuple[str, float | None, Counts, Counts]]:
    """List categories with their threshold and the counts of their bad and their good parts, if there are several."""
    thresholds = {row.category: row.threshold for row in rows}
    return [
        (
            category,
            threshold,
            total(groups, defective=True, category=category),
            total(groups, defective=False, category=category),
        )
        for category, threshold in sorted(thresholds.items())
        if len(thresholds) > 1
    ]
