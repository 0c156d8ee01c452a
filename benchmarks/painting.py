# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What painting over training pictures costs: ``python benchmarks/painting.py``.

A batch of 8 pictures of 256 pixels, all of them painted on, one thread; ours and anomalib's ``PerlinAnomalyGenerator``
take turns, and the median of some turns is told.
"""

import statistics
import time
from functools import partial

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator

from anomalib_mkd.components.painting import paint_over

TURNS = 10
PAINTERS = {"ours": partial(paint_over, share=1.0), "anomalib's": PerlinAnomalyGenerator(probability=1.0)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(8, 3, 256, 256)
    seconds: dict[str, list[float]] = {name: [] for name in PAINTERS}
    for _ in range(TURNS + 1):
        for name, paint in PAINTERS.items():
            start = time.perf_counter()
            paint(images)
            seconds[name].append(time.perf_counter() - start)
    print(f"{torch.backends.cpu.get_cpu_capability()}, one thread")
    for name, taken in seconds.items():
        print(f"{name:12} {1000 * statistics.median(taken[1:]) / len(images):6.1f} ms per picture")
