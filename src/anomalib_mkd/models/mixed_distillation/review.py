# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Knowledge review: levels of a student joined one after the other, so that several of them learn from one target.

Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv 2104.09044.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_mkd.functional import resize
from anomalib_mkd.types import Pyramid

MAX_CHANNELS = 512


class Review(nn.Module):
    """Join levels by attention, and compare each but the first with the teacher's level as soon as it has joined.

    Args:
        channels: Channels per layer, in the order in which layers join: the paper's is deep to shallow. Levels are
            repeated on their way up in size and averaged on their way down.

    Shape:
        The teacher's and the student's pyramid in; pairs to compare, the teacher's and the reviewed ones, out.

    Example:
        >>> review = Review({"layer2": 16, "layer1": 8})
        >>> pyramid = {"layer1": torch.ones(2, 8, 4, 4), "layer2": torch.ones(2, 16, 2, 2)}
        >>> {name: tuple(features.shape) for name, features in review(pyramid, pyramid)[1].items()}
        {'layer1 from layer2': (2, 8, 4, 4)}
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.layers = list(channels)
        self.crossings = {f"{name} from {self.layers[0]}": name for name in self.layers[1:]}
        width = min(MAX_CHANNELS, max(channels.values()))
        self.reduce = nn.ModuleList(_convolution(count, width, 1) for count in channels.values())
        self.attend = nn.ModuleList(nn.Conv2d(2 * width, 2, 1) for _ in self.layers[1:])
        self.restore = nn.ModuleList(_convolution(width, channels[name], 3) for name in self.layers[1:])
        self.carried = torch.tensor(torch.nan)
        """Mean attention, while training, on what earlier levels carried on; near 0, nothing is reviewed."""

    def forward(self, teacher: Pyramid, student: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Join the levels."""
        reduced = [reduce(student[name]) for name, reduce in zip(self.layers, self.reduce, strict=True)]
        joined, reviewed, shares = reduced[0], {}, []
        for name, own, attend, restore in zip(self.crossings, reduced[1:], self.attend, self.restore, strict=True):
            joined = _fit(joined, own.shape[-2:])
            attention = attend(torch.cat([own, joined], dim=1)).sigmoid()  # (N, 2, H_l, W_l)
            joined = own * attention[:, :1] + joined * attention[:, 1:]
            reviewed[name] = restore(joined)
            shares.append(attention[:, 1].detach().mean())
        if self.training:
            self.carried = torch.stack(shares).mean()
        return {name: teacher[layer] for name, layer in self.crossings.items()}, reviewed


def _fit(features: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(features, size) if features.shape[-2] < size[0] else resize(features, size)


def _convolution(inputs: int, outputs: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False), nn.BatchNorm2d(outputs)
    )
