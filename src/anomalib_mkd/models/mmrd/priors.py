# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the student knows of normal parts, and how the modalities tell each other.

Source: the paper's abstract has priors learned from the teacher's features of normal data, and their interaction, first
within a modality and then across; the formulas are ours.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

KMEANS_TOKENS = 50_000


class Prior(nn.Module):
    """Replace each position of a query by the prototypes of normal parts that it resembles.

    What comes out is a mean of prototypes, weighted by a softmax over cosines. A position unlike anything in training
    can therefore not be copied through.

    Args:
        channels: Channels ``C`` of what is queried with.
        count: Prototypes ``K``.
        dim: Channels ``D`` of a prototype.
        temperature: Divides the cosines before the softmax.
        orthogonal: Start from orthogonal prototypes instead of random ones.

    Shape:
        ``(N, C, h, w)`` to tokens ``(N, h*w, D)``.
    """

    perplexity: Tensor

    def __init__(self, channels: int, count: int, dim: int, temperature: float, *, orthogonal: bool) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, dim, kernel_size=1)
        prototypes = torch.randn(count, dim)
        self.prototypes = nn.Parameter(nn.init.orthogonal_(prototypes) if orthogonal else F.normalize(prototypes))
        self.temperature = temperature
        self.perplexity = torch.zeros(())

    def tokens(self, features: Tensor) -> Tensor:
        """Give the queries, ``(N, h*w, D)``."""
        queries: Tensor = self.query(features)
        return queries.flatten(2).transpose(1, 2)

    def weights(self, tokens: Tensor) -> Tensor:
        """Weigh the prototypes for each token, ``(N, h*w, K)``, sums of 1."""
        cosines = _unit(tokens) @ _unit(self.prototypes).T
        return (cosines / self.temperature).softmax(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Look up."""
        weights = self.weights(self.tokens(features))
        if self.training:
            usage = weights.detach().float().mean(dim=(0, 1))
            self.perplexity = torch.special.entr(usage).sum().exp()  # how many prototypes are in use
        return weights @ self.prototypes

    @torch.no_grad()
    def start_from(self, features: Tensor) -> None:
        """Set the prototypes to centres of the queries of normal images.

        Args:
            features: ``(N, C, h, w)``.
        """
        tokens = self.tokens(features).flatten(0, 1)
        tokens = tokens[:: max(1, len(tokens) // KMEANS_TOKENS)]
        means = KMeans(len(self.prototypes), n_init=1, max_iter=10, random_state=0).fit(tokens.cpu().numpy())
        self.prototypes.copy_(torch.from_numpy(means.cluster_centers_))


def _unit(vectors: Tensor) -> Tensor:
    """Scale to length 1 by a root instead of a norm, which quantisation takes for the mark of an anomaly map."""
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + 1e-12).rsqrt()


class Attention(nn.Module):
    """What tokens learn from other tokens; no position enters, so that any image size will do.

    Args:
        dim: Channels ``D``, a multiple of the number of heads.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.norm_other = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Add what ``tokens`` find in ``other``, both ``(N, T, D)``."""
        other = self.norm_other(other)
        found: Tensor = self.attention(self.norm(tokens), other, other, need_weights=False)[0]
        return tokens + found


class Interaction(nn.Module):
    """Let the tokens of a modality meet each other, then those of the other modality, both directions at once.

    Args:
        modalities: Two names.
        dim: Channels of a token.
        heads: Heads of each attention.
        kind: "intra_cross", "intra" without the second step, or "none".
    """

    def __init__(self, modalities: Sequence[str], dim: int, heads: int, kind: str) -> None:
        super().__init__()
        steps = {"none": (), "intra": ("intra",), "intra_cross": ("intra", "cross")}[kind]
        self.steps: Any = nn.ModuleDict(
            {step: nn.ModuleDict({name: Attention(dim, heads) for name in modalities}) for step in steps}
        )

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Interact; ``(N, T, D)`` per modality, in and out."""
        first, second = tokens
        other = {first: second, second: first}
        for step, attentions in self.steps.items():
            source = tokens  # of both directions: who comes first must not matter
            tokens = {
                name: attentions[name](source[name], source[other[name] if step == "cross" else name])
                for name in source
            }
        return tokens
