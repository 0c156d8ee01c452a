# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A result that no one would use ends with what to do; a good one does not."""

from __future__ import annotations

import pytest

from anomalib_mkd.check.folder import ENOUGH_GOOD
from anomalib_mkd.quickstart.advice import Outcome, advice

GOOD = Outcome(good_pictures=60, bad=24, caught=22, good=12, alarms=0, auroc=99.0)


def test_nothing_to_do() -> None:
    assert advice(GOOD) == []
    assert advice(GOOD._replace(caught=12, alarms=2, good_pictures=ENOUGH_GOOD)) == []
    assert advice(GOOD._replace(bad=0, caught=0, good=0)) == []


@pytest.mark.parametrize(
    ("changes", "starts"),
    [
        ({"far": ("a b/003.png",)}, ["Look at a b/003.png: among the good images that set the threshold"]),
        ({"good_pictures": ENOUGH_GOOD - 1}, ["Only 19 good images in train/good. Add more"]),
        ({"caught": 0}, ["Only 0 of 24 bad parts were caught, although most score higher"]),
        ({"caught": 11, "auroc": 60.0}, ["Only 11 of 24 bad parts were caught, and their scores do not differ"]),
        ({"alarms": 3}, ["3 of 12 good parts were called bad"]),
        ({"caught": 0, "auroc": 50.0, "alarms": 12, "good_pictures": 5}, ["Only 5", "Only 0 of 24", "12 of 12"]),
    ],
)
def test_each_fault_has_its_remedy(changes: dict[str, object], starts: list[str]) -> None:
    found = advice(GOOD._replace(**changes))  # type: ignore[arg-type]
    assert len(found) == len(starts)
    assert all(text.startswith(start) for text, start in zip(found, starts, strict=True))


def test_many_files_are_not_all_listed() -> None:
    (text,) = advice(GOOD._replace(far=tuple(f"{number}.png" for number in range(7))))
    assert "4.png and 2 more:" in text
    assert "5.png" not in text
