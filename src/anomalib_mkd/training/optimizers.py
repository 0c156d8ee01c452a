# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The available optimisers, each with its default settings."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import nn

from anomalib_mkd.training.muon import Muon

OptimizerName: TypeAlias = Literal["muon", "adamw", "sgd"]

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, float]]] = {
    "muon": (Muon, {"lr": 3e-2, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 4e-3, "weight_decay": 1e-4}),
    "sgd": (partial(torch.optim.SGD, momentum=0.9), {"lr": 0.4, "weight_decay": 1e-4}),
}
"""Name to class and default settings: SGD's are STFPM's (Wang et al., BMVC 2021), the others are ours."""


def build_optimizer(
    parameters: Iterable[nn.Parameter], name: OptimizerName, learning_rate: float | None, weight_decay: float | None
) -> torch.optim.Optimizer:
    """Build an optimiser.

    Args:
        parameters: Trainable parameters.
        name: Key of ``OPTIMIZERS``.
        learning_rate: Peak learning rate; ``None`` for the optimiser's default.
        weight_decay: Weight decay; ``None`` for the optimiser's default.
    """
    optimizer, defaults = OPTIMIZERS[name]
    given = {"lr": learning_rate, "weight_decay": weight_decay}
    return optimizer(parameters, **(defaults | {key: value for key, value in given.items() if value is not None}))
