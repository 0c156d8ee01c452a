# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Chains: which steps they take, how they are built, what they give out."""

import pytest
import torch
from torch import nn

from anomalib_mkd.networks.chain import Block, Chain, build_chain, is_step
from tests.networks import pictures

BLOCKS = (Block((4, 6), None), Block((4, 8), "pool2"), Block((4, 10), "pool3"))


def kinds(chain: Chain) -> str:
    """One letter per step: Convolution, BatchNorm, ReLU, MaxPool."""
    return "".join(type(step).__name__[0] for step in chain.steps)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), True),
        (nn.MaxPool2d(2), True),
        (nn.BatchNorm2d(8), True),
        (nn.ReLU(), True),
        (nn.Conv2d(3, 8, 3), False),
        (nn.Conv2d(3, 8, 5, padding=1), False),
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), False),
        (nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), False),
        (nn.MaxPool2d(3, stride=2), False),
        (nn.MaxPool2d(2, ceil_mode=True), False),
        (nn.AvgPool2d(2), False),
        (nn.LeakyReLU(), False),
    ],
    ids=repr,
)
def test_only_steps_whose_way_back_is_written_out(step: nn.Module, expected: bool) -> None:
    assert is_step(step) is expected


def test_another_step_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected a chain of 3x3 convolutions.*got Sigmoid\(\)"):
        Chain([nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid()], {"last": 1})


def test_pattern_of_a_teacher_and_of_a_student() -> None:
    assert kinds(build_chain(BLOCKS, bias=True)) == "CRCRM" * 3
    assert kinds(build_chain(BLOCKS, bias=False, batch_norm=True)) == "CBRCRM" * 3
    # a tap that may be negative: no ReLU at its end, and only there
    assert kinds(build_chain(BLOCKS, bias=False, batch_norm=True, signed=True)) == "CBRCRM" + "CBRCM" + "CBRCM"


def test_start_values_are_xavier_uniform_without_bias() -> None:
    torch.manual_seed(0)
    chain = build_chain((Block((64, 64), "pool1"),), bias=True)
    for step, fan in ((chain.steps[0], 9 * (3 + 64)), (chain.steps[2], 9 * (64 + 64))):
        assert isinstance(step, nn.Conv2d)
        assert step.bias is not None
        assert not step.bias.any()
        bound = (6 / fan) ** 0.5
        assert 0.95 * bound < step.weight.abs().max() <= bound


def test_taps_are_the_outputs_of_their_steps_in_order() -> None:
    chain = build_chain(BLOCKS, bias=True)
    images = pictures(2, 64, 48)
    pyramid = chain(images)
    assert {name: tuple(features.shape) for name, features in pyramid.items()} == {
        "pool2": (2, 8, 16, 12),
        "pool3": (2, 10, 8, 6),
    }
    assert torch.equal(pyramid["pool2"], chain.steps[: chain.taps["pool2"] + 1](images))
    assert torch.equal(pyramid["pool3"], chain.steps(images))
    assert list(chain.trace(images, keep={1, 3})) == [1, 3]


def test_steps_behind_the_deepest_tap_are_left_out() -> None:
    steps = list(build_chain(BLOCKS, bias=True).steps)
    assert len(Chain(steps, {"first": 4}).steps) == 5


def test_training_has_the_values_and_gradients_of_the_steps_in_order() -> None:
    chain = build_chain(BLOCKS, bias=True)
    images = pictures(2, 32)
    found = []
    for training in (False, True):
        chain.train(training).zero_grad()
        pyramid = chain(images)
        sum(level.square().sum() for level in pyramid.values()).backward()  # type: ignore[union-attr]
        found.append([*pyramid.values(), *(weights.grad for weights in chain.parameters())])
    for in_order, fast in zip(*found, strict=True):
        assert torch.equal(in_order, fast)  # type: ignore[arg-type]


def test_training_returns_every_output_that_is_asked_for() -> None:
    chain = build_chain(BLOCKS, bias=True)
    images, every = pictures(2, 32), range(len(chain.steps))
    for index, output in chain.eval().trace(images, every).items():
        assert torch.equal(chain.train().trace(images, every)[index], output)
