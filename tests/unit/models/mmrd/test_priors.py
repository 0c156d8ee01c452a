# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What prototypes let through, and how the modalities meet."""

from __future__ import annotations

import math

import pytest
import torch

from anomalib_mkd.models.mmrd.priors import PRIOR_DIM, Interaction, InteractionKind, Prior


def make_prior(count: int = 5) -> Prior:
    torch.manual_seed(0)
    return Prior(6, count)


def test_weights_are_a_softmax_over_cosines() -> None:
    prior = make_prior(count=2)
    with torch.no_grad():
        prior.prototypes.copy_(torch.eye(2, PRIOR_DIM))
    at_30_degrees = torch.zeros(1, 1, PRIOR_DIM)
    at_30_degrees[..., :2] = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    expected = torch.tensor([0.9749, 0.0251])  # softmax of (0.866, 0.5) / 0.1
    torch.testing.assert_close(prior.weights(7 * at_30_degrees)[0, 0], expected, atol=1e-4, rtol=0)


def test_positions_are_looked_up_one_by_one_and_row_by_row() -> None:
    prior, features = make_prior(), torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    found = prior(features)
    assert found.shape == (2, 12, PRIOR_DIM)
    torch.testing.assert_close(found[1, 4 * 2 + 1], prior(features[1:, :, 2:, 1:2])[0, 0])


def test_what_comes_out_lies_between_the_prototypes_in_any_order() -> None:
    prior, features = make_prior(), 100 * torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    found = prior(features)
    assert found.abs().max() <= prior.prototypes.abs().max()
    with torch.no_grad():
        prior.prototypes.copy_(prior.prototypes.flip(0))
    torch.testing.assert_close(prior(features), found)


def test_prototypes_start_orthogonal() -> None:
    prototypes = make_prior(count=4).prototypes
    torch.testing.assert_close(prototypes @ prototypes.T, torch.eye(4))


@pytest.mark.parametrize("kind", ["intra_cross", "intra", "none"])
def test_no_modality_comes_first(kind: InteractionKind) -> None:
    torch.manual_seed(0)
    interaction = Interaction(["rgb", "aux"], kind)
    generator = torch.Generator().manual_seed(0)
    tokens = {name: torch.randn(2, 5, PRIOR_DIM, generator=generator) for name in ("rgb", "aux")}
    found = interaction(tokens)
    again = interaction(dict(reversed(tokens.items())))
    for name, value in found.items():
        torch.testing.assert_close(again[name], value)
    other = interaction({**tokens, "aux": tokens["aux"] + 1e-2 * torch.randn(2, 5, PRIOR_DIM, generator=generator)})
    assert torch.equal(other["rgb"], found["rgb"]) is (kind != "intra_cross")
