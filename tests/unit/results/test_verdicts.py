# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Counts of caught parts and of false alarms, by kind and by category, and the tables on the terminal."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from anomalib_mkd.results.predictions import Prediction
from anomalib_mkd.results.verdicts import (
    FEW_KINDS,
    LISTED,
    Alternative,
    Counts,
    Group,
    alternatives,
    counts,
    group_table,
    prediction_table,
    sentence,
    short_names,
)


def rows(*parts: tuple[str, bool | None, bool | None], category: str = "") -> list[Prediction]:
    """Parts of a kind, each with its truth and its verdict."""
    return [
        Prediction(f"a/{kind}/{index}.png", 0.5, bad, 0.5, category, kind, truth)
        for index, (kind, truth, bad) in enumerate(parts)
    ]


def test_alternatives_by_hand() -> None:
    parts = [Prediction("", score, None, None, truth=truth) for score, truth in ((0.5, True), (0.4, True), (0.4, False))]
    parts += [Prediction("", math.nan, True, 0.5, truth=False), Prediction("", 0.9, True, 0.5)]
    assert alternatives(parts, {0.01: 0.5, 0.1: 0.3}) == [
        Alternative(0.01, 0.5, Counts(0, 2), Counts(1, 2)),
        Alternative(0.1, 0.3, Counts(2, 2), Counts(2, 2)),
    ]
    assert alternatives([part for part in parts if part.truth], {0.01: 0.5}) == []
    assert alternatives(parts, {}) == []


PARTS = rows(
    ("good", False, False), ("good", False, True), ("dent", True, True), ("dent", True, False), ("cut", True, True)
)


def printed(table: Any) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]  # the file above


def test_parts_are_counted_by_category_and_kind() -> None:
    both = [*rows(("good", False, True), category="nut"), *PARTS]
    assert list(counts(both).items()) == [
        (Group("", "good", False), Counts(1, 2)),
        (Group("", "cut", True), Counts(1, 1)),
        (Group("", "dent", True), Counts(1, 2)),
        (Group("nut", "good", False), Counts(1, 1)),
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (PARTS, "2 of 3 bad parts caught, 1 of 2 good parts called bad"),
        (PARTS[2:], "2 of 3 bad parts caught"),
        (PARTS[:2], "1 of 2 good parts called bad"),
        (rows(("new", None, True), ("new", None, False)), "1 of 2 parts called bad"),
        (rows(("dent", True, None)), "No threshold, so no verdicts: no validation has set one."),
    ],
)
def test_one_sentence_sums_up(parts: list[Prediction], expected: str) -> None:
    assert sentence(parts) == expected


def test_the_table_lists_kinds_and_names_categories_only_if_there_are_several() -> None:
    text = printed(group_table(PARTS))
    assert [line.split("│")[1:4] for line in text.splitlines() if "dent" in line] == [
        [" dent ", "          1 ", "  2 "]
    ]
    assert "category" not in text
    assert "category" in printed(group_table([*PARTS, *rows(("good", False, True), category="nut")]))


def test_folders_of_single_parts_are_no_kinds() -> None:
    """As in Kolektor: 50 parts with a folder each, 52 of whose images show a defect."""
    kolektor = rows(
        *((f"kos{number % 50 + 1:02}", True, number > 1) for number in range(52)),
        *((f"kos{number % 37 + 1:02}", False, False) for number in range(69)),
    )
    assert counts(kolektor) == {Group("", "good", False): Counts(0, 69), Group("", "bad", True): Counts(50, 52)}
    assert group_table(kolektor) is None
    groups = counts([*kolektor, *rows(("good", False, False), ("dent", True, True), category="nut")])
    assert [group.kind for group in groups] == ["good", "bad", "good", "dent"]


@pytest.mark.parametrize(("kinds", "parts"), [(FEW_KINDS, FEW_KINDS), (20, 40), (1, 1)])
def test_kinds_of_few_parts_are_listed(kinds: int, parts: int) -> None:
    groups = counts(rows(*((f"defect {number % kinds}", True, True) for number in range(parts))))
    assert len(groups) == kinds
    assert "bad" not in {group.kind for group in groups}


def test_one_kind_of_defect_needs_no_table() -> None:
    assert group_table(rows(("good", False, True), ("bad", True, True))) is None
    assert group_table(rows(("bad", True, True))) is None


def test_predictions_are_ranked_and_a_score_that_is_not_finite_comes_first() -> None:
    parts = [
        Prediction("a/0.png", 0.2, False, 0.5),
        Prediction("a/1.png", float("nan"), True, 0.5),
        Prediction("a/[bold]2.png", 0.7, True, 0.5),
    ]
    table = prediction_table(parts)
    cells = [list(map(str, column.cells)) for column in table.columns]
    assert cells == [["1.png", "[bold]2.png", "0.png"], ["nan", "0.700", "0.200"], ["bad", "bad", "good"]]
    assert "[bold]2.png" in printed(table)


def test_a_long_list_is_cut() -> None:
    table = prediction_table([Prediction(f"{i}.png", i / 100, False, 0.5) for i in range(LISTED + 1)])
    assert table.title == "The 20 highest of 21 scores"
    assert table.row_count == LISTED


def test_names_are_as_long_as_needed() -> None:
    assert short_names(["a/b/x.png", "a/c/x.png"]) == ["b/x.png", "c/x.png"]
    assert short_names(["/a/x.png", "/a/y.png"]) == ["x.png", "y.png"]
    assert short_names(["a/x.png", str(Path("a/b/y.png").absolute())]) == ["x.png", "b/y.png"]
    assert short_names([]) == []
