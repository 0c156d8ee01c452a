# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Time of a training step in f32 and in bf16: ``python -m benchmark.time_precision``.

Forward and backward pass of the student on a batch of random images, with features of the teacher at hand, as from the
cache; both precisions take turns, and the medians are printed, with one thread and with two.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from anomalib_mkd import Dcam, MixedDistillation, Mkd, Mmrd
from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.results.machine import machine
from anomalib_mkd.training.mixin import laid_out
from anomalib_mkd.training.precision import student_autocast

if TYPE_CHECKING:
    from torch import Tensor

    from anomalib_mkd.training.precision import StudentPrecision
    from anomalib_mkd.types import Pyramid

TURNS = 8
CPU = torch.device("cpu")
MODELS: dict[str, tuple[Any, int, dict[str, Any], int]] = {
    "MixedDistillation": (MixedDistillation, 256, {}, 8),
    "MixedDistillation, width 1": (MixedDistillation, 256, {"student_width": 1.0}, 8),
    "Dcam": (Dcam, 256, {}, 8),
    "Mmrd, photo alone": (Mmrd, 256, {"branches": "rgb"}, 8),
    "Mkd": (Mkd, 128, {"backbone": "vgg16.tv_in1k"}, 16),
}
"""Title to class, side of the images, arguments, and images per step."""


def step(model: Any, images: Tensor, teacher: Pyramid, precision: StudentPrecision) -> None:
    """Compute the gradients of one batch, as a training step does."""
    with student_autocast(CPU, precision):
        targets, student = model.pyramids(images, teacher)
    model.loss(targets, {name: features.float() for name, features in student.items()})["loss"].backward()
    model.zero_grad()


def main() -> None:
    """Time each model in both precisions."""
    torch.manual_seed(0)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        print(machine(threads))
        for title, (made, side, arguments, batch) in MODELS.items():
            model = made(pre_trained=False, **arguments).model.train()
            images = laid_out(torch.randn(batch, 3, side, side))
            with torch.no_grad():
                teacher = model.teacher(images)
            calls = {name: partial(step, model, images, teacher, name) for name in ("f32", "bf16")}
            f32, bf16 = (1000 * statistics.median(taken) for taken in take_turns(calls, TURNS).values())
            print(f"{title:28} f32 {f32:7.0f} ms, bf16 {bf16:7.0f} ms, {bf16 / f32:.2f} times as long")


if __name__ == "__main__":
    main()
