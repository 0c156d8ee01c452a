# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The student: the teacher's architecture with random weights, at the teacher's width or narrower."""

import torch
from torch import Tensor, nn

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.networks.backbone import MIN_SIZE
from anomalib_mkd.networks.chain import Chain, build_chain
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid


class Student(nn.Module):
    """A trainable network whose features have the teacher's shapes at the teacher's layers.

    A plain VGG hardly trains from random weights, so the student of a VGG has the BatchNorms of MKD's student.

    Args:
        teacher: The network to imitate.
        width: Share of the teacher's channels, in 0..1. Below 1, a linear 1x1 convolution per layer widens the trunk's
            features to the teacher's.

    Shape:
        ``(N, 3, H, W)`` in, a pyramid out.

    Raises:
        ValueError: If the width is out of range, or the architecture cannot be narrowed.

    Example:
        >>> teacher = Teacher("resnet18.tv_in1k", pre_trained=False)
        >>> sum(p.numel() for p in Student(teacher, width=1.0).parameters())
        2782784
        >>> sum(p.numel() for p in Student(teacher, width=0.5).parameters())
        742624
    """

    def __init__(self, teacher: Teacher, width: float) -> None:
        super().__init__()
        check_arguments({"student_width": width})
        self.layers = teacher.layers
        if isinstance(teacher.net, Chain):
            self.net: nn.Module = build_chain(teacher.blocks(), bias=False, batch_norm=True, signed=teacher.signed)
        else:
            self.net = teacher.build_network()
        self.heads = nn.ModuleList()
        if width < 1:
            narrow(self.net, width)
            self.heads.extend(nn.Conv2d(narrowed(c, width), c, kernel_size=1) for c in teacher.channels.values())
            self._probe(teacher.backbone)

    def _probe(self, backbone: str) -> None:
        """Check that the narrowed layers still fit together, which fails where features are concatenated."""
        self.net.eval()
        try:
            with torch.no_grad():
                self(torch.zeros(1, 3, 2 * MIN_SIZE, 2 * MIN_SIZE))
        except RuntimeError as error:
            msg = (
                f"Expected a backbone whose layers can all be narrowed alike, such as a ResNet, got {backbone!r}: "
                f"{error} Set student_width=1."
            )
            raise ValueError(msg) from error
        self.net.train()

    def forward(self, images: Tensor) -> Pyramid:
        """Compute the features at the layers."""
        features = self.net(images)
        if isinstance(features, dict):
            features = features.values()
        if self.heads:
            features = [head(level) for head, level in zip(self.heads, features, strict=True)]
        return dict(zip(self.layers, features, strict=True))


def narrowed(channels: int, width: float) -> int:
    """Scale a number of channels.

    Args:
        channels: Channels of the full network.
        width: Share to keep.

    Example:
        >>> narrowed(64, 0.25)
        16
    """
    return max(1, round(channels * width))


def narrow(net: nn.Module, width: float) -> None:
    """Remove channels from every layer of a randomly initialised CNN, in place.

    timm offers this for a few families only, and not for the stem, the most expensive part of a narrow ResNet. The
    remaining weights of a convolution are scaled up to the variance that suits its smaller fan.

    Args:
        net: Convolutions, BatchNorms and modules without parameters.
        width: Share of the channels to keep.

    Raises:
        ValueError: If another layer has parameters, or the groups of a convolution cannot be divided.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            _narrow_convolution(name, module, width)
        elif isinstance(module, nn.BatchNorm2d):
            module.num_features = narrowed(module.num_features, width)
            for key, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if value.ndim:  # not the count of batches, a scalar
                    _replace(module, key, value[: module.num_features])
        elif next(module.parameters(recurse=False), None) is not None:
            msg = (
                f"Expected a backbone of convolutions and BatchNorms for a student_width below 1, got the "
                f"{type(module).__name__} {name!r}. Set student_width=1, or choose another backbone."
            )
            raise ValueError(msg)


def _narrow_convolution(name: str, convolution: nn.Conv2d, width: float) -> None:
    depthwise = convolution.groups == convolution.in_channels
    if convolution.in_channels != 3:  # an image keeps its channels
        convolution.in_channels = narrowed(convolution.in_channels, width)
    convolution.out_channels = narrowed(convolution.out_channels, width)
    if depthwise:
        convolution.groups = convolution.in_channels
    if convolution.in_channels % convolution.groups or convolution.out_channels % convolution.groups:
        msg = (
            f"Expected a student_width that leaves channels divisible by the {convolution.groups} groups of {name!r}, "
            f"got {width}. Set student_width to another share, or to 1."
        )
        raise ValueError(msg)
    kept = convolution.weight[: convolution.out_channels, : convolution.in_channels // convolution.groups]
    _replace(convolution, "weight", kept / width**0.5)
    if convolution.bias is not None:
        _replace(convolution, "bias", convolution.bias[: convolution.out_channels])


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    value = value.detach().clone()
    setattr(module, name, nn.Parameter(value) if isinstance(getattr(module, name), nn.Parameter) else value)
