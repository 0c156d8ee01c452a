# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a defect that one modality shows leaves of itself, in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anomalib_mkd.functional import position_cosine_map
from anomalib_mkd.models.mmrd.fusion import MODALITY_FUSIONS, TARGET_FUSIONS


def at_one_position(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def turned(rgb: float, aux: float) -> tuple[Tensor, Tensor, Tensor]:
    """Orthogonal features of given lengths, and the colour's turned by 60 degrees in its own plane."""
    normal = at_one_position(rgb, 0, 0)
    defect = at_one_position(rgb * math.cos(math.pi / 3), rgb * math.sin(math.pi / 3), 0)
    return normal, defect, at_one_position(0, 0, aux)


@pytest.mark.parametrize(
    ("rgb", "aux", "expected"),
    [
        (1, 1, {"sum": 0.25, "mean": 0.25, "max": 0.25, "energy": 0.25, "nsum": 0.25}),
        (1, 3, {"sum": 0.05, "mean": 0.05, "max": 0.05, "energy": 0.0007, "nsum": 0.25}),
        (1, 10, {"sum": 0.005, "mean": 0.005, "max": 0.005, "energy": 0.0, "nsum": 0.25}),
        (3, 1, {"sum": 0.45, "mean": 0.45, "max": 0.45, "energy": 0.499, "nsum": 0.25}),
    ],
)
def test_a_defect_of_the_colour_alone_weakens_in_a_fused_target(
    rgb: float, aux: float, expected: dict[str, float]
) -> None:
    normal, defect, depth = turned(rgb, aux)
    assert position_cosine_map(normal, defect).item() == pytest.approx(0.5)
    for name, value in expected.items():
        fuse = TARGET_FUSIONS[name]
        seen = position_cosine_map(fuse(defect, depth), fuse(normal, depth)).item()
        assert seen == pytest.approx(value, abs=1e-3), name


def test_a_maximum_can_hide_a_defect_and_a_sum_cancel_two() -> None:
    normal, defect = at_one_position(0.2, 0.1, 0.3, 0.1), at_one_position(0.1, 0.3, 0.05, 0.3)
    depth = at_one_position(1, 0.9, 1.2, 0.8)
    assert position_cosine_map(normal, defect).item() == pytest.approx(0.441, abs=1e-3)
    for name, expected in (("max", 0.0), ("sum", 0.014)):
        fuse = TARGET_FUSIONS[name]
        seen = position_cosine_map(fuse(normal, depth), fuse(defect, depth)).item()
        assert seen == pytest.approx(expected, abs=1e-3), name
    swapped = TARGET_FUSIONS["sum"](depth, normal)
    assert position_cosine_map(TARGET_FUSIONS["sum"](normal, depth), swapped).item() == pytest.approx(0, abs=1e-12)


def test_variance_prefers_the_modality_that_varies() -> None:
    flat = torch.ones(1, 2, 5, 5)
    rough = flat * torch.linspace(0, 1, 5).view(1, 1, 1, 5)
    fused = TARGET_FUSIONS["variance"](rough, 3 * flat)
    torch.testing.assert_close(fused, rough, atol=1e-4, rtol=0)


def test_scaled_maps_show_what_the_larger_map_hides() -> None:
    """Normal (.02, .20), defect (.30, .21), normal peaks (.03, .25)."""
    scaled = [torch.tensor((0.30 - 0.02) / 0.01), torch.tensor((0.21 - 0.20) / 0.05)]
    for name, expected in {"zmax": 28.0, "zsum": 28.2, "rss": 28.0007, "p4": 28.0}.items():
        assert MODALITY_FUSIONS[name](*scaled).item() == pytest.approx(expected, abs=1e-4), name
    assert MODALITY_FUSIONS["sum"](torch.tensor(0.3), torch.tensor(0.21)).item() == pytest.approx(0.51)
    assert MODALITY_FUSIONS["joint"](torch.tensor(0.3), torch.tensor(0.21)).item() == pytest.approx(0.255)


@pytest.mark.parametrize("name", ["p4", "rss"])
def test_what_is_more_normal_than_usual_does_not_hide_the_rest(name: str) -> None:
    assert MODALITY_FUSIONS[name](torch.tensor(3.0), torch.tensor(-5.0)).item() == 3.0


def test_norms_gain_where_both_maps_are_high_and_pay_with_noise() -> None:
    """Noise of the other modality, here half as high as a defect, adds nothing to the larger one."""
    high, low = torch.tensor(2.0), torch.tensor(1.0)
    joined = {
        name: (MODALITY_FUSIONS[name](high, low).item(), MODALITY_FUSIONS[name](high, high).item())
        for name in ("zmax", "p4", "rss")
    }
    expected = {"zmax": (2, 2), "p4": (17**0.25, 32**0.25), "rss": (5**0.5, 8**0.5)}
    for name, pair in expected.items():
        assert joined[name] == pytest.approx(pair), name
