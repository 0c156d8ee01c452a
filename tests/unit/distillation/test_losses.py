# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Sums of named distances over levels."""

import pytest
import torch

from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.functional import flat_cosine_distance, value_distance
from anomalib_mkd.types import Pyramid

TEACHER = {"a": torch.full((2, 1, 2, 2), 1.0), "b": torch.full((2, 1, 2, 2), 2.0)}
STUDENT = {name: torch.zeros_like(features) for name, features in TEACHER.items()}


def pyramid(seed: int) -> Pyramid:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.rand(3, 2, 8, 8, generator=generator), "b": torch.rand(3, 4, 4, 4, generator=generator)}


def loss() -> PyramidLoss:
    return PyramidLoss(direction=(flat_cosine_distance, 1.0), value=(value_distance, 0.25))


def test_levels_and_terms_are_summed_with_the_weight_on_its_term() -> None:
    teacher, student = pyramid(0), pyramid(1)
    expected = sum(
        flat_cosine_distance(teacher[name], student[name]) + 0.25 * value_distance(teacher[name], student[name])
        for name in teacher
    )
    torch.testing.assert_close(loss().per_image(teacher, student), expected)


def test_training_minimises_the_mean_of_what_scores_an_image() -> None:
    teacher, student = pyramid(0), pyramid(1)
    parts = loss()(teacher, student)
    torch.testing.assert_close(parts["loss"], loss().per_image(teacher, student).mean())
    torch.testing.assert_close(parts["loss"], parts["direction"] + 0.25 * parts["value"])


def test_parts_for_the_log_hold_no_graph() -> None:
    teacher, student = pyramid(0), pyramid(1)
    student["a"].requires_grad_()
    parts = loss()(teacher, student)
    assert {name: part.requires_grad for name, part in parts.items()} == {
        "direction": False,
        "value": False,
        "loss": True,
    }


def test_levels_can_be_chosen() -> None:
    teacher, student = pyramid(0), pyramid(1)
    only = loss().per_image(teacher, student, ["b"])
    torch.testing.assert_close(only, loss().per_image({"b": teacher["b"]}, {"b": student["b"]}))


def test_weights_travel_with_the_checkpoint() -> None:
    source, target = loss(), loss()
    source.weights[1] = 7.0
    target.load_state_dict(source.state_dict())
    assert target.weights.tolist() == [1.0, 7.0]


def test_levels_of_different_shape_are_refused() -> None:
    teacher, student = pyramid(0), pyramid(1)
    student["b"] = student["b"][:, :2]
    with pytest.raises(
        ValueError, match=r"equal shape at 'b', got \(3, 4, 4, 4\) and \(3, 2, 4, 4\)\. Build the student"
    ):
        loss()(teacher, student)


def test_each_term_sums_over_its_own_levels() -> None:
    loss = PyramidLoss(all=(value_distance, 1.0), deep=Term(value_distance, 0.5, ["b"]))
    parts = loss(TEACHER, STUDENT)
    assert {name: value.item() for name, value in parts.items()} == {"all": 5.0, "deep": 4.0, "loss": 7.0}
    assert loss.per_image(TEACHER, STUDENT).tolist() == [7.0, 7.0]
    assert loss.per_image(TEACHER, STUDENT, ["a"]).tolist() == [1.5, 1.5]


def test_the_sum_keeps_its_precision_under_autocast() -> None:
    """Weights times terms must not become a matrix product in half precision."""
    loss = PyramidLoss(value=(value_distance, 1.001))
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(TEACHER, STUDENT)["loss"].item() == pytest.approx(5.005, abs=1e-5)
        assert loss.per_image(TEACHER, STUDENT)[0].item() == pytest.approx(5.005, abs=1e-5)
