# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""BatchNorm statistics that match the final weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from anomalib_mkd.data.normal_images import normal_batches
from anomalib_mkd.types import BatchNorm

FEW_STEPS = 1000
"""A training with fewer steps ends by re-estimating the BatchNorm statistics."""
IMAGES = 256
"""Maximum number of normal images to estimate them on."""


@contextmanager
def estimating_batch_norm(network: nn.Module, *, frozen: bool = False) -> Iterator[None]:
    """Re-estimate the statistics of every BatchNorm from the forward passes in the block, as plain averages.

    While weights change, running statistics lag behind: each step counts 10 %, so after few steps, or after a training
    whose learning rate never fell, they describe a network that no longer exists.

    Args:
        network: Its BatchNorms return to their previous mode afterwards.
        frozen: Whether to select the BatchNorms that are not trained, instead of those that are.

    Example:
        >>> norm = nn.BatchNorm2d(1).eval()
        >>> with estimating_batch_norm(norm):
        ...     for value in (1.0, 3.0):
        ...         _ = norm(torch.full((2, 1, 4, 4), value))
        >>> norm.running_mean.item(), norm.training
        (2.0, False)
    """
    norms = [
        norm for norm in network.modules() if isinstance(norm, BatchNorm) and norm.weight.requires_grad is not frozen
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
    """Re-estimate a student's statistics on normal training images after a short training.

    Args:
        module: A model at the end of its training.
    """
    if module.global_step >= FEW_STEPS or len(module.trainer.train_dataloader.dataset) < 2:
        return
    with estimating_batch_norm(module.model):
        for batch in normal_batches(module, IMAGES):
            if len(batch.image) > 1:
                module.model.pyramids(module.inputs(batch), module.teacher_pyramid(batch))
