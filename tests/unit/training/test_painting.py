# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Painting over training images."""

import pytest
import torch
from anomalib.data import ImageBatch
from torch import Tensor

from anomalib_mkd import Dcam, MixedDistillation
from anomalib_mkd.training.painting import AREA, paint_over


@pytest.fixture
def images() -> Tensor:
    """Six different images, normalised, of a shape that is no square."""
    torch.manual_seed(0)
    return torch.randn(6, 3, 64, 96) * torch.arange(1, 7).view(6, 1, 1, 1)


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Share of each image's pixels that differ."""
    return (before != after).any(dim=1).float().mean(dim=(1, 2))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_or_all_are_painted_on(images: Tensor, share: float) -> None:
    """The share is a probability of each image."""
    before = images.clone()
    for _ in range(20):
        assert bool(((changed(images, paint_over(images, share)) > 0) == (share == 1)).all())
    assert torch.equal(images, before)


def test_a_share_of_the_pictures_is_painted_on(images: Tensor) -> None:
    """On average half of them, and not the same ones each time."""
    painted = torch.stack([changed(images, paint_over(images, 0.5)) > 0 for _ in range(100)])
    assert 0.4 < painted.float().mean() < 0.6
    assert 0 < painted.sum(dim=0).min() < painted.sum(dim=0).max() < 100


def test_painted_areas_keep_to_their_bounds(images: Tensor) -> None:
    """From about a hundredth to about a tenth of the pixels, all three ways of painting included."""
    areas = torch.stack([changed(images, paint_over(images, 1.0)) for _ in range(50)])
    assert AREA[0] * 0.5 < areas.min()
    assert areas.min() < 0.03
    assert 0.09 < areas.max() < AREA[1] + 0.001


def test_colours_stay_in_the_pictures_own_range() -> None:
    """Paint is drawn around the batch's mean, in units of its spread: no range of values is assumed."""
    images = torch.rand(4, 3, 64, 64) * 0.01 + 7
    painted = torch.cat([paint_over(images, 1.0) for _ in range(20)])
    assert (painted - 7).abs().max() < 0.05


def test_one_picture_alone_can_be_painted_on() -> None:
    """The last batch of an epoch may hold a single one."""
    image = torch.randn(1, 3, 32, 32)
    assert changed(image, paint_over(image, 1.0)) > 0


def test_a_seed_paints_the_same(images: Tensor) -> None:
    """A seeded training can be repeated."""
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(paint_over(images, 0.5))
    assert torch.equal(*results)


@pytest.mark.parametrize("model", [MixedDistillation, Dcam])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_only_the_student_sees_paint(
    model: type[MixedDistillation | Dcam], share: float, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it learns from are the teacher's features of the clean images."""
    module = model(weights="quickstart", student_width=0.25, painted_share=share, student_precision="f32")
    monkeypatch.setattr(module, "log", lambda *_args, **_options: None)
    module.model.teacher.prepare()
    seen: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    for name, tensors in seen.items():
        network = getattr(module.model, name)
        network.register_forward_pre_hook(lambda _, given, tensors=tensors: tensors.append(given[0]))
    loss = module.training_step(ImageBatch(image=images))
    assert torch.isfinite(loss)
    assert len(seen["teacher"]) == len(seen["student"]) == 1
    assert torch.equal(seen["teacher"][0], images)
    assert bool(((changed(images, seen["student"][0]) > 0) == (share == 1)).all())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """It is a probability."""
    with pytest.raises(ValueError, match="Expected painted_share >= 0 and <= 1, got"):
        MixedDistillation(pre_trained=False, painted_share=share)


def test_no_share_draws_no_random_number(images: Tensor) -> None:
    """A training without paint shuffles its images as it did before there was paint."""
    before = torch.get_rng_state()
    assert paint_over(images, 0.0) is images
    assert torch.equal(before, torch.get_rng_state())
