# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a step of each optimiser costs: ``python benchmarks/muon.py``.

Over the weights of a MixedDistillation student of ResNet-18, random gradients, one thread; the optimisers take turns,
and the median of some turns is told. timm's Muon iterates in bf16, which a CPU may have to emulate.
"""

from collections.abc import Iterable
from functools import partial

import torch
from timm.optim.muon import Muon as TimmMuon
from torch.nn import Parameter
from turns import median_seconds

from anomalib_mkd import MixedDistillation
from anomalib_mkd.training.muon import Muon
from anomalib_mkd.training.precision import has_bf16

TURNS = 3
OPTIMIZERS = {"AdamW": torch.optim.AdamW, "Muon, ours": Muon, "Muon, timm's": partial(TimmMuon, conv_mode="flatten")}


def give_gradients(weights: Iterable[Parameter]) -> None:
    """Give every weight a random gradient; ours takes those of matrices away in each step."""
    for weight in weights:
        weight.grad = torch.randn_like(weight)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}, {'with' if has_bf16() else 'without'} bf16")
    for width in (0.5, 1.0):
        weights = list(MixedDistillation(pre_trained=False, student_width=width).model.learned_parameters())
        steps = {name: make(weights, lr=1e-9).step for name, make in OPTIMIZERS.items()}
        for name, seconds in median_seconds(steps, TURNS, before=partial(give_gradients, weights)).items():
            print(f"student_width {width}: {name:12} {1000 * seconds:8.1f} ms per step")
