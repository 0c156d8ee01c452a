# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""An optimiser that needs fewer steps than AdamW: see docs/decisions/0034-orthogonal-steps.md."""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of an odd polynomial that, applied five times, moves every number in 0.01..1 near 1; from Jordan."""
ITERATIONS = 5
RMS = 0.2
"""Root mean square of AdamW's steps, after Liu et al., so that a learning rate means the same for both."""


class Muon(torch.optim.AdamW):
    """Moves each matrix along its orthogonalised momentum, and all other parameters as AdamW does.

    A step changes all directions of a weight equally, not only the few that dominate its gradient. A convolution counts
    as a matrix with one row per output channel. Source: Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/; length of the steps: Liu et al. 2025, arXiv 2502.16982.

    ``torch.optim.Muon`` rejects convolutions, and timm's version iterates in bf16, which is 13 to 26 times slower on a
    CPU that has to emulate it (``benchmark/time_muon.py``).

    Args:
        params: As for AdamW.
        lr: Learning rate of both kinds of steps.
        weight_decay: Decoupled weight decay of both kinds of steps.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
        >>> weight.grad = torch.tensor([[9.0, 0.0], [0.0, -0.1]])
        >>> Muon([weight], lr=0.1).step()
        >>> (weight.data.abs() > 0.01).diagonal().tolist()  # both directions, whatever their gradients
        [True, True]
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, which clears the gradients of matrices.

        Args:
            closure: Computes the loss and the gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim > 1 and weight.grad is not None:
                    self._move(weight, weight.grad, group["lr"], group["weight_decay"])
                    weight.grad = None  # so that AdamW skips it
        super().step()
        return loss

    def _move(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())  # AdamW expects it in a checkpoint
            state["momentum"] = torch.zeros_like(weight)
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM)  # Nesterov's
        weight.mul_(1 - rate * decay)
        matrix = rearrange(ahead, "o ... -> o (...)")
        weight.sub_(rate * RMS * max(matrix.shape) ** 0.5 * orthogonalized(matrix).view_as(weight))


def orthogonalized(matrix: Tensor) -> Tensor:
    """Move all singular values near 1, within 0.7..1.2, and keep the directions.

    Args:
        matrix: ``(O, I)``.

    Example:
        >>> torch.linalg.svdvals(orthogonalized(torch.tensor([[3.0, 0.0], [0.0, 0.2]]))).round(decimals=1)
        tensor([1.1000, 0.7000])
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    turned: Tensor = x.T if tall else x
    return turned
