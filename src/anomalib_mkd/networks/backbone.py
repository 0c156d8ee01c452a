# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Backbones by name, any timm CNN or the small embedded network: their taps, and the network up to the deepest one.

anomalib's ``TimmFeatureExtractor`` is not used: it offers a VGG only before its max-pools while MKD taps behind them,
it drops unknown layers with a warning, orders the result by the network rather than by the names asked for, cuts the
gradient to the image, and downloads its weights again whenever a checkpoint is loaded.
"""

import difflib
from collections.abc import Mapping, Sequence
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
"""Smallest side in pixels that survives the five halvings of a CNN."""

_QUICKSTART_WIDTHS = ((16, 16), (32, 64), (64, 128), (128, 128, 192), (192, 192))
"""Widths of the convolutions of the embedded teacher, block by block."""


class Stage(NamedTuple):
    """One place where a backbone can be tapped.

    Attributes:
        position: timm's index of it; for chains, of the step.
        channels: Channels ``C_l``.
        stride: Image pixels per feature.
    """

    position: int
    channels: int
    stride: int


def resolve_backbone(backbone: str, weights: str | None) -> str:
    """Return the backbone to build: the embedded weights bring their own.

    Args:
        backbone: timm's name, or ``"quickstart"``.
        weights: As for :class:`Teacher`.

    Returns:
        The backbone's name.

    Raises:
        ValueError: If the embedded weights are asked for together with another backbone.

    Example:
        >>> resolve_backbone("vgg16.tv_in1k", "quickstart")
        'quickstart'
    """
    if weights != QUICKSTART:
        return backbone
    if backbone not in {VGG16, RESNET18, QUICKSTART}:  # a default gives way
        msg = (
            f"Expected no backbone beside weights='{QUICKSTART}', which brings its own network, got {backbone!r}. "
            "Leave out the backbone, or give a file with its weights."
        )
        raise ValueError(msg)
    return QUICKSTART


def is_chain(backbone: str) -> bool:
    """Return whether a backbone is a plain chain, a VGG or the embedded teacher.

    Args:
        backbone: timm's name, or ``"quickstart"``.

    Example:
        >>> is_chain("vgg16.tv_in1k"), is_chain("resnet18.tv_in1k")
        (True, False)
    """
    return backbone == QUICKSTART or next(iter(list_stages(backbone))) == "pool1"


def list_stages(backbone: str) -> dict[str, Stage]:
    """List the places where a backbone can be tapped, shallow to deep.

    Args:
        backbone: timm's name, or ``"quickstart"``.

    Raises:
        ValueError: If timm does not know the name, or the network gives no feature maps.
    """
    if backbone == QUICKSTART:
        widths = [block[-1] for block in _QUICKSTART_WIDTHS]
        return {f"pool{n}": Stage(n, width, 2**n) for n, width in enumerate(widths, start=1)}
    with torch.device("meta"):  # only the description is wanted: no memory, no random numbers
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
    """Sort the layers asked for by depth, or take the default ones.

    Args:
        stages: All of the backbone's.
        layers: Names in any order; ``None`` for strides 4, 8 and 16, and of a VGG 32 too.
        backbone: Name for the error.

    Raises:
        ValueError: If a layer is unknown or named twice, or there is none.
    """
    if layers is None:
        strides = {4, 8, 16, 32} if "pool1" in stages else {4, 8, 16}
        return tuple(name for name, stage in stages.items() if stage.stride in strides)
    unknown = [name for name in layers if name not in stages]
    if unknown or not layers or len(set(layers)) != len(layers):
        msg = f"Expected different layers of {backbone!r}, out of {list(stages)}, got {list(layers)}."
        raise ValueError(msg)
    return tuple(name for name in stages if name in layers)


def build_backbone(backbone: str, layers: Sequence[str]) -> nn.Module:
    """Build a network, cut behind its deepest tap, with random weights.

    Args:
        backbone: timm's name, or ``"quickstart"``.
        layers: Taps, shallow to deep.
    """
    stages = list_stages(backbone)
    if backbone == QUICKSTART:
        return _quickstart_chain(layers)
    if "pool1" in stages:
        # timm's ReLUs work in place and would overwrite what the localisation reads again
        steps = [nn.ReLU() if isinstance(step, nn.ReLU) else step for step in create_network(backbone).children()]
        return Chain(steps, {name: stages[name].position for name in layers})
    return create_network(backbone, out_indices=tuple(stages[name].position for name in layers))


def chain_blocks(chain: Chain) -> list[Block]:
    """Read the blocks off a chain."""
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
        ValueError: If timm does not know the name, or the network gives no feature maps.
    """
    if not timm.is_model(backbone.split(".", maxsplit=1)[0]):
        near = difflib.get_close_matches(backbone, timm.list_models() + timm.list_pretrained(), n=5)
        msg = (
            f"Expected a timm backbone, got {backbone!r}. "
            f"{'Near it: ' + ', '.join(near) + '. ' if near else ''}timm.list_models() lists them all."
        )
        raise ValueError(msg)
    try:
        return timm.create_model(backbone, features_only=True, **arguments)
    except (AttributeError, RuntimeError, ValueError) as error:
        if arguments.get("pretrained"):
            raise
        msg = (
            f"Expected a backbone that gives feature maps, got {backbone!r}, of which timm says: {error} "
            "Choose a convolutional backbone, such as 'resnet18.tv_in1k'."
        )
        raise ValueError(msg) from error


def _quickstart_chain(taps: Sequence[str]) -> Chain:
    blocks = [Block(widths, f"pool{number}") for number, widths in enumerate(_QUICKSTART_WIDTHS, start=1)]
    chain = build_chain(blocks, bias=True)
    return Chain(list(chain.steps), {name: chain.taps[name] for name in taps})
