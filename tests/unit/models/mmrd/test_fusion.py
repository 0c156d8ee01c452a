# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How much of a defect that only one modality shows is left, in closed form."""

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


@pytest.mark.parametrize(("rgb", "aux", "expected"), [(1, 1, 0.25), (1, 3, 0.05), (1, 10, 0.005), (3, 1, 0.45)])
def test_a_defect_of_the_colour_alone_weakens_in_a_mean(rgb: float, aux: float, expected: float) -> None:
    """By ``r^2 / (r^2 + a^2)``."""
    normal, defect, depth = turned(rgb, aux)
    assert position_cosine_map(normal, defect).item() == pytest.approx(0.5)
    fuse = TARGET_FUSIONS["mean"]
    found = position_cosine_map(fuse(defect, depth), fuse(normal, depth)).item()
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_mean_cancels_two_defects() -> None:
    colour, depth = at_one_position(0.2, 0.1, 0.3, 0.1), at_one_position(1, 0.9, 1.2, 0.8)
    fuse = TARGET_FUSIONS["mean"]
    torch.testing.assert_close(fuse(colour, depth), fuse(depth, colour))


def test_modulation_weighs_each_position_by_the_difference_over_its_channels() -> None:
    """Squared differences (4, 0) and (1, 3): means 2 and 2; (0, 0): mean 0; (8, 0): mean 4."""
    rgb = torch.tensor([[2.0, 1.0, 5.0], [1.0, 0.0, -1.0]]).view(1, 2, 1, 3)
    aux = torch.tensor([[0.0, 1.0, 5.0 - 8**0.5], [1.0, 0.0, -1.0]]).view(1, 2, 1, 3)
    weights = torch.tensor([0.880797, 0.5, 0.982014])  # sigmoid of 2, 0 and 4
    torch.testing.assert_close(TARGET_FUSIONS["modulation"](rgb, aux), rgb + weights * aux)


def test_modulation_adds_more_of_the_second_modality_where_both_disagree() -> None:
    normal, defect, depth = turned(1, 1)
    fuse = TARGET_FUSIONS["modulation"]
    added = [(fuse(colour, depth) - colour).norm().item() for colour in (depth, normal, 3 * normal)]
    assert added == sorted(set(added))
    assert added[0] == pytest.approx(0.5)
    found = position_cosine_map(fuse(defect, depth), fuse(normal, depth)).item()
    assert found == pytest.approx(0.5 / (1 + torch.tensor(2 / 3).sigmoid().item() ** 2))


def test_scaled_maps_show_what_the_larger_map_hides() -> None:
    """Normal (.02, .20), defect (.30, .21), normal peaks (.03, .25)."""
    scaled = [torch.tensor((0.30 - 0.02) / 0.01), torch.tensor((0.21 - 0.20) / 0.05)]
    for name, expected in {"zmax": 28.0, "rss": 28.0007}.items():
        assert MODALITY_FUSIONS[name](*scaled).item() == pytest.approx(expected, abs=1e-4), name


def test_what_is_more_normal_than_usual_does_not_hide_the_rest() -> None:
    assert MODALITY_FUSIONS["rss"](torch.tensor(3.0), torch.tensor(-5.0)).item() == 3.0


def test_a_norm_gains_where_both_maps_are_high_and_pays_with_noise() -> None:
    """Noise of the other modality, here half as high as a defect, adds nothing to the larger one."""
    high, low = torch.tensor(2.0), torch.tensor(1.0)
    for name, noisy, both in (("zmax", 2, 2), ("rss", 5**0.5, 8**0.5)):
        join = MODALITY_FUSIONS[name]
        assert (join(high, low).item(), join(high, high).item()) == pytest.approx((noisy, both)), name
