# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What prototypes let through, and how the modalities meet."""

from __future__ import annotations

import math

import pytest
import torch

from anomalib_mkd.models.mmrd.priors import Interaction, Prior


def make_prior(temperature: float = 0.1, count: int = 5, dim: int = 8) -> Prior:
    torch.manual_seed(0)
    return Prior(6, count, dim, temperature, orthogonal=False)


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, (0.5905, 0.4095)), (0.1, (0.9749, 0.0251)), (0.01, (1.0, 0.0))]
)
def test_weights_are_a_softmax_over_cosines(temperature: float, expected: tuple[float, float]) -> None:
    prior = make_prior(temperature, count=2, dim=2)
    with torch.no_grad():
        prior.prototypes.copy_(torch.eye(2))
    at_30_degrees = torch.tensor([[[math.cos(math.pi / 6), math.sin(math.pi / 6)]]])
    torch.testing.assert_close(
        prior.weights(7 * at_30_degrees)[0, 0], torch.tensor(expected), atol=1e-4, rtol=0, msg=str(temperature)
    )


def test_what_comes_out_lies_between_the_prototypes_in_any_order() -> None:
    prior, features = make_prior(), 100 * torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    found = prior(features)
    assert found.shape == (2, 12, 8)
    assert found.abs().max() <= prior.prototypes.abs().max()
    with torch.no_grad():
        prior.prototypes.copy_(prior.prototypes.flip(0))
    torch.testing.assert_close(prior(features), found)


def test_orthogonal_prototypes_are() -> None:
    prototypes = Prior(6, 4, 16, 0.1, orthogonal=True).prototypes
    torch.testing.assert_close(prototypes @ prototypes.T, torch.eye(4))


def test_starts_from_the_centres_of_normal_features() -> None:
    prior = make_prior(count=2)
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(2, 6, 1, 1, generator=generator)
    features = kinds.repeat(4, 1, 3, 3) + 0.01 * torch.randn(8, 6, 3, 3, generator=generator)
    prior.start_from(features)
    centres = prior.tokens(kinds)[:, 0]
    distances = torch.cdist(prior.prototypes, centres).min(dim=1).values
    assert distances.max() < 0.05 * torch.dist(*centres)


def test_counts_the_prototypes_in_use() -> None:
    prior = make_prior(temperature=1e-4)
    prior.train()
    prior(torch.randn(1, 6, 1, 1, generator=torch.Generator().manual_seed(0)))
    assert prior.perplexity.item() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["intra_cross", "intra", "none"])
def test_no_modality_comes_first(kind: str) -> None:
    torch.manual_seed(0)
    interaction = Interaction(["rgb", "aux"], 8, 2, kind)
    generator = torch.Generator().manual_seed(0)
    tokens = {name: torch.randn(2, 5, 8, generator=generator) for name in ("rgb", "aux")}
    found = interaction(tokens)
    again = interaction(dict(reversed(tokens.items())))
    for name, value in found.items():
        torch.testing.assert_close(again[name], value)
    other = interaction({**tokens, "aux": tokens["aux"] + 1e-2 * torch.randn(2, 5, 8, generator=generator)})
    assert torch.equal(other["rgb"], found["rgb"]) is (kind != "intra_cross")
