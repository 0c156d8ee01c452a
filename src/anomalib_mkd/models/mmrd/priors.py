# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Priors: prototypes of normal parts, and their interaction between modalities.

Source: the abstract of MMRD (Gu et al., AAAI 2024) describes priors learned from the teacher's features of normal data,
and their interaction, first within a modality and then across; the formulas and the constants are ours.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn

PRIOR_DIM = 256
"""Channels of a prototype and of a token."""
TEMPERATURE = 0.1
"""Divides the cosines to prototypes before the softmax."""
HEADS = 4
"""Attention heads."""

InteractionKind: TypeAlias = Literal["intra_cross", "intra", "none"]


class Prior(nn.Module):
    """Replace each position of a query by the prototypes of normal parts that it resembles.

    The output is a mean of prototypes, weighted by a softmax over cosines, so a position unlike anything in training
    cannot be copied through.

    Args:
        channels: Channels ``C`` of the queries.
        count: Number of prototypes ``K``.

    Shape:
        ``(N, C, h, w)`` to tokens ``(N, h*w, PRIOR_DIM)``.
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, PRIOR_DIM, kernel_size=1)
        self.prototypes = nn.Parameter(nn.init.orthogonal_(torch.randn(count, PRIOR_DIM)))

    def weights(self, tokens: Tensor) -> Tensor:
        """Compute the weights of the prototypes for each token.

        Args:
            tokens: ``(N, h*w, PRIOR_DIM)``.

        Returns:
            Weights ``(N, h*w, K)`` in 0..1, which sum to 1 over K.
        """
        cosines = _unit(tokens) @ _unit(self.prototypes).T
        return (cosines / TEMPERATURE).softmax(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Look up the prototypes."""
        return self.weights(rearrange(self.query(features), "n d h w -> n (h w) d")) @ self.prototypes


def _unit(vectors: Tensor) -> Tensor:
    """Scale to length 1 by a root, not a norm: quantisation treats a norm as the start of an anomaly map."""
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + 1e-12).rsqrt()


class Attention(nn.Module):
    """Add to tokens what they attend to in others; without positions, so that any image size works."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(PRIOR_DIM)
        self.norm_other = nn.LayerNorm(PRIOR_DIM)
        self.attention = nn.MultiheadAttention(PRIOR_DIM, HEADS, batch_first=True)

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Attend from ``tokens`` to ``other``, both ``(N, T, PRIOR_DIM)``."""
        other = self.norm_other(other)
        found: Tensor = self.attention(self.norm(tokens), other, other, need_weights=False)[0]
        return tokens + found


class Interaction(nn.Module):
    """Let tokens attend to those of their own modality, then to those of the other, in both directions at once.

    Args:
        modalities: Two names.
        kind: "intra_cross", "intra" without the second step, or "none".
    """

    def __init__(self, modalities: Sequence[str], kind: InteractionKind) -> None:
        super().__init__()
        steps = {"none": (), "intra": ("intra",), "intra_cross": ("intra", "cross")}[kind]
        self.steps: Any = nn.ModuleDict(
            {step: nn.ModuleDict({name: Attention() for name in modalities}) for step in steps}
        )

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update the tokens, ``(N, T, PRIOR_DIM)`` per modality, in and out."""
        first, second = tokens
        other = {first: second, second: first}
        for step, attentions in self.steps.items():
            source = tokens  # for both directions: the order of the modalities must not matter
            tokens = {
                name: attentions[name](source[name], source[other[name] if step == "cross" else name])
                for name in source
            }
        return tokens
