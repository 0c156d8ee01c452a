# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The students of reverse distillation: they see the teacher's features, squeezed, and restore them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from anomalib.models.components.backbone import get_decoder
from anomalib.models.image.reverse_distillation.components.bottleneck import OCBE, get_bottleneck_layer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_mkd.models.mmrd.priors import Interaction, Prior
from anomalib_mkd.models.mmrd.siamese import level
from anomalib_mkd.types import Pyramid

FUSED = "fused"
"""The one target of both modalities, if there is only one."""


def make_bottleneck(backbone: str) -> OCBE:
    """Build anomalib's bottleneck of RD4AD without the two layers that it never runs.

    Args:
        backbone: A ResNet's name without tag.
    """
    bottleneck = get_bottleneck_layer(backbone)
    del bottleneck.conv4, bottleneck.bn4
    return bottleneck


def features_of(modality: str, layers: Sequence[str], pyramid: Pyramid) -> list[Tensor]:
    """Pick a modality's levels, shallow to deep."""
    return [pyramid[level(modality, layer)] for layer in layers]


class Branches(nn.Module):
    """A bottleneck and a decoder per modality, strangers to each other: RD4AD once or twice.

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
    """A bottleneck and a decoder per modality, guided by what both modalities' priors know of normal parts.

    What one modality sees reaches the restoration of the other through prototypes only: noise of the colour does not
    blur the depth.

    Args:
        backbone: A ResNet's name without tag.
        channels: The teacher's three layers and their channels.
        modalities: Two names.
        one_target: One fused target under the layers' own names, restored from both embeddings by one decoder, instead
            of one target per modality.
        num_prototypes: Prototypes of each modality.
        prior_dim: Channels of a prototype.
        prior_temperature: Divides cosines to prototypes.
        prior_source: Whether the queries are the teacher's features or the bottleneck's.
        prior_init: How prototypes start.
        interaction: How tokens meet.
        num_heads: Heads of each attention.
        inject: Whether priors are added to the embeddings (starting at nothing), replace them, or stand beside them.
        shared_bottleneck: One bottleneck for both modalities. There is none where priors from the teacher's features
            replace the embeddings, since nothing would read it.
    """

    def __init__(
        self,
        backbone: str,
        channels: Mapping[str, int],
        modalities: Sequence[str],
        *,
        one_target: bool,
        num_prototypes: int,
        prior_dim: int,
        prior_temperature: float,
        prior_source: str,
        prior_init: str,
        interaction: str,
        num_heads: int,
        inject: str,
        shared_bottleneck: bool,
    ) -> None:
        super().__init__()
        self.layers = tuple(channels)
        self.prior_source, self.inject = prior_source, inject
        self.sources = {FUSED: tuple(modalities)} if one_target else {name: (name,) for name in modalities}
        self.decoders: Any = nn.ModuleDict({target: get_decoder(backbone) for target in self.sources})
        embedded = 2 * list(channels.values())[-1]  # the bottleneck goes on as the ResNet would
        self.bottlenecks = nn.ModuleDict()
        for name in () if inject == "replace" and prior_source == "teacher" else modalities:
            first = next(iter(self.bottlenecks.values()), None) if shared_bottleneck else None
            self.bottlenecks[name] = first or make_bottleneck(backbone)
        queried = sum(channels.values()) if prior_source == "teacher" else embedded
        self.priors: Any = nn.ModuleDict(
            {
                name: Prior(queried, num_prototypes, prior_dim, prior_temperature, orthogonal=prior_init != "random")
                for name in modalities
            }
        )
        self.interaction = Interaction(modalities, prior_dim, num_heads, interaction)
        self.guides: Any = nn.ModuleDict()
        for target, sources in self.sources.items():
            beside = len(sources) * embedded if inject == "concat" else 0
            self.guides[target] = nn.Conv2d(beside + len(modalities) * prior_dim, embedded, 1)
        if inject == "add":  # starts as plain reverse distillation
            for parameter in self.guides.parameters():
                nn.init.zeros_(parameter)

    def queries(self, name: str, teacher: Pyramid) -> Tensor:
        """Give the teacher's features of a modality as one map of the embedding's size."""
        levels = features_of(name, self.layers, teacher)
        size = size_behind(levels[-1])
        return torch.cat([F.adaptive_avg_pool2d(features, size) for features in levels], dim=1)

    def forward(self, teacher: Pyramid) -> Pyramid:
        """Restore the targets from what both modalities look like and from what normal parts look like."""
        embedded = {name: net(features_of(name, self.layers, teacher)) for name, net in self.bottlenecks.items()}
        size = size_behind(next(reversed(teacher.values())))
        tokens = {
            name: prior(self.queries(name, teacher) if self.prior_source == "teacher" else embedded[name])
            for name, prior in self.priors.items()
        }
        told = torch.cat([map_of(found, size) for found in self.interaction(tokens).values()], dim=1)
        restored: Pyramid = {}
        for target, sources in self.sources.items():
            code = self.code(target, [embedded[name] for name in sources if name in embedded], told)
            levels = zip(self.layers, self.decoders[target](code), strict=True)
            restored |= {layer if target == FUSED else level(target, layer): features for layer, features in levels}
        return restored

    def code(self, target: str, embedded: list[Tensor], told: Tensor) -> Tensor:
        """Join embeddings and priors into what the target's decoder reads."""
        guide = self.guides[target]
        if self.inject == "add":
            return sum(embedded, start=guide(told))
        return guide(torch.cat([*embedded, told], dim=1) if self.inject == "concat" else told)  # type: ignore[no-any-return]


def size_behind(deepest: Tensor) -> tuple[int, int]:
    """Give height and width of the embedding of features whose deepest level is ``(N, C, H, W)``."""
    height, width = deepest.shape[-2:]
    return height // 2, width // 2


def map_of(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Lay tokens ``(N, h*w, D)`` out as a map ``(N, D, h, w)``."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)  # len() would fix the size of the batch
