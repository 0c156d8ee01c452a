# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

import math

import pytest
import torch

from anomalib_mkd.results.predictions import Prediction
from anomalib_mkd.results.report.gallery import SIDE, TESTED, TRAINED, Gallery


def row(score: float, *, truth: bool | None, category: str = "", file: str = "") -> Prediction:
    return Prediction(file or f"{score}.png", score, not score <= 0.5, 0.5, category=category, truth=truth)


def scores(gallery: Gallery, name: str) -> list[float]:
    return [exhibit.prediction.score for exhibit in gallery.shown(name)]


def test_groups_hold_what_their_names_say_in_any_order_of_the_pictures() -> None:
    bad = [row(i / 100, truth=True) for i in range(40, 60)]
    good = [row(i / 100, truth=False) for i in range(30, 55)]
    rows = bad + good
    rows = [rows[i] for i in torch.randperm(len(rows)).tolist()]
    gallery = Gallery()
    for each in rows:
        gallery.add(each)
    assert scores(gallery, "missed") == [i / 100 for i in range(40, 51)]
    assert scores(gallery, "false alarms") == [0.54, 0.53, 0.52, 0.51]
    assert scores(gallery, "bad, highest") == [0.59, 0.58, 0.57, 0.56]
    assert scores(gallery, "bad, lowest") == [0.4, 0.41, 0.42, 0.43]
    assert scores(gallery, "good, highest") == [0.54, 0.53, 0.52, 0.51]
    assert scores(gallery, "good, lowest") == [0.3, 0.31, 0.32, 0.33]
    assert not any(gallery.shown(name) for name in ("no score", "highest", "lowest"))


def test_without_truth_the_ends_of_the_scores_are_kept() -> None:
    gallery = Gallery()
    for i in range(30):
        gallery.add(row(i / 100, truth=None))
    assert scores(gallery, "highest") == [i / 100 for i in range(29, 17, -1)]
    assert scores(gallery, "lowest") == [0.0, 0.01, 0.02, 0.03]


@pytest.mark.parametrize("truth", [True, False, None])
def test_a_score_that_is_no_number_has_its_own_group(truth: bool | None) -> None:
    gallery = Gallery()
    gallery.add(row(math.nan, truth=truth))
    assert [group.name for group in TESTED if gallery.shown(group.name)] == ["no score"]


def test_no_more_maps_are_kept_than_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery()
    reduced = []
    original = Gallery.add.__globals__["_reduced"]
    monkeypatch.setitem(Gallery.add.__globals__, "_reduced", lambda values: reduced.append(1) or original(values))
    for i in range(2000):
        gallery.add(row(0.4 + (i * 7919 % 2000) / 1e4, truth=bool(i % 2)), torch.zeros(1, 8, 8))
    assert sum(len(gallery.shown(group.name)) for group in TESTED) <= sum(group.size for group in TESTED)
    assert len(reduced) < 300  # the others are not even looked at


def test_training_pictures_are_kept_of_every_category() -> None:
    gallery = Gallery(TRAINED)
    for category in "ab":
        for i in range(20):
            gallery.add(row(i + 100 * (category == "b"), truth=False, category=category))
    assert sorted(scores(gallery, "training")) == [*range(8, 20), *range(108, 120)]


def test_reduced_maps_keep_their_peak_and_masks_their_defect() -> None:
    values, mask = torch.zeros(1, 700, 1400), torch.zeros(700, 1400, dtype=torch.int)
    values[0, 333, 777] = 5.0
    mask[333, 777] = 255
    gallery = Gallery()
    gallery.add(row(0.9, truth=True), values, mask)
    (exhibit,) = gallery.shown("bad, highest")
    assert exhibit.anomaly_map is not None
    assert exhibit.mask is not None
    assert exhibit.anomaly_map.shape == exhibit.mask.shape == (SIDE // 2, SIDE)
    assert exhibit.anomaly_map.max() == 5
    assert exhibit.mask.dtype == bool
    assert exhibit.mask.any()
    assert (exhibit.anomaly_map > 0).tolist() == exhibit.mask.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_small_maps_of_any_precision_are_copied(dtype: torch.dtype) -> None:
    values = torch.rand(3, 5).to(dtype)
    expected = values.float().clone()
    gallery = Gallery()
    gallery.add(row(0.9, truth=None), values)
    values.zero_()  # a batch's memory may be used again
    (exhibit,) = gallery.shown("highest")
    assert exhibit.anomaly_map is not None
    torch.testing.assert_close(torch.from_numpy(exhibit.anomaly_map), expected)
