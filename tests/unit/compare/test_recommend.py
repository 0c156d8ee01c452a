# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The recommendation follows the rule that it states."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd.compare.recommend import INT8, Export, caution, pick, recommend
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.results.verdicts import Alternative, Counts

if TYPE_CHECKING:
    from anomalib_mkd.compare.recommend import Wish

ROWS = [
    Row("Best", image_auroc=0.990, latency=0.040, megabytes=40.0),
    Row("Near", image_auroc=0.981, latency=0.030, megabytes=30.0),
    Row("Fast", image_auroc=0.945, latency=0.010, megabytes=20.0),
    Row("Small", image_auroc=0.950, latency=0.020, megabytes=5.0),
    Row("Poor", image_auroc=0.700, latency=0.001, megabytes=1.0),
    Row("Broken", reason="It broke."),
]


@pytest.mark.parametrize(
    ("wish", "start"),
    [
        (
            "accuracy",
            "Take Near: the fastest of the exports within one point of the best image AUROC (98.1 %, 30.0 ms ",
        ),
        ("speed", "Take Fast: the fastest of the exports within five points of the best image AUROC (94.5 %, 10.0 ms "),
        (
            "size",
            "Take Small: the smallest of the exports within five points of the best image AUROC (95.0 %, 20.0 ms ",
        ),
    ],
)
def test_each_wish_has_its_rule(wish: Wish, start: str) -> None:
    assert recommend(ROWS, wish).startswith(start)
    assert recommend(ROWS[::-1], wish).startswith(start)


def test_one_that_no_other_comes_near() -> None:
    assert recommend([ROWS[0], ROWS[4]], "accuracy").startswith(
        "Take Best: no other model is within one point of the best image AUROC (99.0 %, 40.0 ms "
    )
    assert recommend([ROWS[4], ROWS[5]], "speed").startswith("Take Poor: no other model finished")
    assert recommend([ROWS[4]], "speed").startswith("Take Poor: no other model was compared")


def test_what_was_not_measured_is_said() -> None:
    assert recommend([], "speed") == recommend([ROWS[5]], "speed") == "No recommendation: no model finished."
    untested = Row("Untested", latency=0.01)
    assert recommend([untested], "accuracy").startswith("No recommendation: without both good and bad test parts")
    untimed = [Row("A", image_auroc=0.95), Row("B", image_auroc=0.955)]
    assert recommend(untimed, "speed") == "Take B: it has the best image AUROC, and no export was timed (95.5 %)."


@pytest.mark.parametrize(
    ("row", "warned"),
    [
        (Row("Strict", image_auroc=0.96, caught=13, bad=56), True),
        (Row("Half", image_auroc=0.96, caught=28, bad=56), False),
        (Row("Blind", image_auroc=0.53, caught=5, bad=56), False),  # no threshold would help
        (Row("No verdicts", image_auroc=0.96, bad=56), False),
        (Row("No bad parts", caught=0, bad=0), False),
        (Row("Failed", reason="It broke."), False),
    ],
)
def test_a_threshold_that_misses_what_the_scores_show_is_named(row: Row, warned: bool) -> None:
    assert bool(caution(row, ours=False)) is warned
    assert ("--model.false_alarms" in "".join(caution(row, ours=True))) is warned


def test_the_warning_counts_what_another_threshold_of_ours_would_do() -> None:
    row = Row("Strict", image_auroc=0.96, caught=13, bad=56, false_alarms=1, good=20)
    at = [Alternative(share, 0.5, Counts(caught, 56), Counts(2, 20)) for share, caught in ((0.05, 20), (0.1, 30))]
    (text,) = caution(row, ours=True, others=at)
    assert text.endswith(
        "Allow more false alarms: --model.false_alarms 0.1 would catch 30 and call 2 of 20 good ones bad."
    )
    assert caution(row, ours=True)[0].endswith("Allow more false alarms: --model.false_alarms.")
    in_8_bits = dataclasses.replace(row, caught=50, int8_caught=13, int8_auroc=0.95)  # counted in f32 alone
    assert caution(in_8_bits, ours=True, others=at)[0].endswith("Allow more false alarms: --model.false_alarms.")


@pytest.mark.parametrize(
    ("row", "warned"),
    [
        (Row("All", image_auroc=0.617, caught=10, bad=10, false_alarms=6, good=6), True),
        (Row("Many", image_auroc=0.99, caught=10, bad=10, false_alarms=3, good=10), True),
        (Row("No bad parts", false_alarms=3, good=10), True),
        (Row("Some", image_auroc=0.99, caught=10, bad=10, false_alarms=2, good=10), False),
        (Row("No verdicts", image_auroc=0.99, bad=10, good=10), False),
    ],
)
def test_many_good_parts_called_bad_are_named(row: Row, warned: bool) -> None:
    found = caution(row, ours=True)
    assert [text.split(" good parts")[0] for text in found] == [f"Called {row.false_alarms} of {row.good}"] * warned


@pytest.mark.parametrize("wish", ["accuracy", "speed", "size"])
def test_what_is_no_better_than_chance_is_not_recommended(wish: Wish) -> None:
    blind = Row("Blind", image_auroc=0.59, latency=0.001, megabytes=1.0)
    worse = Row("Worse", image_auroc=0.40, latency=0.001, megabytes=1.0)
    text = "No recommendation: no model tells good parts from bad ones (best image AUROC 59.0 %)."
    assert recommend([worse, blind], wish) == text
    assert pick([worse, blind], wish) is None
    late = Row("Late", reason="Not finished.")
    assert recommend([blind, late], wish) == text.replace("no model tells", "no model that finished tells")
    weak = Row("Weak", image_auroc=0.62, latency=0.1, megabytes=9.0)
    assert pick([blind, weak], wish) == Export(weak)  # within five points, but no better than chance


def judged(name: str, auroc: float, caught: int, alarms: int | None, latency: float | None = 0.02) -> Row:
    return Row(name, image_auroc=auroc, caught=caught, bad=100, false_alarms=alarms, good=50, latency=latency)


def test_verdicts_go_by_what_the_delivered_threshold_catches() -> None:
    strict = judged("Strict", 0.95, 15, 0, 0.01)
    useful = judged("Useful", 0.90, 70, 5)
    assert recommend([strict, useful], "verdicts") == (
        "Take Useful: no other model is within five points of the best verdicts (70 of 100 bad parts caught, 5 of 50 "
        "good parts called bad, 20.0 ms per image)."
    )
    assert pick([strict, useful], "accuracy") == Export(strict)
    swift = judged("Swift", 0.85, 71, 8, 0.001)  # five points less
    text = recommend([useful, swift], "verdicts")
    assert text.startswith("Take Swift: the fastest of the exports within five points of the best verdicts (71 of ")
    hasty = judged("Hasty", 0.85, 71, 9, 0.001)
    assert pick([useful, hasty], "verdicts") == Export(useful)
    unknown = judged("Unknown", 0.99, 71, None)
    assert pick([unknown, useful], "verdicts") == Export(useful)
    untimed = [judged("A", 0.9, 70, 5, None), judged("B", 0.9, 70, 6, None)]
    assert pick(untimed, "verdicts") == Export(untimed[0])


@pytest.mark.parametrize(("caught", "alarms"), [(0, 0), (20, 10), (10, 30), (60, None)])
def test_verdicts_no_better_than_chance_are_not_recommended(caught: int, alarms: int | None) -> None:
    rows = [judged("Poor", 0.95, caught, alarms)]
    text = "No recommendation: no model has a threshold whose verdicts are better than chance."
    assert (recommend(rows, "verdicts"), pick(rows, "verdicts")) == (text, None)


EIGHT = Row(
    "Both",
    image_auroc=0.99,
    caught=9,
    bad=10,
    false_alarms=0,
    good=10,
    megabytes=20.0,
    latency=0.02,
    int8_auroc=0.985,
    int8_caught=8,
    int8_false_alarms=1,
    int8_megabytes=6.0,
    int8_latency=0.01,
)


def test_eight_bits_are_recommended_if_they_keep_accuracy_and_verdicts() -> None:
    other = Row("Other", image_auroc=0.985, megabytes=15.0, latency=0.015)
    best = "of the exports within"
    assert recommend([EIGHT, other], "accuracy").startswith(f"Take Both in 8 bits: the fastest {best} one point of ")
    assert recommend([EIGHT, other], "size").endswith(
        "five points of the best image AUROC (98.5 %, 10.0 ms per image, 6.0 MB)."
    )
    inaccurate = dataclasses.replace(EIGHT, int8_auroc=0.97)
    assert pick([inaccurate, other], "accuracy") == Export(other)
    assert pick([inaccurate, other], "speed") == Export(inaccurate, INT8)
    unknown = dataclasses.replace(EIGHT, int8_auroc=None)
    assert pick([unknown, other], "speed") == Export(other)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"int8_caught": 4}, "Caught only 4 of 10 bad parts in 8 bits, although"),
        ({"int8_false_alarms": 3}, "Called 3 of 10 good parts bad in 8 bits."),
    ],
)
def test_eight_bits_whose_verdicts_fail_are_named_and_not_recommended(change: dict[str, int], text: str) -> None:
    row = dataclasses.replace(EIGHT, **change)  # type: ignore[arg-type]
    assert caution(EIGHT, ours=True) == []
    (warning,) = caution(row, ours=True)
    assert warning.startswith(text)
    assert pick([row], "speed") == Export(row)
    as_before = dataclasses.replace(row, caught=3, false_alarms=4)  # no worse than f32
    assert pick([as_before], "speed") == Export(as_before, INT8)
    assert not any("8 bits" in each for each in caution(as_before, ours=True))
