# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The loss's recipe by hand."""

import pytest
import torch

from anomalib_mkd.models.mkd.loss import mkd_loss

TEACHER = {"pool5": torch.tensor([[1.0, 0, 0], [0, 0, 3]]).view(2, 3, 1, 1)}
STUDENT = {"pool5": torch.tensor([[1.0, 0, 0], [0, 2, 0]]).view(2, 3, 1, 1)}


def test_hand_value_b() -> None:
    parts = mkd_loss(0.5)(TEACHER, STUDENT)
    assert parts["loss"].item() == pytest.approx(1.58333333)
    assert parts["direction"].item() == pytest.approx(0.5)
    assert parts["value"].item() == pytest.approx((4 + 9) / 3 / 2)


def test_without_weight_the_direction_is_left() -> None:
    assert mkd_loss(0.0)(TEACHER, STUDENT)["loss"].item() == pytest.approx(0.5)
