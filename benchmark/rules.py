# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Rules that turn the scores of good parts into a threshold, compared on the scores of ``results/pictures``.

What a rule reads are raw scores of images that were held out or learnt. Wrong images among the good ones are
simulated exactly: those held out are not learnt, so that adding bad test images to them adds just their scores.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import genpareto

from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.thresholds import (
    ALLOWED,
    FALSE_ALARMS,
    LEARNT,
    as_varied,
    center_and_spread,
    pooled,
    prediction_quantile,
    threshold_from_good,
)
from benchmark.good_scores import LEVELS
from benchmark.rows import allowed
from benchmark.runs import Run, run_row
from benchmark.variants import NAMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmark.rows import Row

    Scores = NDArray[np.float64]
    Rule = Callable[[Scores, Scores, float], float]

WRONG = (0, 1, 3)
"""Numbers of wrong images among those held out."""

DRAWS = 20
"""Times that wrong images are drawn; the shares are averages."""


@dataclass
class Scored:
    """Raw scores after one training.

    Attributes:
        run: The training.
        scores: Split to scores; the test in two, ``good`` and ``bad``.
        pixels: Level to the counts of a bad or good test image: above it, and of these in the mask.
        masks: Pixels in the masks of the test images, the good ones first.
    """

    run: Run
    scores: dict[str, Scores] = field(default_factory=dict)
    pixels: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    masks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def read_scores(file: Path) -> list[Scored]:
    """Read the file that ``python -m benchmark scores`` writes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is another.
    """
    if not file.is_file():
        msg = f"Expected the scores that 'python -m benchmark scores' writes in {file}, got no file. Check its path."
        raise FileNotFoundError(msg)
    runs: dict[str, list[dict[str, str]]] = defaultdict(list)
    with file.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            runs[row["run"]].append(row)
    found = []
    for rows in runs.values():
        scored = Scored(_run_of(rows[0]))
        for row in rows:
            row["split"] = ("good", "bad")[int(row["bad"])] if row["split"] == "test" else row["split"]
        for split in ("train", "held_out", "good", "bad"):
            scored.scores[split] = np.array([float(row["score"]) for row in rows if row["split"] == split])
        tested = [row for split in ("good", "bad") for row in rows if row["split"] == split]
        scored.masks = np.array([int(row["mask"]) for row in tested])
        for level in LEVELS:
            scored.pixels[level] = np.array([(int(row[level]), int(row[f"{level}_hit"])) for row in tested])
        found.append(scored)
    return found


def _run_of(row: dict[str, str]) -> Run:
    """Read the run of a row, whose name holds model, teacher and batch; see :attr:`Run.name`."""
    data, seed, steps = row["data"], row["seed"], row["steps"]
    name = rf"(?P<model>[a-z]+)-(?P<variant>[^-]+)-held_out-(?P<teacher>.+)-{re.escape(data.replace('/', '_').lower())}"
    found = re.fullmatch(rf"{name}-s{seed}(-(?P<accelerator>[a-z]+))?-b(?P<batch>\d+)-n{steps}", row["run"])
    models = {model.lower(): model for model in NAMED}
    if found is None or found["model"] not in models:
        msg = f"Expected runs of the command scores, got {row['run']!r}. Name the file that it writes as --scored."
        raise ValueError(msg)
    model, teacher, batch = models[found["model"]], found["teacher"], int(found["batch"])
    device = found["accelerator"] or "cpu"
    return Run(model, found["variant"], data, int(seed), teacher, int(steps), batch, "held_out", accelerator=device)


def highest(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """Take the highest score, as anomalib does."""
    del learnt, false_alarms
    return float(held_out.max())


def normal(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """Median and median absolute deviation, as of a normal distribution."""
    del learnt
    center, spread = center_and_spread(held_out)
    return center + spread * prediction_quantile(1 - false_alarms, len(held_out))


def longer_tail(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """The same, times the factor for an upper tail that is longer."""
    del learnt
    return threshold_from_good(held_out, false_alarms)


def log_normal(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """The first one, of the logarithms."""
    return float(np.exp(normal(np.log(held_out), learnt, false_alarms)))


def upper_half(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """Median, and the distance from there to the 84th percentile for the spread."""
    del learnt
    center, above = np.quantile(held_out, [0.5, 0.8413])
    return float(center + (above - center) * prediction_quantile(1 - false_alarms, len(held_out)))


def shifted(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """Longer tail, of the learnt scores, too, moved to the median of those held out."""
    return threshold_from_good(pooled(held_out, spaced(learnt)), false_alarms)


def scaled(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """The same, with their distances from the median multiplied by the ratio of the medians."""
    known = spaced(learnt)
    return threshold_from_good(pooled(held_out, known * np.median(held_out) / np.median(known)), false_alarms)


def delivered(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """The same, with their distances multiplied by the square of that ratio, 1 at least."""
    return threshold_from_good(pooled(held_out, as_varied(spaced(learnt), held_out)), false_alarms)


def stretched(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """The same, with their distances multiplied by the ratio of the spreads, 1 at least."""
    known = spaced(learnt)
    (_, spread), (_, learnt_spread) = map(center_and_spread, (held_out, known))
    return threshold_from_good(pooled(held_out, max(1.0, spread / learnt_spread) * known), false_alarms)


def spaced(learnt: Scores) -> Scores:
    """Return as many of the learnt scores as thresholds take."""
    return learnt[evenly_spaced(len(learnt), LEARNT)]


def extreme_values(held_out: Scores, learnt: Scores, false_alarms: float) -> float:
    """Peaks over the third quartile, as a generalised Pareto distribution."""
    del learnt
    start = np.quantile(held_out, 0.75)
    peaks = held_out[held_out > start] - start
    shape, _, scale = genpareto.fit(peaks, floc=0)
    return float(start + genpareto.ppf(1 - false_alarms * len(held_out) / len(peaks), shape, 0, scale))


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        highest,
        normal,
        longer_tail,
        log_normal,
        upper_half,
        extreme_values,
        shifted,
        scaled,
        stretched,
        delivered,
    )
}


def shares(scored: Scored, rule: Rule, false_alarms: float, wrong: int = 0) -> Iterator[tuple[str, float]]:
    """Yield the shares of bad test images caught and of good ones called bad, with wrong images held out, too."""
    random = np.random.default_rng(scored.run.seed)
    caught, alarms = [], []
    for _ in range(DRAWS if wrong else 1):
        odd = random.choice(scored.scores["bad"], wrong, replace=False)
        threshold = rule(np.concatenate([scored.scores["held_out"], odd]), scored.scores["train"], false_alarms)
        caught.append((scored.scores["bad"] > threshold).mean())
        alarms.append((scored.scores["good"] > threshold).mean())
    yield "caught", float(np.mean(caught))
    yield "false_alarms", float(np.mean(alarms))


def rule_rows(scored: Scored, source: str) -> list[Row]:
    """Build the rows of one training: what each rule catches and calls bad, and the F1 of pixels at each level.

    The rule that is delivered has rows for other shares of false alarms, too.

    Args:
        scored: Scores after the training.
        source: Commit of the code.
    """
    values = {
        (name, metric, f"{wrong} wrong" if wrong else "all"): value
        for name, rule in RULES.items()
        for wrong in WRONG
        for metric, value in shares(scored, rule, FALSE_ALARMS, wrong)
    }
    values |= {
        (delivered.__name__, metric, allowed(share)): value
        for share in ALLOWED
        for metric, value in shares(scored, delivered, share)
    }
    if scored.masks.any():
        threshold = delivered(scored.scores["held_out"], scored.scores["train"], FALSE_ALARMS)
        f1 = {level: pixel_f1(scored, level, threshold) for level in LEVELS}
        # anomalib marks good images, too; the masks tell the best: a bound, no candidate
        f1 |= {"anomalib": pixel_f1(scored, LEVELS[0]), "best": max(f1.values())}
        values |= {(level, "pixel_F1", "all"): value for level, value in f1.items()}
    return [
        run_row(
            dataclasses.replace(scored.run, variant=variant),
            metric,
            value,
            subset=subset,
            epochs=0,
            image_size=256,
            precision="f32",
            source=source,
        )
        for (variant, metric, subset), value in values.items()
    ]


def pixel_f1(scored: Scored, level: str, threshold: float = -math.inf) -> float:
    """Return the F1 of marked pixels, all above a level in images whose score is above the threshold."""
    bad = np.concatenate([scored.scores["good"], scored.scores["bad"]]) > threshold
    above, hit = scored.pixels[level][bad].sum(axis=0) if bad.any() else (0, 0)
    return float(2 * hit / max(above + scored.masks.sum(), 1))
