# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Levels of a student adapted to other levels of the teacher, each by one linear layer."""

from collections.abc import Mapping, Sequence

from torch import nn

from anomalib_mkd.functional import resize
from anomalib_mkd.types import Pyramid


class LinearPath(nn.Module):
    """A linear 1x1 adapter per crossing, which cannot do the learning in the student's stead.

    Args:
        channels: Channels per layer, shallow to deep.
        crossings: The teacher's layer, then the student's, of each pair to compare.
        align: Where they are compared: ``"coarse"`` at the size of the deeper level, which cannot restore the detail of
            the shallower one, ``"fine"`` at that of the shallower level.

    Shape:
        The teacher's and the student's pyramid in; pairs to compare, the teacher's and the adapted ones, out.

    Example:
        >>> import torch
        >>> path = LinearPath({"layer1": 8, "layer2": 16}, [("layer1", "layer2")], align="coarse")
        >>> pyramid = {"layer1": torch.ones(2, 8, 4, 4), "layer2": torch.ones(2, 16, 2, 2)}
        >>> {name: tuple(features.shape) for name, features in path(pyramid, pyramid)[1].items()}
        {'layer2 for layer1': (2, 8, 2, 2)}
    """

    def __init__(self, channels: Mapping[str, int], crossings: Sequence[tuple[str, str]], align: str) -> None:
        super().__init__()
        self.crossings = {f"{source} for {target}": (target, source) for target, source in crossings}
        self.adapters = nn.ModuleList(nn.Conv2d(channels[source], channels[target], 1) for target, source in crossings)
        chosen = max if align == "coarse" else min
        self.meetings = [chosen(crossing, key=list(channels).index) for crossing in crossings]

    def forward(self, teacher: Pyramid, student: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Adapt the student's features to the teacher's layer."""
        targets, adapted = {}, {}
        for name, meeting, adapter in zip(self.crossings, self.meetings, self.adapters, strict=True):
            target, source = self.crossings[name]
            size = teacher[meeting].shape[-2:]
            targets[name], adapted[name] = resize(teacher[target], size), adapter(resize(student[source], size))
        return targets, adapted
