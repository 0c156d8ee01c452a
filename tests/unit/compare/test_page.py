# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The page says what was found and what was not, and needs nothing but itself."""

from __future__ import annotations

import dataclasses
import itertools
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd.compare.page import Comparison, write_files
from anomalib_mkd.compare.plots import APART, spread
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.compare.runs import PAGE, TABLE, TEXT

if TYPE_CHECKING:
    from pathlib import Path

FULL = Row(
    "MixedDistillation",
    notes=("Teacher: <the> embedded one.",),
    pictures=20,
    image_auroc=0.99,
    aupro=0.9,
    caught=8,
    bad=8,
    false_alarms=1,
    good=5,
    training_seconds=30.0,
    peak_megabytes=900.0,
    megabytes=7.0,
    int8_megabytes=2.0,
    int8_auroc=0.98,
    int8_caught=8,
    int8_false_alarms=0,
    latency=0.02,
    latency_spread=0.001,
    int8_latency=0.01,
    int8_latency_spread=0.001,
    throughput=90.0,
    int8_throughput=180.0,
    first_verdict=0.6,
)
OTHER = dataclasses.replace(FULL, model="Padim", image_auroc=0.95, int8_auroc=0.5, latency=0.2, stopped=True, notes=())
FAILED = Row("Patchcore", reason="RuntimeError: <script>alert(1)</script>.")


def written(folder: Path, *rows: Row) -> str:
    run = Comparison(
        data="<bottles> & co",
        command="python -m anomalib_mkd compare x",
        date=datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
        wish="accuracy",
        budget="30m",
        seed=7,
        machine="A CPU; 2 cores; AVX2",
        versions={"anomalib": "2.7.0"},
        remarks=["Nothing else was timed."],
    )
    write_files(folder, rows, run)
    assert {path.name for path in folder.iterdir()} == {PAGE, TABLE, TEXT}
    return (folder / PAGE).read_text(encoding="utf-8")


def test_the_recommended_models_warnings_stand_with_it(tmp_path: Path) -> None:
    warning = "Not to be used in 8 bits: its image AUROC falls to 82.6 %."
    written(tmp_path, dataclasses.replace(FULL, notes=("Teacher: x.", warning)), OTHER)
    first = (tmp_path / TEXT).read_text(encoding="utf-8").split("| Model |")[0]
    assert warning in first
    assert "Teacher" not in first


def test_the_page_has_everything_and_is_self_contained(tmp_path: Path) -> None:
    page = written(tmp_path, FULL, OTHER, FAILED)
    for text in (
        "Take MixedDistillation in 8 bits: no other model is within one point",
        "<h2>What they find in 8 bits</h2>",
        "&lt;bottles&gt; &amp; co",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "Teacher: &lt;the&gt; embedded one.",
        "Nothing else was timed.",
        "Padim in 8 bits, far below at 50.0 %",
        "It ended before all was done: see below.",
        "A CPU; 2 cores; AVX2",
        "anomalib 2.7.0",
        "2026-01-02 03:04",
        '<td class="n best">99.0</td>',
        "--good:",
    ):
        assert text in page
    assert "<script" not in page
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!#|data:)", page.replace('xlink:href="#', ""))
    assert page.count("<svg") == 2
    assert ">Padim</text>" in page.replace("\n", "")
    text = (tmp_path / TEXT).read_text(encoding="utf-8")
    assert "| MixedDistillation | 99.0 | 90.0 | 8 of 8 | 1 of 5 | 30 | 900 |" in text
    assert "| MixedDistillation | 98.0 | 8 of 8 | 0 of 5 |" in text
    assert "Seed: 7." in text


def test_without_figures_there_are_no_plots(tmp_path: Path) -> None:
    page = written(tmp_path, FAILED)
    assert "No recommendation: no model finished." in page
    assert "<svg" not in page
    assert "alert(1)" in page


def test_one_model_that_was_not_tested(tmp_path: Path) -> None:
    page = written(tmp_path, Row("Padim", latency=0.01, megabytes=3.0))
    assert "No recommendation: without both good and bad test parts" in page
    assert "<svg" not in page


@pytest.mark.parametrize("heights", [[0.5] * 4, [0.99, 0.95, 0.9], [0.0], [0.9, 0.1], [0.02, 0.0], [1.0] * 6 + [0.7]])
def test_names_cover_neither_each_other_nor_points(heights: list[float]) -> None:
    moved = spread(heights)
    assert all(high - low > APART - 1e-9 for high, low in itertools.pairwise(moved))
    assert moved[0] <= 1
    assert moved[-1] >= 0
    crowded = {point for point in heights if heights.count(point) > 1}
    assert all(abs(name - point) > APART - 1e-9 for name in moved for point in crowded)


def test_wishes_of_the_same_choice_are_one_sentence(tmp_path: Path) -> None:
    assert "The choice for verdicts, speed and size, too." in written(tmp_path, FULL)
    small = dataclasses.replace(OTHER, megabytes=1.0)
    assert "The choice for verdicts and speed, too." in written(tmp_path, FULL, small)
