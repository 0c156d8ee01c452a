# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Durations as one writes them, and how models share one."""

from __future__ import annotations

import pytest

from anomalib_mkd.compare.budget import Budget, seconds


@pytest.mark.parametrize(
    ("text", "expected"), [("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), (" 90S ", 90), ("1h1m1s", 3661)]
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "5 days", "1m1h", "nan", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="Expected a --budget such as 30m, 1h30m or 90s, got "):
        seconds(text)


def test_what_one_leaves_goes_to_the_others() -> None:
    now = [0.0]
    budget = Budget(600, 3, clock=lambda: now[0])
    assert budget.share(3) == 200
    now[0] = 100
    assert (budget.share(2), budget.share(1), budget.used) == (250, 500, 100)
    now[0] = 700
    assert (budget.left, budget.share(1)) == (0, 0)


def test_a_budget_too_small_for_its_models() -> None:
    Budget(180, 3)
    message = r"^Expected a --budget of at least 3m, a minute for each of 3 models, got 2\.5m\. Allow more time, or "
    with pytest.raises(ValueError, match=message):
        Budget(150, 3)
