# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tables for programs and for readers."""

from __future__ import annotations

import csv
import dataclasses
import io

from anomalib_mkd.compare.rows import FINDS, NONE, RUNS, Row, table_csv, table_md

GOOD = Row(
    "Good",
    notes=("One.", "Two | three."),
    image_auroc=0.98765,
    caught=7,
    bad=8,
    false_alarms=0,
    good=5,
    latency=0.0123,
    latency_spread=0.0004,
    megabytes=7.04,
)
BROKEN = Row("Broken", reason="ValueError: a, b\nc")


def test_csv_has_every_value_in_plain_units() -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv([GOOD, BROKEN]))))
    assert [*rows[0]] == [field.name for field in dataclasses.fields(Row)]
    assert (rows[0]["image_auroc"], rows[0]["latency"], rows[0]["aupro"], rows[0]["stopped"]) == (
        *("0.98765", "0.0123"),
        *("", "0"),
    )
    assert rows[0]["notes"] == "One. Two | three."
    assert rows[1]["reason"] == "ValueError: a, b\nc"


def test_cells_for_readers() -> None:
    finds = {column.title: column.text(GOOD) for column in FINDS}
    assert finds["Image AUROC, %"] == "98.8"
    assert (finds["AUPRO, %"], finds["Bad parts caught"], finds["Good parts called bad"]) == (NONE, "7 of 8", "0 of 5")
    runs = {column.title: column.text(GOOD) for column in RUNS}
    assert runs["One image, f32, ms"] == "12.3 \N{PLUS-MINUS SIGN} 0.4"
    assert runs["One image, 8 bits, ms"] == NONE


def test_the_best_of_a_column() -> None:
    auroc, alarms = FINDS[0], FINDS[3]
    worse = dataclasses.replace(GOOD, model="Worse", image_auroc=0.5, false_alarms=2)
    same = dataclasses.replace(GOOD, model="Same", image_auroc=0.98771)  # written alike
    assert auroc.winners([GOOD, worse, same, BROKEN]) == {"Good", "Same"}
    assert alarms.winners([GOOD, worse]) == {"Good"}
    assert auroc.winners([GOOD, same]) == auroc.winners([BROKEN]) == set()


def test_markdown_has_the_sentence_the_tables_and_what_went_wrong() -> None:
    text = table_md([GOOD, BROKEN], "Take Good.", ["Seed: 0."])
    lines = text.splitlines()
    assert lines[0] == "Take Good."
    assert lines[2].startswith("| Model | Image AUROC, % | AUPRO, % |")
    assert lines[4].startswith("| Good | 98.8 | ")
    assert {line.count("|") for line in lines[2:6]} == {len(FINDS) + 2}
    assert "- **Broken**: ValueError: a, b c" in lines
    assert "- **Good**: Two | three." in lines
    assert lines[-1] == "Seed: 0."
