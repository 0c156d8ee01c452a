# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The one map generator against anomalib's, and product against sum by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import pytest
import torch
from anomalib.models.image.stfpm.anomaly_map import AnomalyMapGenerator as StfpmMapGenerator

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator

if TYPE_CHECKING:
    from anomalib_mkd.types import Pyramid


def pyramid(seed: int) -> Pyramid:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"layer1": (2, 8, 16, 24), "layer2": (2, 16, 8, 12), "layer3": (2, 32, 4, 6)}
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_the_product_is_anomalibs(size: tuple[int, int]) -> None:
    teacher, student = pyramid(0), pyramid(1)
    expected = StfpmMapGenerator()(teacher_features=teacher, student_features=student, image_size=size)
    torch.testing.assert_close(AnomalyMapGenerator("product")(teacher, student, size), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("cosines", "product", "total"),
    [((0.5, 0.5, 0.5), 0.125, 1.5), ((0.9, 0.9, 0.1), 0.009, 1.1), ((0.99, 0.99, 0.0), 1e-4, 1.02)],
)
def test_one_level_that_matches_hides_the_others_from_a_product(
    cosines: tuple[float, ...], product: float, total: float
) -> None:
    """One position per level; the vectors enclose the given angles."""
    teacher = {str(level): torch.tensor([1.0, 0.0]).view(1, 2, 1, 1) for level in range(3)}
    student = {
        str(level): torch.tensor([cosine, math.sqrt(1 - cosine**2)]).view(1, 2, 1, 1)
        for level, cosine in enumerate(cosines)
    }
    fusions: dict[Literal["sum", "product"], float] = {"product": product, "sum": total}
    for level_fusion, expected in fusions.items():
        anomaly_map = AnomalyMapGenerator(level_fusion)(teacher, student, (4, 4))
        assert anomaly_map.shape == (1, 1, 4, 4)
        torch.testing.assert_close(anomaly_map, torch.full((1, 1, 4, 4), expected), rtol=0, atol=1e-6)


def test_the_blur_keeps_the_mean_and_lowers_the_peak() -> None:
    teacher, student = pyramid(0), pyramid(1)
    sharp, blurred = (AnomalyMapGenerator("sum", sigma)(teacher, student, (64, 96)) for sigma in (0.0, 2.0))
    torch.testing.assert_close(blurred.mean(), sharp.mean(), rtol=0.02, atol=0)
    assert blurred.max() < sharp.max()
