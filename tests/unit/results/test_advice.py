# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A result that no one would use ends with what to do; a good one does not."""

from __future__ import annotations

import math

import pytest

from anomalib_mkd.check.folder import ENOUGH_GOOD
from anomalib_mkd.results.advice import Outcome, advice, outcome
from anomalib_mkd.results.predictions import Prediction
from anomalib_mkd.results.verdicts import Alternative, Counts

GOOD = Outcome(good_pictures=60, bad=24, caught=22, good=12, alarms=0, auroc=99.0)


def test_nothing_to_do() -> None:
    assert advice(GOOD) == []
    assert advice(GOOD._replace(caught=12, alarms=2, good_pictures=ENOUGH_GOOD)) == []
    assert advice(GOOD._replace(bad=0, caught=0, good=0)) == []
    assert advice(GOOD._replace(good_pictures=None, auroc=math.nan)) == []


@pytest.mark.parametrize(
    ("changes", "starts"),
    [
        ({"far": ("a b/003.png",)}, ["Look at a b/003.png: among the good images that set the threshold"]),
        ({"good_pictures": ENOUGH_GOOD - 1}, ["Only 19 good images for training and threshold. Add more"]),
        ({"caught": 0}, ["Only 0 of 24 bad parts were caught, although most score higher"]),
        ({"caught": 11, "auroc": 60.0}, ["Only 11 of 24 bad parts were caught, and their scores overlap"]),
        ({"caught": 11, "good": 0, "auroc": math.nan}, ["Only 11 of 24 bad parts were caught. Move the camera"]),
        ({"alarms": 3}, ["3 of 12 good parts were called bad"]),
        ({"caught": 0, "auroc": 50.0, "alarms": 12, "good_pictures": 5}, ["Only 5", "Only 0 of 24", "12 of 12"]),
    ],
)
def test_each_fault_has_its_remedy(changes: dict[str, object], starts: list[str]) -> None:
    found = advice(GOOD._replace(**changes))  # type: ignore[arg-type]
    assert len(found) == len(starts)
    assert all(text.startswith(start) for text, start in zip(found, starts, strict=True))


@pytest.mark.parametrize(
    ("caught", "said"),
    [
        ((4, 5, 13, 20), ": --model.false_alarms 0.05 would catch 13 and call 2 of 12 good ones bad."),  # enough
        ((4, 5, 6, 7), ": --model.false_alarms 0.1 would catch 7 and call 3 of 12 good ones bad."),  # the most
        ((4, 4, 4, 4), "(docs/how_to/thresholds.md)."),
    ],
)
def test_a_looser_threshold_is_named_with_its_price(caught: tuple[int, ...], said: str) -> None:
    others = tuple(
        Alternative(share, 0.5, Counts(count, 24), Counts(alarms, 12))
        for alarms, (share, count) in enumerate(zip((0.01, 0.02, 0.05, 0.1), caught, strict=True))
    )
    (text,) = advice(GOOD._replace(caught=4, others=others))
    assert text.endswith(said)


def test_many_files_are_not_all_listed() -> None:
    (text,) = advice(GOOD._replace(far=tuple(f"{number}.png" for number in range(7))))
    assert "4.png and 2 more:" in text
    assert "5.png" not in text


def part(score: float, bad: bool | None, truth: bool | None, threshold: float = 0.5, category: str = "") -> Prediction:
    return Prediction(f"{score}.png", score, bad, threshold, category, truth=truth)


def test_counts_are_those_of_parts_with_truth_and_verdict() -> None:
    rows = [part(0.9, True, True), part(0.6, True, False), part(0.1, False, False), part(0.7, True, None)]
    assert outcome(rows, 60, ["good/a.png"]) == Outcome(60, 1, 1, 2, 1, 100.0, ("a.png",))
    assert outcome([part(0.7, True, None), part(0.7, None, True)]) is None


def test_one_kind_of_parts_has_no_auroc() -> None:
    found = outcome([part(0.1, False, False)])
    assert found is not None
    assert (found.bad, math.isnan(found.auroc)) == (0, True)
    assert advice(found) == []


def test_a_score_that_is_no_number_is_counted_but_not_ordered() -> None:
    found = outcome([part(math.nan, True, True), part(0.9, True, True), part(0.1, False, False)])
    assert found is not None
    assert (found.caught, found.auroc) == (2, 100.0)


def test_categories_are_compared_by_the_distance_from_their_thresholds() -> None:
    rows = [
        *(part(score, True, score > 0.9, 0.2, "a") for score in (0.8, 1.0)),
        *(part(score, False, score > 0.2, 2.0, "b") for score in (0.1, 1.9)),
    ]
    found = outcome(rows)
    assert found is not None
    assert found.auroc == pytest.approx(75.0)  # 0.8 above its threshold, and 0.1 below; good: 0.6 above, and 1.9 below
