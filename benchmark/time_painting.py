# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Time to paint over training images: ``python -m benchmark.time_painting``.

A batch of 8 images of 256 pixels, all painted over, with one thread; ours and anomalib's ``PerlinAnomalyGenerator``
take turns, and the median is printed.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator

from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.training.painting import paint_over

TURNS = 10


def main() -> None:
    """Time both painters."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(8, 3, 256, 256)
    perlin = PerlinAnomalyGenerator(probability=1.0)
    calls = {"ours": partial(paint_over, images, share=1.0), "anomalib's": partial(perlin.__call__, images)}
    print(f"{torch.backends.cpu.get_cpu_capability()}, one thread")
    for name, seconds in take_turns(calls, TURNS).items():
        print(f"{name:12} {1000 * statistics.median(seconds) / len(images):6.1f} ms per image")


if __name__ == "__main__":
    main()
