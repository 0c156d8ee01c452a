# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The attention of Dcam: a level of the student multiplied by its gates."""

from torch import Tensor, nn

from anomalib_mkd.models.dcam.gates import ChannelGate, SpatialGate


class Attention(nn.Module):
    """Multiply features with their gates: one after the other, or both gates seeing the same features."""

    def __init__(self, channels: int, attention: str, order: str, reduction_ratio: int, spatial_kernel: int) -> None:
        super().__init__()
        self.channel = ChannelGate(channels, reduction_ratio) if attention in {"channel", "both"} else None
        self.spatial = SpatialGate(spatial_kernel) if attention in {"spatial", "both"} else None
        self.sequential = order == "sequential"

    def forward(self, features: Tensor) -> Tensor:
        """Attend; the shape stays."""
        attended = features
        if self.channel is not None:
            attended = attended * self.channel(features)
        if self.spatial is not None:
            attended = attended * self.spatial(attended if self.sequential else features)
        return attended
