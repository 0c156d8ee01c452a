# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Learnt parts in thresholds, and thresholds in another precision; the rest is in tests of the post-processor."""

from __future__ import annotations

import numpy as np
import pytest

from anomalib_mkd.thresholds import (
    Fitted,
    Scale,
    as_varied,
    in_another_precision,
    pooled,
    scale_from_good,
    threshold_from_good,
)


def results(count: int, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Score, highest part and median of good parts, and the same in a precision with another zero and unit."""
    rng = np.random.default_rng(seed)
    before = np.sort(rng.lognormal(0, 0.2, (count, 3)), axis=0)
    return before, np.array([0.1, 0.2, 0.3]) + np.array([1.1, 0.9, 1.2]) * before + rng.normal(0, noise, before.shape)


def fitted(rows: np.ndarray) -> Fitted:
    scores, peaks, medians = rows.T
    return Fitted(scale_from_good(scores, scores), scale_from_good(peaks, medians), tuple(scores.tolist()))


def test_a_line_moves_all_that_lies_on_it() -> None:
    before, after = results(40)
    found, wanted = in_another_precision(fitted(before), before, after), fitted(after)
    for own, other in zip((found.image, found.pixel), (wanted.image, wanted.pixel), strict=True):
        assert (own.threshold, own.scale) == pytest.approx((other.threshold, other.scale))
    np.testing.assert_allclose(found.good_scores, wanted.good_scores)
    assert found.image.threshold == pytest.approx(threshold_from_good(found.good_scores))


def test_rounding_and_odd_parts_move_it_less_than_an_estimate_of_its_own() -> None:
    errors = []
    for seed in range(20):
        before, after = results(40, noise=0.01, seed=seed)  # a twentieth of the spread
        after[-2:, 0] += 3
        exact = 0.1 + 1.1 * fitted(before).image.threshold
        moved = in_another_precision(fitted(before), before, after)
        errors.append([abs(each.image.threshold - exact) for each in (moved, fitted(after))])
    by_line, anew = np.mean(errors, axis=0)
    assert by_line < 0.01 < anew / 2


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_parts_only_shift_it(count: int) -> None:
    before = np.linspace(1, 2, 3 * count).reshape(count, 3)
    own = Fitted(Scale(2.0, 1.0), Scale(3.0, 1.0), (1.0, 1.5))
    found = in_another_precision(own, before, 5 * before[::-1] if count > 1 else before + 0.5)
    shift = found.image.threshold - 2.0
    assert found.image.scale == pytest.approx(1.0)
    np.testing.assert_allclose(found.good_scores, [1.0 + shift, 1.5 + shift])
    assert np.isfinite(shift)


def test_what_was_learnt_by_heart_does_not_make_the_threshold_strict() -> None:
    """A long training halved the scores of learnt parts, and their spread twice."""
    rng = np.random.default_rng(0)
    others = rng.normal(0.4, 0.05, 1000)
    found = []
    for _ in range(20):
        held_out, learnt = rng.normal(0.4, 0.05, 10), rng.normal(0.2, 0.0125, 64)
        found.append(
            [(others > threshold_from_good(pooled(held_out, k))).mean() for k in (as_varied(learnt, held_out), learnt)]
        )
    varied, as_learnt = np.mean(found, axis=0)
    assert varied < 0.02
    assert as_learnt > 0.1


@pytest.mark.parametrize("held_out", [[], [1.0, 1.0], [2.0, 2.0]])
def test_learnt_parts_stay_as_they_are_where_they_score_no_lower(held_out: list[float]) -> None:
    assert as_varied([1.5, 2.0, 2.5], held_out).tolist() == [1.5, 2.0, 2.5]
    assert as_varied([-0.5, 0.0, 0.5], held_out).tolist() == [-0.5, 0.0, 0.5]  # no ratio
    assert as_varied([], held_out).tolist() == []
