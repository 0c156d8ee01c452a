# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the torch models share, seen on the smallest of them."""

import pytest
import torch
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_mkd.distillation.losses import PyramidLoss
from anomalib_mkd.distillation.teacher_student import TeacherStudent
from anomalib_mkd.functional import value_distance
from anomalib_mkd.networks.chain import build_chain
from tests.networks import pictures, tiny_teacher


class Plain(TeacherStudent):
    """A student as wide as the teacher; the map is left out."""

    def __init__(self) -> None:
        teacher = tiny_teacher()
        super().__init__(teacher, build_chain(teacher.blocks(), bias=True), PyramidLoss(value=(value_distance, 1.0)))

    def forward(self, images: Tensor) -> InferenceBatch:
        return InferenceBatch(pred_score=self.loss.per_image(*self.pyramids(images)))


def test_only_the_student_is_learned() -> None:
    model = Plain()
    assert set(model.learned_parameters()) == set(model.student.parameters())


def test_known_features_of_the_teacher_are_not_computed_again() -> None:
    model, images = Plain(), pictures(2, 64)
    known = {name: features + 1 for name, features in model.teacher(images).items()}
    teacher, student = model.pyramids(images, known)
    assert teacher is known
    for fresh, again in zip(model.pyramids(images)[1].values(), student.values(), strict=True):
        assert torch.equal(fresh, again)


def test_the_teachers_features_hold_no_graph() -> None:
    model, images = Plain(), pictures(2, 64).requires_grad_()
    teacher, student = model.pyramids(images)
    assert not any(features.requires_grad for features in teacher.values())
    assert all(features.requires_grad for features in student.values())


def test_teacher_and_student_agree_at_the_smallest_and_at_odd_sizes() -> None:
    model = Plain()
    for size in ((32, 32), (33, 47), (95, 64)):
        teacher, student = model.pyramids(pictures(1, *size))
        assert {name: f.shape for name, f in teacher.items()} == {name: f.shape for name, f in student.items()}


@pytest.mark.parametrize(
    "shape", [(0, 3, 64, 64), (1, 1, 64, 64), (1, 4, 64, 64), (3, 64, 64), (1, 3, 31, 64), (1, 3, 64, 31)]
)
def test_images_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\) with N > 0 and H, W >= 32, got .*Pass RGB images"):
        Plain().pyramids(torch.zeros(shape))
