# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

import math

import numpy as np
import pytest
import torch

from anomalib_mkd.functional import linear_scale
from anomalib_mkd.results.predictions import Prediction
from anomalib_mkd.results.report.outliers import most_suspicious, robust_distances
from anomalib_mkd.thresholds import SUSPECT, soft_scale


def test_distances_are_standard_deviations_of_a_normal_distribution() -> None:
    scores = np.random.default_rng(0).normal(5, 2, 20_000)
    np.testing.assert_allclose(robust_distances(scores), (scores - 5) / 2, atol=0.1)


def test_a_few_defects_among_good_parts_lie_far_outside_and_move_nothing() -> None:
    good = np.random.default_rng(0).normal(0.3, 0.02, 97)
    distances = robust_distances(np.append(good, [0.6, 0.7, 0.9]))
    assert (distances > SUSPECT).nonzero()[0].tolist() == [97, 98, 99]
    np.testing.assert_allclose(distances[:97], robust_distances(good), atol=0.3)


def test_equal_scores_have_no_outlier() -> None:
    assert not robust_distances(np.full(10, 0.4)).any()
    assert not robust_distances(np.full(1, 0.4)).any()


def test_mostly_equal_scores_still_have_a_spread() -> None:
    distances = robust_distances(np.array([0.0] * 19 + [1.0]))
    assert distances[-1] > SUSPECT
    assert not distances[:-1].any()


def test_categories_are_compared_within_themselves_and_what_is_no_number_comes_first() -> None:
    def rows(category: str, scores: list[float]) -> list[Prediction]:
        return [Prediction(f"{category}{score}", score, False, 0.5, category=category) for score in scores]

    spread = [0.1, 0.2, 0.3, 0.4, 0.5]
    ranked = most_suspicious(rows("a", [*spread, 2.0]) + rows("b", [10 + x for x in spread]) + rows("b", [math.nan]))
    assert [row.file for row, _ in ranked[:2]] == ["bnan", "a2.0"]
    assert [row.file for row, distance in ranked if distance > SUSPECT] == ["bnan", "a2.0"]


def test_scores_are_compared_on_the_given_scale() -> None:
    linear = [-1.0, -0.9, -0.8, -0.7, 5.0]
    rows = [Prediction(f"{x}", float(soft_scale(torch.tensor(x, dtype=torch.float64))), False, 0.5) for x in linear]
    ranked = most_suspicious(rows, linear_scale)
    assert [distance for _, distance in ranked] == pytest.approx(robust_distances(np.array(linear[::-1])))


def test_no_pictures() -> None:
    assert most_suspicious([]) == []
