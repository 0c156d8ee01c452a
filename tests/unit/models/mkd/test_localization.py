# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The written-out way back against autograd in float64."""

import pytest
import torch
from torch import Tensor, nn

from anomalib_mkd.distillation.losses import PyramidLoss
from anomalib_mkd.functional import flat_cosine_distance, value_distance
from anomalib_mkd.models.mkd.cloner import build_cloner
from anomalib_mkd.models.mkd.localization import discrepancy_gradient, input_gradient, kept_steps
from anomalib_mkd.networks.chain import Block, Chain, build_chain
from anomalib_mkd.types import Pyramid
from tests.networks import pictures, settle

BLOCKS = (
    Block((6, 6), None),
    Block((6, 8), "pool2"),
    Block((8, 8, 10), "pool3"),
    Block((8, 8, 12), "pool4"),
    Block((8, 8, 12), "pool5"),
)
SCORE_LAYERS = ("pool3", "pool4", "pool5")
SIZES = ((64, 64), (64, 70), (70, 76), (96, 102))
HALF = torch.tensor([1.0, 0.5], dtype=torch.float64)  # of direction and value


def loss() -> PyramidLoss:
    return PyramidLoss(direction=(flat_cosine_distance, 1.0), value=(value_distance, 0.5))


def networks() -> tuple[Chain, ...]:
    """A thin VGG and its student, in eval mode as after a training, in float64."""
    torch.manual_seed(0)
    teacher, student = build_chain(BLOCKS, bias=True), build_cloner(BLOCKS, "equal")
    for step in teacher.steps:
        if isinstance(step, nn.Conv2d) and step.bias is not None:
            nn.init.normal_(step.bias, std=0.1)
    settle(student)
    return tuple(network.double().eval().requires_grad_(requires_grad=False) for network in (teacher, student))


def walk(chain: Chain, images: Tensor, arriving: Pyramid, *, guided: bool = False) -> Tensor:
    outputs = chain.trace(images, keep=kept_steps(chain))
    return input_gradient(chain, outputs, arriving, guided=guided)


def written_out(teacher: Chain, student: Chain, images: Tensor, *, detach: bool, guided: bool = False) -> Tensor:
    t, s = teacher(images), student(images)
    to_student = {name: discrepancy_gradient(t[name], s[name], HALF) for name in SCORE_LAYERS}
    gradient = walk(student, images, to_student, guided=guided)
    if detach:
        return gradient
    return gradient + walk(
        teacher, images, {name: discrepancy_gradient(s[name], t[name], HALF) for name in SCORE_LAYERS}
    )


def by_autograd(teacher: Chain, student: Chain, images: Tensor, *, detach: bool) -> Tensor:
    images = images.clone().requires_grad_()
    t = teacher(images)
    if detach:
        t = {name: features.detach() for name, features in t.items()}
    loss().double().per_image(t, student(images), SCORE_LAYERS).sum().backward()
    assert images.grad is not None
    return images.grad


def relative_error(actual: Tensor, expected: Tensor) -> float:
    assert expected.abs().max() > 1e-9
    return float((actual - expected).abs().max() / expected.abs().max())


def test_hand_value_a() -> None:
    student = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64).view(1, 1, 2, 2)
    teacher = torch.full_like(student, 2.0)
    to_student = discrepancy_gradient(teacher, student, HALF).flatten().tolist()
    to_teacher = discrepancy_gradient(student, teacher, HALF).flatten().tolist()
    assert to_student == pytest.approx([-0.31085806, -0.03042903, 0.25, 0.53042903], abs=1e-8)
    assert to_teacher == pytest.approx([0.31846532, 0.02282177, -0.27282177, -0.56846532], abs=1e-8)


def test_gradient_of_a_level_equals_autograd_and_keeps_images_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.rand(2, 3, 5, 4, 7, generator=generator, dtype=torch.float64)
    student.requires_grad_()
    loss().double().per_image({"a": teacher}, {"a": student}).sum().backward()
    assert student.grad is not None
    gradient = discrepancy_gradient(teacher, student.detach(), HALF)
    assert relative_error(gradient, student.grad) < 1e-12


def test_the_direction_has_no_gradient_at_a_level_that_is_all_zero() -> None:
    student, teacher = torch.zeros(1, 3, 1, 1), torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    value_only = [-1 / 3, 0, 0]  # of 0.5 * mean((s - t)^2)
    assert discrepancy_gradient(teacher, student, HALF.float()).flatten().tolist() == pytest.approx(value_only)
    assert not discrepancy_gradient(student, student, HALF.float()).any()


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_the_way_back_equals_autograd(size: tuple[int, int], detach: bool) -> None:
    teacher, student = networks()
    images = pictures(3, *size).double()
    expected = by_autograd(teacher, student, images, detach=detach)
    assert relative_error(written_out(teacher, student, images, detach=detach), expected) < 1e-12


@pytest.mark.parametrize("detach", [True, False])
def test_the_guided_rule_holds_in_the_student_only(detach: bool) -> None:
    teacher, student = networks()
    images = pictures(3, 64, 70).double()
    actual = written_out(teacher, student, images, detach=detach, guided=True)
    for step in student.steps:
        if isinstance(step, nn.ReLU):
            step.register_full_backward_hook(lambda _module, arriving, _leaving: (arriving[0].clamp_min(0),))
    assert relative_error(actual, by_autograd(teacher, student, images, detach=detach)) < 1e-12


@pytest.mark.parametrize(("feature", "scale", "seen"), [(1.5, 1.0, True), (0.5, 1.0, False), (1.5, -1.0, False)])
def test_the_guided_rule_is_blind_where_the_student_falls_short(feature: float, scale: float, seen: bool) -> None:
    """The gradient of a squared difference is negative where the teacher answers more strongly, as it may at a defect.

    The rule was made for the gradient of one activation, which is 1. A BatchNorm of negative scale turns the sign, too.
    """
    chain = build_chain((Block((1, 1, 1), "pool1"),), bias=False, batch_norm=True).eval()
    for step in chain.steps:
        if isinstance(step, nn.Conv2d):
            nn.init.dirac_(step.weight)
    second = [step for step in chain.steps if isinstance(step, nn.BatchNorm2d)][1]
    nn.init.constant_(second.weight, scale)
    nn.init.constant_(second.bias, 0.0 if scale > 0 else 2 * feature)
    images = torch.full((1, 3, 2, 2), feature)
    student = chain(images)["pool1"].detach()
    assert student.item() == pytest.approx(feature, rel=1e-4)
    arriving = {"pool1": discrepancy_gradient(torch.ones_like(student), student, torch.tensor([0.0, 1.0]))}
    assert walk(chain, images, arriving).any()
    assert walk(chain, images, arriving, guided=True).any() == seen


@pytest.mark.parametrize("level", [0.25, 1.0])
@pytest.mark.parametrize("detach", [True, False])
def test_true_ties_are_broken_as_autograd_breaks_them(level: float, detach: bool) -> None:
    teacher, student = networks()
    images = torch.full((1, 3, 64, 64), level, dtype=torch.float64)
    pool = next(index for index, step in enumerate(student.steps) if isinstance(step, nn.MaxPool2d))
    windows = nn.functional.unfold(student.steps[:pool](images), 2, stride=2).view(-1, 4, 1024)
    tied = (windows == windows.amax(1, keepdim=True)).sum(1) > 1
    assert (tied & (windows.amax(1) > 0)).float().mean() > 0.2
    expected = by_autograd(teacher, student, images, detach=detach)
    assert relative_error(written_out(teacher, student, images, detach=detach), expected) < 1e-12


def test_taps_of_one_chain_are_walked_once_each() -> None:
    _, student = networks()
    images = pictures(1, 64).double()
    levels = {name: torch.ones_like(features) for name, features in student(images).items()}
    apart = sum(walk(student, images, {name: level}) for name, level in levels.items())
    assert relative_error(walk(student, images, levels), torch.as_tensor(apart)) < 1e-12
