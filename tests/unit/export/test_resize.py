# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The resizing that exports against torchvision's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import (
    CenterCrop,
    ColorJitter,
    Compose,
    Grayscale,
    InterpolationMode,
    Lambda,
    Normalize,
    Pad,
    RandomHorizontalFlip,
    Resize,
    Transform,
)

from anomalib_mkd.export.resize import AntialiasedResize, check_exportable, exportable
from tests.networks import pictures

SIZES = ((128, 128), (256, 256), (100, 180), (61, 300), (301, 97), (900, 1200))


@pytest.mark.parametrize("size", SIZES)
def test_equals_torchvision(size: tuple[int, int]) -> None:
    image = pictures(2, *size)
    for target in ((128, 128), (64, 96)):
        resized = AntialiasedResize(target)(image)
        assert resized.shape == (2, 3, *target)
        assert (resized - Resize(target, antialias=True)(image)).abs().max() < 1e-5


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = pictures(1, 64)
    assert torch.equal(AntialiasedResize((64, 64))(image), image)


@pytest.mark.parametrize("compose", [Compose, lambda steps: nn.Sequential(*steps)], ids=["Compose", "Sequential"])
def test_a_whole_transform_gives_what_it_gives_in_training(compose: Callable[[list[Any]], Any]) -> None:
    transform = compose([Resize((96, 96), antialias=True), Normalize([0.5] * 3, [0.25] * 3), CenterCrop((64, 64))])
    image = pictures(2, 200, 150)
    torch.testing.assert_close(exportable(transform)(image), transform(image), rtol=1e-5, atol=1e-5)


def test_what_was_not_antialiased_stays_so() -> None:
    image = pictures(1, 150)
    nearest = Resize((64, 64), interpolation=InterpolationMode.NEAREST)
    for transform in (Resize((64, 64), antialias=False), nearest):
        assert torch.equal(exportable(transform)(image), transform(image))


BILINEAR = Resize((64, 64), antialias=True)


@pytest.mark.parametrize(
    "transform",
    [
        None,
        Compose([BILINEAR, Normalize([0.5] * 3, [0.25] * 3), Compose([CenterCrop(48), Pad(3), Grayscale(3)])]),
        Resize((64, 64), antialias=False),
        Lambda(lambda image: image**0.5),
    ],
)
def test_what_a_graph_can_reproduce_is_accepted(transform: Transform | None) -> None:
    check_exportable(transform)


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (
            Resize((64, 64), interpolation=InterpolationMode.BICUBIC),
            r"got Resize\(size=\[64, 64\].*BICUBIC.*Use",
        ),
        (Compose([Resize(64)]), r"got Resize\(size=\[64\].*another form"),
        (Compose([BILINEAR, RandomHorizontalFlip(0.01)]), "got RandomHorizontalFlip, which is random. Move it to"),
        (ColorJitter(brightness=0.5), "got ColorJitter, which is random"),
    ],
)
def test_what_a_graph_cannot_is_refused_by_name(transform: Transform, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"Expected a pre-processor that an export can reproduce, {sentence}"):
        check_exportable(transform)


def test_depths_keep_their_digits_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor,
        "__matmul__",
        lambda *given: seen.append(torch.get_float32_matmul_precision()) or product(*given),
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as Lightning advises for GPUs: TF32
    try:
        AntialiasedResize((8, 8))(torch.rand(1, 1, 16, 16))
        assert set(seen) == {"highest"}
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
