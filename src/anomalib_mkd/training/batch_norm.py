# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""BatchNorm statistics that are those of the final weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from anomalib_mkd.training.normal_images import normal_batches

FEW_STEPS = 1000
"""A shorter training ends with BatchNorm statistics estimated anew."""
IMAGES = 256
"""How many normal images they are estimated on, at most."""


@contextmanager
def estimating_batch_norm(network: nn.Module, *, frozen: bool = False) -> Iterator[None]:
    """Let forward passes within the block set the statistics of every BatchNorm, as plain averages.

    While weights move, running statistics lag behind them: each step counts 10 %, so after few steps, or after a
    training whose learning rate never fell, they describe a network that no longer exists.

    Args:
        network: Put back into the mode that it was in.
        frozen: Whether the BatchNorms that are not trained are meant, instead of those that are.

    Example:
        >>> norm = nn.BatchNorm2d(1).eval()
        >>> with estimating_batch_norm(norm):
        ...     for value in (1.0, 3.0):
        ...         _ = norm(torch.full((2, 1, 4, 4), value))
        >>> norm.running_mean.item(), norm.training
        (2.0, False)
    """
    norms = [
        norm
        for norm in network.modules()
        if isinstance(norm, nn.BatchNorm2d) and norm.weight.requires_grad is not frozen
    ]
    before = [(norm, norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative average
            norm.train()
        with torch.no_grad():
            yield
    finally:
        for norm, momentum, training in before:
            norm.momentum = momentum
            norm.train(training)


def refresh_batch_norm(module: Any) -> None:
    """Estimate a student's statistics anew on normal training images, after a short training.

    Args:
        module: A model at the end of its training.
    """
    if module.global_step >= FEW_STEPS or len(module.trainer.train_dataloader.dataset) < 2:
        return
    with estimating_batch_norm(module.model):
        for batch in normal_batches(module, IMAGES):
            if len(batch.image) > 1:
                module.model.pyramids(module.inputs(batch), module.teacher_pyramid(batch))
