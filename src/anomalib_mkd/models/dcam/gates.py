# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Gates in 0..1 that weigh the channels or the positions of features ``(N, C, H, W)``, all without biases.

Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, in the form of the code of Dcam's authors.
"""

import torch
from torch import Tensor, nn


class ChannelGate(nn.Module):
    """Weigh channels, ``(N, C, 1, 1)``, by their mean and their peak, both through the same small network."""

    def __init__(self, channels: int, reduction_ratio: int) -> None:
        super().__init__()
        if not 1 <= reduction_ratio <= channels:
            msg = f"Expected a reduction_ratio in 1..{channels}, the channels of a layer, got {reduction_ratio}."
            raise ValueError(msg)
        narrow, widen = channels // reduction_ratio, channels
        self.shared = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False), nn.ReLU(), nn.Conv2d(narrow, widen, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gates."""
        mean, peak = features.mean(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
        gates: Tensor = (self.shared(mean) + self.shared(peak)).sigmoid()
        return gates


class SpatialGate(nn.Module):
    """Weigh positions, ``(N, 1, H, W)``, by mean and peak over channels, seen by one convolution."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            msg = f"Expected an odd spatial_kernel, got {kernel_size}. Take the next one."
            raise ValueError(msg)
        self.convolution = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the gates."""
        summary = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        gates: Tensor = self.convolution(summary).sigmoid()
        return gates
