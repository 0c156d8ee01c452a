# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Each kind of answer is told from the others, and each door's own comparison can fail."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import strategies as st

from benchmark import fuzzing
from benchmark.fuzzing import Array, Call, Drawn, Found, WrongError, described, explore, fits, judge, reference

SOUND = Drawn("train/good", "0", ".png", "RGB", (40, 30), 1, "none", 0.5)


def answer(number: int) -> None:
    """Answer every kind."""
    if number > 30:
        msg = f"Expected at most 30, got {number}"
        raise ValueError(msg)
    if number > 20:
        raise KeyError(number)
    if number > 10:
        raise WrongError(f"accepts {number}")  # noqa: EM102, TRY003


def test_answers_are_told_apart_and_the_shortest_input_is_kept() -> None:
    found = Found()
    for number in (5, 15, 9, 25, 21, 35):
        judge(answer, number, found)
    assert found.counts == {"handled": 2, "wrong": 1, "raw": 2, "clear": 1}
    assert found.kinds == {"wrong: accepts #": ("15", "accepts 15", 1), "raw: KeyError: #": ("25", "KeyError: 25", 2)}
    lines = described({"door": found}, "Seed 0").splitlines()
    assert "| door | 6 | 1 | 2 | 2 | 1 |" in lines
    assert "- door, raw error (2): `KeyError: 25` `25`" in lines


def test_a_seed_repeats() -> None:
    seen: list[list[int]] = [[], []]
    for own in seen:
        explore(own.append, st.integers(0, 10**9), seed=3, seconds=0.05)
    count = min(map(len, seen))
    assert count >= fuzzing.EXAMPLES
    assert seen[0][:count] == seen[1][:count]


def test_a_sound_folder_is_handled_and_another_reading_of_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzing.check_door(SOUND)
    fuzzing.parts_door(SOUND)
    monkeypatch.setattr(fuzzing, "reference", lambda path: 1 - reference(path))
    with pytest.raises(WrongError, match="Parts gives other values to an image of mode RGB"):
        fuzzing.parts_door(SOUND)


def test_an_unread_file_that_nobody_names_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Drawn("train/good", "0", ".png", "RGB", (40, 30), 1, "empty", 0.5)
    fuzzing.check_door(cut)
    monkeypatch.setattr(fuzzing, "check_folder", lambda _: SimpleNamespace(findings=()))
    with pytest.raises(WrongError, match="says nothing about damage empty"):
        fuzzing.check_door(cut)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"score": 0.9}, "scores uint16"), ({"spoilt": "nan", "dtype": "float32"}, "calls an image good")],
)
def test_another_score_for_the_same_picture_is_wrong(changes: dict[str, Any], says: str) -> None:
    def predict(given: Any) -> Any:
        return SimpleNamespace(bad=False, score=changes.get("score", 0.2) if given.dtype == np.uint16 else 0.2)

    inferencer: Any = SimpleNamespace(predict=predict)
    array = Array(changes.get("dtype", "uint16"), "HWC", changes.get("spoilt", "none"), (20, 20))
    with pytest.raises(WrongError, match=says):
        fuzzing.inferencer_door(inferencer)(array)


@pytest.mark.parametrize(
    ("value", "annotation", "right"),
    [
        (1, float, True),
        (True, float, False),
        (math.inf, float, False),
        (10**400, int, False),
        (2.5, int, False),
        ("sum", Literal["sum", "product"], True),
        (True, Literal[1], False),
        (None, float | None, True),
        ("layer1", list[str] | None, False),
        (["layer1"], list[str] | None, True),
        (Path("x"), str | Path | None, True),
        (1, bool, False),
    ],
)
def test_what_an_annotation_allows(value: object, annotation: Any, right: bool) -> None:
    assert fits(value, annotation) is right


def test_a_senseless_argument_that_is_accepted_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self, sigma: float = 4.0) -> None:
            self.sigma = sigma

    subject: Any = SimpleNamespace(model=Model, arguments={})
    monkeypatch.setitem(fuzzing.SUBJECTS, "Mkd", subject)
    fuzzing.arguments_door(Call("Mkd", (("sigma", 2.0),)))
    with pytest.raises(WrongError, match="Mkd accepts sigma=inf"):
        fuzzing.arguments_door(Call("Mkd", (("sigma", math.inf),)))


def test_a_picture_is_rebuilt_in_every_form() -> None:
    for form in fuzzing.FORMS:
        built = np.asarray(Array("uint8", form, "none", (20, 30)).build())
        assert built.size in {600, 1800, 2400, 3600}
