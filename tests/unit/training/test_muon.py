# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Muon agrees with torch's on matrices and with AdamW on all else, and goes on from a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_mkd.training.muon import Muon, orthogonalized


def gradients(parameters: list[nn.Parameter], steps: int) -> list[list[torch.Tensor]]:
    """Draw the same gradients each time."""
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(p.shape, generator=generator) for p in parameters] for _ in range(steps)]


def run(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], drawn: list[list[torch.Tensor]]) -> None:
    """Take a step with each set of gradients."""
    for step in drawn:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("shape", [(4, 4), (3, 8), (8, 3)])
def test_matrices_move_as_with_torchs_own(shape: tuple[int, int]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = [nn.Parameter(start.clone())], [nn.Parameter(start.clone())]
    drawn = gradients(ours, 5)
    run(Muon(ours, lr=0.02, weight_decay=0.1), ours, drawn)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    run(reference, theirs, drawn)
    moved = (theirs[0] - start).norm()
    assert (ours[0] - theirs[0]).norm() < 0.02 * moved  # torch iterates in bf16


def test_a_convolution_moves_as_the_matrix_of_its_output_channels() -> None:
    weight = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    convolution, matrix = [nn.Parameter(weight.clone())], [nn.Parameter(weight.flatten(1))]
    drawn = gradients(convolution, 3)
    run(Muon(convolution, lr=0.02), convolution, drawn)
    run(Muon(matrix, lr=0.02), matrix, [[g.flatten(1) for g in step] for step in drawn])
    torch.testing.assert_close(convolution[0].flatten(1), matrix[0], rtol=0, atol=0)


def test_vectors_move_as_with_adamw() -> None:
    ours, theirs = [nn.Parameter(torch.ones(5))], [nn.Parameter(torch.ones(5))]
    drawn = gradients(ours, 3)
    run(Muon(ours, lr=0.02, weight_decay=0.1), ours, drawn)
    run(torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1), theirs, drawn)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=0)


def test_goes_on_from_its_state() -> None:
    def built() -> list[nn.Parameter]:
        return [nn.Parameter(torch.ones(3, 2, 1, 1)), nn.Parameter(torch.ones(3))]

    whole, halves = built(), built()
    drawn = gradients(whole, 4)
    run(Muon(whole, lr=0.02), whole, drawn)
    first = Muon(halves, lr=0.02)
    run(first, halves, drawn[:2])
    second = Muon(halves, lr=0.5)
    second.load_state_dict(first.state_dict())
    run(second, halves, drawn[2:])
    for one, other in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_closure_is_run_with_gradients_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2, 2))

    def closure() -> torch.Tensor:
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert Muon([weight], lr=0.02).step(closure) == 4
    assert (weight < 1).any()


def test_a_gradient_of_zeros_changes_nothing() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    run(Muon([weight], lr=0.02), [weight], [[torch.zeros(2, 2)]])
    assert weight.equal(torch.ones(2, 2))


def test_singular_values_of_a_tall_and_of_a_wide_matrix() -> None:
    matrix = torch.randn(5, 9, generator=torch.Generator().manual_seed(2))
    for given in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalized(given))
        assert ((values > 0.6) & (values < 1.3)).all()
