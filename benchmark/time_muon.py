# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Time per step of each optimiser: ``python -m benchmark.time_muon``.

For the weights of a MixedDistillation student of ResNet-18, with random gradients and one thread; the optimisers take
turns, and the median is printed. timm's Muon iterates in bf16, which a CPU may have to emulate.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING

import torch
from timm.optim.muon import Muon as TimmMuon

from anomalib_mkd import MixedDistillation
from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.training.muon import Muon
from anomalib_mkd.training.precision import is_faster_in_bf16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.nn import Parameter
    from torch.optim import Optimizer

TURNS = 3
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "Muon, ours": Muon,
    "Muon, timm's": partial(TimmMuon, conv_mode="flatten"),
}


def give_gradients(weights: Iterable[Parameter]) -> None:
    """Set a random gradient for every weight; our optimiser clears those of matrices in each step."""
    for weight in weights:
        weight.grad = torch.randn_like(weight)


def main() -> None:
    """Time the optimisers at two widths of the student."""
    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}, {'with' if is_faster_in_bf16() else 'without'} AMX")
    for width in (0.5, 1.0):
        weights = list(MixedDistillation(pre_trained=False, student_width=width).model.learned_parameters())
        steps = {name: make(weights, lr=1e-9).step for name, make in OPTIMIZERS.items()}
        for name, seconds in take_turns(steps, TURNS, before=partial(give_gradients, weights)).items():
            print(f"student_width {width}: {name:12} {1000 * statistics.median(seconds):8.1f} ms per step")


if __name__ == "__main__":
    main()
