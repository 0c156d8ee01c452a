# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The students of reverse distillation: they compress the teacher's features and restore them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from anomalib.models.components.backbone import get_decoder
from anomalib.models.image.reverse_distillation.components.bottleneck import OCBE, get_bottleneck_layer
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_mkd.models.mmrd.priors import PRIOR_DIM, Interaction, InteractionKind, Prior
from anomalib_mkd.models.mmrd.siamese import level
from anomalib_mkd.types import Pyramid

FUSED = "fused"
"""Name of the single target of both modalities."""


def make_bottleneck(backbone: str) -> OCBE:
    """Build anomalib's bottleneck of RD4AD without the two layers that it never runs.

    Args:
        backbone: A ResNet's name without tag.
    """
    bottleneck = get_bottleneck_layer(backbone)
    del bottleneck.conv4, bottleneck.bn4
    return bottleneck


def features_of(modality: str, layers: Sequence[str], pyramid: Pyramid) -> list[Tensor]:
    """Return a modality's levels, shallow to deep."""
    return [pyramid[level(modality, layer)] for layer in layers]


class PlainStudent(nn.Module):
    """A bottleneck and a decoder per modality, independent of each other: RD4AD once or twice.

    Args:
        backbone: A ResNet's name without tag.
        modalities: Names.
        layers: The teacher's three layers.
    """

    def __init__(self, backbone: str, modalities: Sequence[str], layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.bottlenecks = nn.ModuleDict({name: make_bottleneck(backbone) for name in modalities})
        self.decoders = nn.ModuleDict({name: get_decoder(backbone) for name in modalities})

    def forward(self, teacher: Pyramid) -> Pyramid:
        """Restore each modality from itself."""
        return {
            level(name, layer): features
            for name, bottleneck in self.bottlenecks.items()
            for layer, features in zip(
                self.layers, self.decoders[name](bottleneck(features_of(name, self.layers, teacher))), strict=True
            )
        }


class GuidedStudent(nn.Module):
    """A bottleneck and a decoder per modality, guided by both modalities' priors of normal parts.

    One modality influences the restoration of the other only through prototypes: noise in the colour does not blur the
    depth.

    Args:
        backbone: A ResNet's name without tag.
        channels: The teacher's three layers and their channels.
        modalities: Two names.
        one_target: Whether there is one fused target under the layers' own names, restored from both embeddings by one
            decoder, instead of one target per modality.
        num_prototypes: Number of prototypes per modality.
        interaction: How the modalities' tokens interact.
    """

    def __init__(
        self,
        backbone: str,
        channels: Mapping[str, int],
        modalities: Sequence[str],
        *,
        one_target: bool,
        num_prototypes: int,
        interaction: InteractionKind,
    ) -> None:
        super().__init__()
        self.layers = tuple(channels)
        self.sources = {FUSED: tuple(modalities)} if one_target else {name: (name,) for name in modalities}
        self.decoders: Any = nn.ModuleDict({target: get_decoder(backbone) for target in self.sources})
        self.bottlenecks = nn.ModuleDict({name: make_bottleneck(backbone) for name in modalities})
        self.priors: Any = nn.ModuleDict({name: Prior(sum(channels.values()), num_prototypes) for name in modalities})
        self.interaction = Interaction(modalities, interaction)
        embedded = 2 * channels[self.layers[-1]]  # the bottleneck continues as the ResNet would
        self.guides: Any = nn.ModuleDict(
            {target: nn.Conv2d(len(modalities) * PRIOR_DIM, embedded, kernel_size=1) for target in self.sources}
        )
        for parameter in self.guides.parameters():  # training starts as plain reverse distillation
            nn.init.zeros_(parameter)

    def forward(self, teacher: Pyramid) -> Pyramid:
        """Restore the targets from both modalities' embeddings and the priors of normal parts."""
        levels = {name: features_of(name, self.layers, teacher) for name in self.priors}
        height, width = (side // 2 for side in next(iter(levels.values()))[-1].shape[-2:])  # of the embeddings
        embedded = {name: bottleneck(levels[name]) for name, bottleneck in self.bottlenecks.items()}
        tokens = {
            name: prior(torch.cat([F.adaptive_avg_pool2d(features, (height, width)) for features in levels[name]], 1))
            for name, prior in self.priors.items()
        }
        guidance = torch.cat(
            [
                rearrange(found, "n (h w) d -> n d h w", h=height, w=width)
                for found in self.interaction(tokens).values()
            ],
            dim=1,
        )
        restored: Pyramid = {}
        for target, sources in self.sources.items():
            code = sum((embedded[name] for name in sources), start=self.guides[target](guidance))
            names = [layer if target == FUSED else level(target, layer) for layer in self.layers]
            restored |= dict(zip(names, self.decoders[target](code), strict=True))
        return restored
