# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Rows of predictions, boxes of regions, and the table that holds them."""

from __future__ import annotations

import csv
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from anomalib_mkd.results.predictions import (
    HEADER,
    Prediction,
    _in_file,
    highest_region,
    kind_of,
    place_of,
    predictions_of,
    write_csv,
)
from anomalib_mkd.results.report.outliers import write_suspicious

if TYPE_CHECKING:
    from pathlib import Path


def batch(**changes: Any) -> SimpleNamespace:
    """Two images, the second one bad, with a spot in its map."""
    maps = torch.zeros(2, 1, 10, 20)
    maps[1, 0, 2:4, 5:9] = 0.9
    fields: dict[str, Any] = {
        "image_path": ["a/good/0.png", "a/dent/1.png"],
        "pred_score": torch.tensor([0.2, 0.8]),
        "pred_label": torch.tensor([False, True]),
        "gt_label": torch.tensor([0, 1]),
        "anomaly_map": maps,
    }
    return SimpleNamespace(**{**fields, **changes})


def test_a_row_says_what_is_known_of_a_picture() -> None:
    good, bad = predictions_of(batch(), ["bolt", None], 0.5, 0.5)
    assert good == Prediction("a/good/0.png", pytest.approx(0.2), False, 0.5, "bolt", "good", False, None)
    assert bad == Prediction("a/dent/1.png", pytest.approx(0.8), True, 0.5, "", "dent", True, None)  # no such file


def test_without_truth_threshold_or_maps_those_stay_unknown() -> None:
    rows = predictions_of(batch(gt_label=None, anomaly_map=None), [None, None], None)
    assert [(row.bad, row.threshold, row.truth, row.box) for row in rows] == [(None,) * 4] * 2
    assert [row.bad for row in predictions_of(batch(pred_label=None), [None, None], 0.5)] == [None, None]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("threshold", [0.5, None])
def test_a_score_that_is_not_finite_is_never_good(score: float, threshold: float | None) -> None:
    scores, labels = torch.tensor([score, 0.8]), torch.tensor([False, True])
    row = predictions_of(batch(pred_score=scores, pred_label=labels), [None, None], threshold)[0]
    assert row.bad is True


def test_a_map_that_is_not_finite_has_no_box() -> None:
    maps = torch.full((2, 1, 4, 4), float("nan"))
    assert predictions_of(batch(anomaly_map=maps), [None, None], 0.5, 0.5)[1].box is None


def test_a_box_is_in_pixels_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.new("RGB", (60, 40)).save(path)  # three times as wide and four times as high as the map
    given = batch(image_path=["a/good/0.png", str(path)])
    row = predictions_of(given, [None, None], 0.5, 0.5)[1]
    assert row.box == (15, 8, 27, 16)
    assert predictions_of(given, [None, None], 0.5, 0.5, boxes=lambda file: file != str(path))[1].box is None


def test_a_file_of_too_many_pixels_has_no_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (30, 20)).save(file := tmp_path / "line.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert _in_file((0, 0, 1, 1), (2, 3), file) is None


@pytest.mark.parametrize(
    ("path", "root", "place", "kind"),
    [
        ("/data/part/test/dent/lot1/0.png", "/data/part", "dent/lot1/0.png", "dent"),
        ("/data/part/test/good/0.png", None, "good/0.png", "good"),
        ("/test/part/bad/0.png", "/test/part", "bad/0.png", "bad"),  # the folder "test" is above the data
        ("/data/part/test/0.png", "/data/part", "test/0.png", "test"),
        ("/data/part/test/dent/rgb/0.png", "/data/part", "dent/rgb/0.png", "dent"),
        ("0.png", None, "0.png", ""),
    ],
)
def test_a_kind_is_the_folder_below_test(path: str, root: str | None, place: str, kind: str) -> None:
    assert place_of(path, root).as_posix() == place
    assert kind_of(path, root) == kind


def test_the_highest_region_is_the_one_around_the_highest_pixel() -> None:
    values = torch.zeros(8, 8)
    values[0:5, 0:3] = 0.6  # larger, but lower
    values[6, 6] = 0.7
    values[5, 5] = 0.6  # touches the highest by a corner
    assert highest_region(values, 0.5) == (5, 5, 7, 7)
    assert highest_region(values, 0.65) == (6, 6, 7, 7)
    assert highest_region(values, None) == highest_region(values, 0.8) == (5, 5, 7, 7)  # the upper half of the range


def test_a_flat_map_is_one_region() -> None:
    assert highest_region(torch.zeros(3, 5), 0.5) == (0, 0, 5, 3)


def test_the_table_keeps_any_name(tmp_path: Path) -> None:
    names = ['a,"b".png', "<script>.png", "line\nbreak.png", "über.png", b"\xff.png".decode("utf-8", "surrogateescape")]
    rows = [Prediction(name, 0.123456789, False, 0.5) for name in names]
    write_csv(tmp_path / "predictions.csv", rows)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["file"] for row in read] == names
    assert list(read[0]) == list(HEADER)
    assert (read[0]["score"], read[0]["label"], read[0]["truth"], read[0]["x0"]) == ("0.123457", "good", "", "")


def test_no_name_is_a_formula_in_a_table(tmp_path: Path) -> None:
    rows = [Prediction(name, 0.1, False, 0.5) for name in ("=1.png", "@parts/2.png", "a/-3.png")]
    write_csv(tmp_path / "predictions.csv", rows)
    write_suspicious(tmp_path / "suspicious.csv", [(row, 1.0) for row in rows])
    for name in ("predictions.csv", "suspicious.csv"):
        with (tmp_path / name).open(newline="") as file:
            assert [row["file"] for row in csv.DictReader(file)] == ["./=1.png", "./@parts/2.png", "a/-3.png"]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")

    def rows() -> Any:
        yield Prediction("0.png", 0.1, False, 0.5)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # as raised above
        write_csv(path, rows())
    assert path.read_text() == "old"
