# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What painting over training pictures costs: ``python benchmarks/painting.py``.

A batch of 8 pictures of 256 pixels, all of them painted on, one thread; ours and anomalib's ``PerlinAnomalyGenerator``
take turns, and the median of some turns is told.
"""

from functools import partial

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from turns import median_seconds

from anomalib_mkd.training.painting import paint_over

TURNS = 10
PAINTERS = {"ours": partial(paint_over, share=1.0), "anomalib's": PerlinAnomalyGenerator(probability=1.0)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(8, 3, 256, 256)
    print(f"{torch.backends.cpu.get_cpu_capability()}, one thread")
    for name, seconds in median_seconds(
        {name: partial(paint, images) for name, paint in PAINTERS.items()}, TURNS
    ).items():
        print(f"{name:12} {1000 * seconds / len(images):6.1f} ms per picture")
