# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The frozen teacher: a pretrained network that returns a pyramid of named levels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from anomalib_mkd.networks.backbone import (
    MIN_SIZE,
    RESNET18,
    build_backbone,
    chain_blocks,
    choose_layers,
    list_stages,
    resolve_backbone,
)
from anomalib_mkd.networks.chain import Block, Chain
from anomalib_mkd.networks.pretrained import pretrained_state
from anomalib_mkd.types import Pyramid


class FrozenNetwork(nn.Module):
    """A network that a student learns from: never trained, and in eval mode even after ``train()``.

    Attributes:
        layers: The taps, shallow to deep.
        channels: Channels ``C_l`` per tap.
        strides: Image pixels per feature, per tap.
    """

    layers: tuple[str, ...]
    channels: dict[str, int]
    strides: dict[str, int]

    def prepare(self) -> None:
        """Load the pretrained weights, unless they are already loaded."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "FrozenNetwork":  # noqa: ARG002  # the signature is torch's
        """Stay in eval mode: a frozen network's BatchNorm must not drift."""
        return super().train(mode=False)


class Teacher(FrozenNetwork):
    """A frozen network that returns its features at named layers.

    None of its parameters requires a gradient, but gradients can flow through it to the image. It is built without
    weights: ``prepare`` loads them once, and does nothing after a checkpoint was restored, so that only a first
    training needs access to the hub.

    Args:
        backbone: Full timm name with its tag, such as ``resnet18.tv_in1k``. A plain VGG (with or without BatchNorm)
            is tapped after its max-pools, ``pool1`` to ``pool5``; any other CNN at the stages that timm lists.
        layers: Taps, in any order. ``None`` takes pools 2 to 5 of a VGG, else the stages of stride 4, 8 and 16.
        pre_trained: Whether ``prepare`` loads ImageNet weights through timm.
        weights: File with weights for the backbone, or ``"quickstart"`` for the embedded teacher.

    Attributes:
        signed: Whether a tap can be negative, that is, does not end in a ReLU.

    Shape:
        ``(N, 3, H, W)`` in, a pyramid out.

    Raises:
        ValueError: If backbone or layer is unknown, the backbone returns no feature maps, or ``weights`` is set despite
            ``pre_trained=False``.

    Example:
        >>> teacher = Teacher("resnet18.tv_in1k", pre_trained=False)
        >>> teacher.channels
        {'layer1': 64, 'layer2': 128, 'layer3': 256}
    """

    ready: Tensor

    def __init__(
        self,
        backbone: str = RESNET18,
        layers: Sequence[str] | None = None,
        *,
        pre_trained: bool = True,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        if weights is not None and not pre_trained:
            msg = (
                f"Expected pre_trained=True with weights, got pre_trained=False and weights={str(weights)!r}. "
                "Remove one of the two arguments."
            )
            raise ValueError(msg)
        self.weights = None if weights is None else str(weights)
        self.backbone = resolve_backbone(backbone, self.weights)
        stages = list_stages(self.backbone)
        self.layers = choose_layers(stages, layers, self.backbone)
        self.strides = {name: stages[name].stride for name in self.layers}
        self.channels = {name: stages[name].channels for name in self.layers}
        self.net = build_backbone(self.backbone, self.layers)
        self.requires_grad_(requires_grad=False)
        self.eval()
        self.register_buffer("ready", torch.tensor(not pre_trained))
        self.signed = self._probe()

    def _probe(self) -> bool:
        """Check the shapes that timm announces, and return whether features can be negative."""
        noise = torch.randn(1, 3, 2 * MIN_SIZE, 2 * MIN_SIZE, generator=torch.Generator().manual_seed(0), device="cpu")
        try:
            with torch.no_grad():
                pyramid = self(noise.to(self.ready.device))
        except AssertionError as error:  # timm's transformers assert the image size that they were built for
            msg = (
                f"Expected a convolutional backbone, got {self.backbone!r} ({error}). Choose one, such as {RESNET18!r}."
            )
            raise ValueError(msg) from error
        for name, features in pyramid.items():
            if features.ndim != 4 or features.shape[1] != self.channels[name]:
                msg = (
                    f"Expected {self.backbone!r} to return (N, {self.channels[name]}, H, W) at {name!r}, got "
                    f"{tuple(features.shape)}. Choose a convolutional backbone, such as 'resnet18.tv_in1k'."
                )
                raise ValueError(msg)
        return any(bool((features < 0).any()) for features in pyramid.values())

    def blocks(self) -> list[Block]:
        """Describe the teacher as the blocks of a VGG, for students modelled on it.

        Returns:
            A chain's own blocks; for other networks those of a VGG-16 with the teacher's taps: two convolutions in
            each of the first two blocks, three in later ones, as wide as the next tap.

        Raises:
            ValueError: If a stride is not a power of two, or two taps share a stride.
        """
        if isinstance(self.net, Chain):
            return chain_blocks(self.net)
        blocks: list[Block] = []
        stride = 1
        for name in self.layers:
            halvings = (self.strides[name] // stride).bit_length() - 1
            if halvings < 1 or stride << halvings != self.strides[name]:
                msg = (
                    f"Expected layers whose strides double, got {self.strides}. "
                    "Remove layers of equal stride, or choose another backbone."
                )
                raise ValueError(msg)
            for halving in range(1, halvings + 1):
                depth = 2 if len(blocks) < 2 else 3  # VGG-16's pattern
                blocks.append(Block((self.channels[name],) * depth, name if halving == halvings else None))
            stride = self.strides[name]
        return blocks

    def build_network(self) -> nn.Module:
        """Build the network again, with random, trainable weights."""
        return build_backbone(self.backbone, self.layers)

    def prepare(self) -> None:
        """Load the pretrained weights, unless they are already loaded.

        Raises:
            FileNotFoundError: If the file ``weights`` does not exist.
            RuntimeError: If the hub cannot be reached and nothing is cached, or the file does not fit the backbone.
        """
        if bool(self.ready):
            return
        target = self.net.steps if isinstance(self.net, Chain) else self.net
        target.load_state_dict(pretrained_state(self.backbone, self.layers, self.weights))
        self.ready.fill_(value=True)

    def forward(self, images: Tensor) -> Pyramid:
        """Compute the features at the layers."""
        if isinstance(self.net, Chain):
            pyramid: Pyramid = self.net(images)
            return pyramid
        return dict(zip(self.layers, self.net(images), strict=True))
