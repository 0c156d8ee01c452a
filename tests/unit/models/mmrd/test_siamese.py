# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Shared convolutions, separate statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from anomalib_mkd.models.mmrd.siamese import SiameseTeacher
from anomalib_mkd.networks.teacher import Teacher
from tests.networks import pictures

LAYERS = ("layer1", "layer2", "layer3")


def make_teacher(*modalities: str) -> SiameseTeacher:
    torch.manual_seed(0)
    return SiameseTeacher(Teacher("resnet18.tv_in1k", pre_trained=False), modalities or ("rgb", "aux"))


def twice(images: Tensor) -> Tensor:
    return torch.cat((images, images), dim=1)


def shared(teacher: SiameseTeacher) -> bool:
    first, second = teacher.nets().values()
    pairs = zip(first.named_modules(), second.named_modules(), strict=True)
    convolutions = [(a, b) for (_, a), (_, b) in pairs if isinstance(a, nn.Conv2d)]
    return all(a.weight is b.weight for a, b in convolutions) and len(convolutions) > 10


def test_convolutions_are_one_and_stay_one() -> None:
    teacher = make_teacher()
    assert shared(teacher)
    assert shared(copy.deepcopy(teacher))
    other = make_teacher()
    other.load_state_dict(teacher.state_dict())
    assert shared(other.double())


def test_both_modalities_see_alike_until_statistics_are_estimated() -> None:
    teacher, images = make_teacher(), pictures(4, 64)
    before = teacher(twice(images))
    assert all(torch.equal(before[f"rgb {layer}"], before[f"aux {layer}"]) for layer in LAYERS)
    assert not teacher.estimated
    teacher.estimate([twice(images[:2]), twice(images[2:])])
    after = teacher(twice(images))
    for layer in LAYERS:
        assert torch.equal(after[f"rgb {layer}"], before[f"rgb {layer}"])
        assert not torch.allclose(after[f"aux {layer}"], before[f"aux {layer}"])
    assert teacher.estimated
    convolution, norm = teacher.others[0].conv1, teacher.others[0].bn1
    seen = convolution(images)
    torch.testing.assert_close(norm.running_mean, seen.mean(dim=(0, 2, 3)), atol=1e-6, rtol=1e-4)


def test_a_single_foreign_modality_has_its_own_statistics() -> None:
    teacher, images = make_teacher("aux"), pictures(4, 64)
    before = teacher(images)["aux layer1"]
    teacher.estimate([images])
    assert not torch.allclose(teacher(images)["aux layer1"], before)


def test_stays_in_eval_mode_and_frozen() -> None:
    teacher = make_teacher().train()
    teacher.estimate([twice(pictures(2, 64))])
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
