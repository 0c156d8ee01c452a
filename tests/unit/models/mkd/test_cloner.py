# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The student's architecture against the numbers of the authors' code."""

from typing import Literal

import pytest
import torch
from torch import nn

from anomalib_mkd.models.mkd.cloner import build_cloner
from anomalib_mkd.networks.chain import Block, Chain
from tests.networks import pictures, tiny_teacher

VGG16 = (
    Block((64, 64), None),
    Block((128, 128), "pool2"),
    Block((256, 256, 256), "pool3"),
    Block((512, 512, 512), "pool4"),
    Block((512, 512, 512), "pool5"),
)
WIDTHS = {
    "smaller": [16, 16, 16, 128, 16, 16, 256, 16, 16, 512, 16, 16, 512],
    "equal": [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
}
PARAMETERS = {"smaller": 343_984, "equal": 14_715_968}


def convolutions(chain: Chain) -> list[nn.Conv2d]:
    return [step for step in chain.steps if isinstance(step, nn.Conv2d)]


@pytest.mark.parametrize("student", ["smaller", "equal"])
def test_architecture_of_the_paper(student: Literal["smaller", "equal"]) -> None:
    cloner = build_cloner(VGG16, student)
    assert sum(parameter.numel() for parameter in cloner.parameters()) == PARAMETERS[student]
    assert [step.out_channels for step in convolutions(cloner)] == WIDTHS[student]
    assert all(step.bias is None for step in convolutions(cloner))
    batch_norms = [step for step in cloner.steps if isinstance(step, nn.BatchNorm2d)]
    assert len(batch_norms) == 8
    assert all(step.affine and (step.eps, step.momentum) == (1e-5, 0.1) for step in batch_norms)
    assert len(cloner.steps) == 39
    assert cloner.taps == {"pool2": 11, "pool3": 20, "pool4": 29, "pool5": 38}


def test_buffers_of_the_smaller_student() -> None:
    assert sum(buffer.numel() for buffer in build_cloner(VGG16, "smaller").buffers()) == 264


@pytest.mark.parametrize("student", ["smaller", "equal"])
def test_no_convolution_before_a_pool_has_a_batch_norm(student: Literal["smaller", "equal"]) -> None:
    steps = list(build_cloner(VGG16, student).steps)
    pools = [index for index, step in enumerate(steps) if isinstance(step, nn.MaxPool2d)]
    assert len(pools) == 5
    for pool in pools:
        assert [type(step) for step in steps[pool - 2 : pool]] == [nn.Conv2d, nn.ReLU]


def test_shapes_of_the_taps() -> None:
    cloner = build_cloner(VGG16, "smaller")
    assert {name: tuple(features.shape) for name, features in cloner(pictures(2, 128)).items()} == {
        "pool2": (2, 128, 32, 32),
        "pool3": (2, 256, 16, 16),
        "pool4": (2, 512, 8, 8),
        "pool5": (2, 512, 4, 4),
    }
    assert cloner.eval()(pictures(3, 32))["pool5"].shape == (3, 512, 1, 1)


def test_learns_from_a_single_image_of_the_smallest_size() -> None:
    """At 32 pixels the deepest level has one position; a BatchNorm behind it would have no statistics of one image."""
    torch.manual_seed(0)
    cloner, image = build_cloner(VGG16, "smaller").train(), pictures(1, 32)
    optimizer = torch.optim.Adam(cloner.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = sum((features - 1).square().mean() for features in cloner(image).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in cloner.parameters())


def test_recipe_for_a_resnet() -> None:
    teacher = tiny_teacher("resnet18.tv_in1k")
    cloner = build_cloner(teacher.blocks(), "smaller", signed=teacher.signed)
    assert [step.out_channels for step in convolutions(cloner)] == [16, 16, 16, 64, 16, 16, 128, 16, 16, 256]
    assert all(step.bias is None for step in convolutions(cloner))
    images = pictures(2, 64)
    for name, features in teacher(images).items():
        assert cloner(images)[name].shape == features.shape


def test_a_student_of_negative_features_can_be_negative() -> None:
    teacher = tiny_teacher("efficientnet_b0.ra_in1k")
    torch.manual_seed(0)
    pyramid = build_cloner(teacher.blocks(), "smaller", signed=teacher.signed)(pictures(2, 64))
    assert all(features.min() < 0 for features in pyramid.values())
    assert all(features.min() >= 0 for features in build_cloner(VGG16, "smaller")(pictures(1, 64)).values())
