# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Plain convolutional chains: VGGs, and students modelled on them."""

from collections.abc import Container, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from anomalib_mkd.types import Pyramid


def is_step(step: nn.Module) -> bool:
    """Return whether a module can be a step of a chain.

    Args:
        step: Any module.

    Example:
        >>> is_step(nn.Conv2d(3, 8, 3, padding=1)), is_step(nn.Conv2d(3, 8, 3, stride=2, padding=1))
        (True, False)
    """
    if isinstance(step, nn.Conv2d):
        geometry = (step.kernel_size, step.stride, step.padding, step.dilation, step.groups, step.padding_mode)
        return geometry == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
    if isinstance(step, nn.MaxPool2d):
        return (step.kernel_size, step.stride, step.padding, step.ceil_mode) == (2, 2, 0, False)
    return isinstance(step, (nn.BatchNorm2d, nn.ReLU))


class Block(NamedTuple):
    """One block of a chain: 3x3 convolutions followed by a 2x2 max-pool.

    Attributes:
        widths: Output channels of each convolution.
        tap: Name of the tap at the end of the block, or ``None``.
    """

    widths: tuple[int, ...]
    tap: str | None


class Chain(nn.Module):
    """Steps applied in order, some of whose outputs are returned by name.

    Args:
        steps: 3x3 stride-1 convolutions, batch norms, ReLUs and 2x2 max-pools, in order.
        taps: Name of a tap to the index of the step whose output it is, shallow to deep.

    Shape:
        ``(N, 3, H, W)`` in, a pyramid out.

    Raises:
        TypeError: If a step is of another kind.

    Example:
        >>> import torch
        >>> chain = build_chain((Block((4,), None), Block((4, 8), "pool2")), bias=True)
        >>> chain(torch.zeros(2, 3, 32, 32))["pool2"].shape
        torch.Size([2, 8, 8, 8])
    """

    def __init__(self, steps: Sequence[nn.Module], taps: Mapping[str, int]) -> None:
        super().__init__()
        for step in steps:
            if not is_step(step):
                msg = (
                    f"Expected a chain of 3x3 convolutions, batch norms, ReLUs and 2x2 max-pools, got {step}. Drop it."
                )
                raise TypeError(msg)
        self.steps = nn.Sequential(*steps[: max(taps.values()) + 1])
        self.taps = dict(taps)

    def trace(self, images: Tensor, keep: Container[int]) -> dict[int, Tensor]:
        """Apply all steps and return the outputs of those whose index is in ``keep``."""
        steps = list(self.steps)
        if self.training:  # the same bits, for a quarter of a ReLU's work; OpenVINO fuses it with the convolution
            for index, (step, following) in enumerate(pairwise(self.steps)):
                if isinstance(step, nn.ReLU) and isinstance(following, nn.MaxPool2d) and index not in keep:
                    steps[index : index + 2] = following, step
        outputs = {}
        for index, step in enumerate(steps):
            images = step(images)
            if index in keep:
                outputs[index] = images
        return outputs

    def forward(self, images: Tensor) -> Pyramid:
        """Compute the taps."""
        outputs = self.trace(images, keep=self.taps.values())
        return {name: outputs[index] for name, index in self.taps.items()}


def build_chain(blocks: Sequence[Block], *, bias: bool, batch_norm: bool = False, signed: bool = False) -> Chain:
    """Build a chain in the pattern of VGG.

    Args:
        blocks: The blocks, shallow to deep.
        bias: Whether convolutions have a bias.
        batch_norm: Whether each convolution but a block's last is followed by a BatchNorm (as in MKD's student).
        signed: Whether the last convolution of a tapped block has no ReLU, for teachers whose taps may be negative.

    Returns:
        A randomly initialised chain (convolutions: Xavier uniform, as in MKD's code; biases 0).
    """
    steps: list[nn.Module] = []
    taps: dict[str, int] = {}
    channels = 3
    for block in blocks:
        for position, width in enumerate(block.widths, start=1):
            last = position == len(block.widths)
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
            nn.init.xavier_uniform_(convolution.weight)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
            steps.append(convolution)
            if batch_norm and not last:
                steps.append(nn.BatchNorm2d(width))
            if not (signed and last and block.tap):
                steps.append(nn.ReLU())  # not in place: the localisation reads every output again
            channels = width
        steps.append(nn.MaxPool2d(2))
        if block.tap:
            taps[block.tap] = len(steps) - 1
    return Chain(steps, taps)
