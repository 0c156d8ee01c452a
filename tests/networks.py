# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Images and networks that tests share: seeded, small, never downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anomalib_mkd.networks.chain import Chain
from anomalib_mkd.networks.teacher import Teacher

if TYPE_CHECKING:
    from anomalib_mkd.distillation.teacher_student import TeacherStudent


def pictures(count: int, height: int, width: int | None = None, *, seed: int = 0) -> Tensor:
    """Blurred noise ``(N, 3, H, W)`` in 0..1, of one amplitude per image."""
    noise = torch.rand(count, 3, height, width or height, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.avg_pool2d(noise, 3, 1, 1)
    low, high = smooth.amin((1, 2, 3), keepdim=True), smooth.amax((1, 2, 3), keepdim=True)
    return (smooth - low) / (high - low)


def tiny_teacher(backbone: str = "quickstart", layers: tuple[str, ...] | None = None) -> Teacher:
    """A teacher with random weights; the network of the embedded one unless another is named."""
    torch.manual_seed(0)
    return Teacher(backbone, layers, pre_trained=False)


def settle(network: nn.Module, seed: int = 0) -> None:
    """Set weights and statistics of every BatchNorm as after a training, all different."""
    generator = torch.Generator().manual_seed(seed)
    for step in network.modules():
        if isinstance(step, nn.BatchNorm2d):
            for values, low, high in (
                (step.weight, 0.5, 1.5),
                (step.bias, -0.2, 0.2),
                (step.running_mean, -0.2, 0.2),
                (step.running_var, 0.5, 2.0),
            ):
                values.data = low + (high - low) * torch.rand(values.shape, generator=generator).to(values)


def copy_teacher(model: TeacherStudent) -> None:
    """Make an ``equal`` student compute what its teacher, a chain without biases, computes; in eval mode."""
    assert isinstance(model.teacher.net, Chain)
    assert isinstance(model.student, Chain)
    sources = (step for step in model.teacher.net.steps if isinstance(step, nn.Conv2d))
    for step in model.student.steps:
        if isinstance(step, nn.Conv2d):
            step.load_state_dict({"weight": next(sources).weight})
        elif isinstance(step, nn.BatchNorm2d):
            step.reset_parameters()
            step.running_var.fill_(1 - step.eps)
