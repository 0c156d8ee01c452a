# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The attention of Dcam: a level of the student multiplied by its gates.

Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, in the form of the code of Dcam's authors.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

REDUCTION_RATIO = 8
"""Channels per hidden unit of a channel gate, as in the authors' code."""
KERNEL_SIZE = 7
"""Side of a spatial gate's convolution, as in CBAM."""

AttentionKind: TypeAlias = Literal["channel", "spatial", "both", "none"]


class Attention(nn.Module):
    """Multiply features ``(N, C, H, W)`` with their gates: of channels first, then of positions.

    Args:
        channels: Channels ``C``.
        kind: Which gates there are.
    """

    def __init__(self, channels: int, kind: AttentionKind) -> None:
        super().__init__()
        self.channel = ChannelGate(channels) if kind in {"channel", "both"} else None
        self.spatial = SpatialGate() if kind in {"spatial", "both"} else None

    def forward(self, features: Tensor) -> Tensor:
        """Attend; the shape stays."""
        if self.channel is not None:
            features = features * self.channel(features)
        if self.spatial is not None:
            features = features * self.spatial(features)
        return features


class ChannelGate(nn.Module):
    """Weigh channels, ``(N, C, 1, 1)`` in 0..1, by their mean and their peak, both through the same small network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < REDUCTION_RATIO:
            msg = (
                f"Expected layers of at least {REDUCTION_RATIO} channels for attention='channel', got {channels}. "
                "Choose other layers, or attention='spatial'."
            )
            raise ValueError(msg)
        hidden = channels // REDUCTION_RATIO
        self.shared = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gates."""
        mean, peak = features.mean(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
        gates: Tensor = (self.shared(mean) + self.shared(peak)).sigmoid()
        return gates


class SpatialGate(nn.Module):
    """Weigh positions, ``(N, 1, H, W)`` in 0..1, by mean and peak over channels, seen by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, KERNEL_SIZE, padding=KERNEL_SIZE // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gates."""
        summary = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        gates: Tensor = self.convolution(summary).sigmoid()
        return gates
