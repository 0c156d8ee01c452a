# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds of an export in 8 bits."""

from __future__ import annotations

import pytest
import torch

from anomalib_mkd.category_post_processor import STATISTICS
from anomalib_mkd.export.finishing import fitted_before, fitted_in_8_bits
from anomalib_mkd.post_processor import SoftPostProcessor, fit_good, group_number
from anomalib_mkd.thresholds import Scale


def test_a_category_without_thresholds_of_its_own_is_exported_with_the_common_ones() -> None:
    made = SoftPostProcessor()
    made.set_scales(Scale(2.0, 1.0), Scale(4.0, 2.0))
    made.good_scores = [1.0]
    row = {name: 3.0 if "max" in name or "threshold" in name else 1.0 for name in STATISTICS}
    made.table = {"own": {**row, "good_scores": [0.5]}, "few": {}}
    common, of = fitted_before(made)
    assert of == {"own": (Scale(3.0, 2.0), Scale(3.0, 2.0), (0.5,)), "few": common}


@pytest.mark.parametrize("alone", [False, True])
def test_a_common_threshold_that_was_moved_alone_stays_so(alone: bool) -> None:
    """By a validation without categories; otherwise it is the highest of the categories'."""
    low = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    low[:, 3] = group_number("low")
    high = low + torch.tensor([5.0, 5.0, 0.0, 0.0])
    high[:, 3] = group_number("high")
    none = low[:0]
    of = {name: fit_good(rows, none, 0.01) for name, rows in (("low", low), ("high", high))}
    before = fit_good(low + 1, none, 0.01) if alone else of["high"]
    full = torch.cat([low, high]), none
    rounded = full[0] + torch.tensor([0.5, 0.5, 0.0, 0.0]), none
    after, categories = fitted_in_8_bits(SoftPostProcessor(), (before, of), full, rounded)
    assert after.image.threshold == pytest.approx(before.image.threshold + 0.5)
    assert categories["high"].image.threshold == pytest.approx(of["high"].image.threshold + 0.5)
