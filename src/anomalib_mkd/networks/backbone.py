# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Backbones by name, any timm CNN or the small embedded network: their taps, and the network up to the deepest one.

anomalib's ``TimmFeatureExtractor`` is not used: it taps a VGG only before its max-pools, whereas MKD taps after them;
it drops unknown layers with a warning, orders the result by the network rather than by the requested names, stops the
gradient to the image, and downloads its weights again whenever a checkpoint is loaded.
"""

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from anomalib_mkd.networks.chain import Block, Chain, build_chain, is_step

QUICKSTART = "quickstart"
"""Name of the embedded teacher, as ``weights`` and as ``backbone``."""

VGG16 = "vgg16.tv_in1k"
"""Mkd's default."""

RESNET18 = "resnet18.tv_in1k"
"""Default of the other models."""

MIN_SIZE = 32
"""Smallest image side in pixels that survives the five halvings of a CNN."""

_QUICKSTART_WIDTHS = ((16, 16), (32, 64), (64, 128), (128, 128, 192), (192, 192))
"""Widths of the convolutions of the embedded teacher, block by block."""


class Stage(NamedTuple):
    """A tap point of a backbone.

    Attributes:
        position: Index in timm's list of features; in chains, index of the step.
        channels: Channels ``C_l``.
        stride: Image pixels per feature.
    """

    position: int
    channels: int
    stride: int


def resolve_backbone(backbone: str, weights: str | Path | None) -> str:
    """Return the backbone to build: the embedded weights come with their own.

    Args:
        backbone: timm's name, or ``"quickstart"``.
        weights: As for :class:`Teacher`.

    Returns:
        The backbone's name.

    Raises:
        ValueError: If the embedded weights are combined with another backbone.

    Example:
        >>> resolve_backbone("vgg16.tv_in1k", "quickstart")
        'quickstart'
    """
    if str(weights) != QUICKSTART:
        return backbone
    if backbone not in {VGG16, RESNET18, QUICKSTART}:  # the models' defaults are overridden
        msg = (
            f"Expected no backbone with weights='{QUICKSTART}', which come with their own network, got {backbone!r}. "
            "Remove the backbone, or set weights to a file for it."
        )
        raise ValueError(msg)
    return QUICKSTART


def is_chain(backbone: str) -> bool:
    """Return whether a backbone is a plain chain: a VGG or the embedded teacher.

    Args:
        backbone: timm's name, or ``"quickstart"``.

    Example:
        >>> is_chain("vgg16.tv_in1k"), is_chain("resnet18.tv_in1k")
        (True, False)
    """
    return backbone == QUICKSTART or next(iter(list_stages(backbone))) == "pool1"


@cache
def list_stages(backbone: str) -> Mapping[str, Stage]:
    """List the tap points of a backbone, shallow to deep.

    Args:
        backbone: timm's name, or ``"quickstart"``.

    Raises:
        ValueError: If timm does not know the name, or the network returns no feature maps.
    """
    if backbone == QUICKSTART:
        widths = [block[-1] for block in _QUICKSTART_WIDTHS]
        return {f"pool{n}": Stage(n, width, 2**n) for n, width in enumerate(widths, start=1)}
    with torch.device("meta"):  # only the description is needed: no memory, no random numbers
        net = create_network(backbone)
    if all(is_step(step) for step in net.children()):
        stages: dict[str, Stage] = {}
        channels = 3
        for index, step in enumerate(net.children()):
            if isinstance(step, nn.Conv2d):
                channels = step.out_channels
            elif isinstance(step, nn.MaxPool2d):
                number = len(stages) + 1
                stages[f"pool{number}"] = Stage(index, channels, 2**number)
        return stages
    info = net.feature_info
    described = zip(info.module_name(), info.channels(), info.reduction(), strict=True)  # type: ignore[operator, union-attr]
    return {name: Stage(index, channels, stride) for index, (name, channels, stride) in enumerate(described)}


def choose_layers(stages: Mapping[str, Stage], layers: Sequence[str] | None, backbone: str) -> tuple[str, ...]:
    """Sort the requested layers by depth, or choose the default ones.

    Args:
        stages: All tap points of the backbone.
        layers: Names in any order; ``None`` for strides 4, 8 and 16, for a VGG also 32.
        backbone: Name for the error message.

    Raises:
        ValueError: If a layer is unknown or named twice, or the list is empty.
    """
    if layers is None:
        strides = {4, 8, 16, 32} if "pool1" in stages else {4, 8, 16}
        return tuple(name for name, stage in stages.items() if stage.stride in strides)
    unknown = [name for name in layers if name not in stages]
    if unknown or not layers or len(set(layers)) != len(layers):
        msg = f"Expected distinct layers of {backbone!r}, got {list(layers)}. Choose from {list(stages)}."
        raise ValueError(msg)
    return tuple(name for name in stages if name in layers)


def build_backbone(backbone: str, layers: Sequence[str]) -> nn.Module:
    """Build a network with random weights, cut after its deepest tap.

    Args:
        backbone: timm's name, or ``"quickstart"``.
        layers: Taps, shallow to deep.
    """
    stages = list_stages(backbone)
    if backbone == QUICKSTART:
        return _quickstart_chain(layers)
    if "pool1" in stages:
        # timm's in-place ReLUs would overwrite activations that the localisation reads again
        steps = [nn.ReLU() if isinstance(step, nn.ReLU) else step for step in create_network(backbone).children()]
        return Chain(steps, {name: stages[name].position for name in layers})
    return create_network(backbone, out_indices=tuple(stages[name].position for name in layers))


def chain_blocks(chain: Chain) -> list[Block]:
    """List the blocks of a chain."""
    names = {index: name for name, index in chain.taps.items()}
    blocks: list[Block] = []
    widths: list[int] = []
    for index, step in enumerate(chain.steps):
        if isinstance(step, nn.Conv2d):
            widths.append(step.out_channels)
        elif isinstance(step, nn.MaxPool2d):
            blocks.append(Block(tuple(widths), names.get(index)))
            widths = []
    return blocks


def create_network(backbone: str, **arguments: Any) -> nn.Module:  # passed through to timm
    """Create timm's feature network.

    Raises:
        ValueError: If timm does not know the name, or the network returns no feature maps.
    """
    if not timm.is_model(backbone.split(".", maxsplit=1)[0]):
        near = difflib.get_close_matches(backbone, timm.list_models() + timm.list_pretrained(), n=5)
        msg = (
            f"Expected a timm backbone, got {backbone!r}. "
            f"{'Close matches: ' + ', '.join(near) + '. ' if near else ''}Choose one from timm.list_models()."
        )
        raise ValueError(msg)
    try:
        return timm.create_model(backbone, features_only=True, **arguments)
    except (AttributeError, RuntimeError, ValueError) as error:
        if arguments.get("pretrained"):
            raise
        msg = (
            f"Expected a backbone that returns feature maps, got {backbone!r}, for which timm reports: {error} "
            "Choose a convolutional backbone, such as 'resnet18.tv_in1k'."
        )
        raise ValueError(msg) from error


def _quickstart_chain(taps: Sequence[str]) -> Chain:
    blocks = [Block(widths, f"pool{number}") for number, widths in enumerate(_QUICKSTART_WIDTHS, start=1)]
    chain = build_chain(blocks, bias=True)
    return Chain(list(chain.steps), {name: chain.taps[name] for name in taps})
