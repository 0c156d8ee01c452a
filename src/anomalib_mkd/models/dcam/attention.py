# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Attention of Dcam: gates that multiply a level of the student.

Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, as in the code of Dcam's authors.
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
    """Multiply features ``(N, C, H, W)`` by their gates: channel gates first, then position gates.

    Args:
        channels: Channels ``C``.
        kind: Which gates to use.
    """

    def __init__(self, channels: int, kind: AttentionKind) -> None:
        super().__init__()
        self.channel = ChannelGate(channels) if kind in {"channel", "both"} else None
        self.spatial = SpatialGate() if kind in {"spatial", "both"} else None

    def forward(self, features: Tensor) -> Tensor:
        """Apply the gates; the shape stays the same."""
        if self.channel is not None:
            features = features * self.channel(features)
        if self.spatial is not None:
            features = features * self.spatial(features)
        return features


class ChannelGate(nn.Module):
    """Compute channel gates ``(N, C, 1, 1)`` in 0..1 from mean and peak, both through the same small network."""

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
    """Compute position gates ``(N, 1, H, W)`` in 0..1 from mean and peak over channels, by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, KERNEL_SIZE, padding=KERNEL_SIZE // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gates."""
        summary = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        gates: Tensor = self.convolution(summary).sigmoid()
        return gates
