# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One frozen network for several modalities."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from anomalib_mkd.networks.teacher import FrozenNetwork, Teacher
from anomalib_mkd.training.batch_norm import estimating_batch_norm
from anomalib_mkd.types import Pyramid

RGB = "rgb"
"""The modality of the pretrained statistics."""


def level(modality: str, layer: str) -> str:
    """Return the name of a layer's features in one modality.

    Example:
        >>> level("rgb", "layer1")
        'rgb layer1'
    """
    return f"{modality} {layer}"


class SiameseTeacher(FrozenNetwork):
    """A teacher whose convolutions are shared by all modalities, with separate BatchNorm statistics for each.

    Source: MMRD (Gu et al., AAAI 2024) has such a siamese teacher; how it obtains the statistics of the second modality
    is not public. Here they start from the pretrained ones and are estimated on normal images.

    Args:
        teacher: The network for the first modality.
        modalities: Names, in the order of the channels; three channels each. ``"rgb"`` keeps the pretrained statistics.

    Attributes:
        estimated: Whether the statistics of the modalities other than ``"rgb"`` have been estimated.

    Shape:
        ``(N, 3 M, H, W)`` with M modalities in, a pyramid out whose levels are named by :func:`level`.

    Example:
        >>> teacher = SiameseTeacher(Teacher("resnet18.tv_in1k", ["layer1"], pre_trained=False), ["rgb", "aux"])
        >>> {name: tuple(f.shape) for name, f in teacher(torch.zeros(1, 6, 64, 64)).items()}
        {'rgb layer1': (1, 64, 16, 16), 'aux layer1': (1, 64, 16, 16)}
    """

    estimated: Tensor

    def __init__(self, teacher: Teacher, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.layers, self.channels, self.strides = teacher.layers, teacher.channels, teacher.strides
        self.teacher = teacher
        norms = [module for module in teacher.net.modules() if isinstance(module, nn.BatchNorm2d)]
        own = {id(parameter) for norm in norms for parameter in norm.parameters()}
        shared = {id(p): p for p in teacher.net.parameters() if id(p) not in own}
        self.others = nn.ModuleList(copy.deepcopy(teacher.net, dict(shared)) for _ in self.modalities[1:])
        self.register_buffer("estimated", torch.tensor(data=False))
        self.eval()

    @property
    def net(self) -> nn.Module:
        """The network of the first modality."""
        return self.teacher.net

    @property
    def ready(self) -> Tensor:
        """Whether the weights are loaded."""
        return self.teacher.ready

    def prepare(self) -> None:
        """Load the pretrained weights, unless they are already loaded; errors as for :class:`Teacher`."""
        if not bool(self.ready):
            self.teacher.prepare()
            for other in self.others:
                other.load_state_dict(self.net.state_dict())

    def estimate(self, batches: Iterable[Tensor]) -> None:
        """Estimate the statistics of the modalities other than ``"rgb"``.

        Meanwhile, earlier levels normalise batch by batch, so the statistics of a level are close to, but not exactly,
        those under the final statistics of the earlier levels.

        Args:
            batches: Pre-processed normal images ``(N, 3 M, H, W)``.
        """
        foreign = nn.ModuleList(net for name, net in self.nets().items() if name != RGB)
        with estimating_batch_norm(foreign, frozen=True):
            for images in batches:
                self(images)
        self.estimated.fill_(value=True)

    def nets(self) -> dict[str, nn.Module]:
        """Return the network of each modality."""
        return dict(zip(self.modalities, [self.net, *self.others], strict=True))

    def forward(self, images: Tensor) -> Pyramid:
        """Compute the features of each modality at the layers."""
        parts = zip(self.nets().items(), torch.split(images, 3, dim=1), strict=True)
        return {
            level(modality, layer): features
            for (modality, net), image in parts
            for layer, features in zip(self.layers, net(image), strict=True)
        }
