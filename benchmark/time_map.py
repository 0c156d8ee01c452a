# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Time that Mkd's gradient map adds to its score: ``python -m benchmark.time_map``.

Exports of untrained models run in OpenVINO, one image and one thread, and take turns; the medians are printed, with the
median of the ratios within a turn.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch

from anomalib_mkd import Mkd
from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.deploy.graph import core, keep_score_alone
from anomalib_mkd.results.machine import machine

TURNS = 30
WARM_UP = 3
SIDE = 128
CONFIG = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def main() -> None:
    """Time Mkd with its paper's teacher and with the embedded one; with the paper's map and with its own."""
    print(f"{machine(1)}; images of {SIDE} px")
    for teacher in ("vgg16.tv_in1k", "quickstart"):
        for layers in ("second", None):
            module = Mkd(teacher, map_layers=layers, pre_trained=False, post_processor=False)
            with tempfile.TemporaryDirectory() as folder:
                path = module.eval().to_openvino(Path(folder), input_size=(SIDE, SIDE))
                with_map, alone = core().read_model(path), core().read_model(path)
            keep_score_alone(alone)
            images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).numpy()
            calls = {
                name: partial(core().compile_model(graph, "CPU", CONFIG), [images])
                for name, graph in {"score and map": with_map, "score": alone}.items()
            }
            both, score = take_turns(calls, TURNS, warm_up=WARM_UP).values()
            ratio = statistics.median(one / other for one, other in zip(both, score, strict=True))
            full, short = (1000 * statistics.median(seconds) for seconds in (both, score))
            print(f"{teacher}, map_layers={layers!r}: {full:.1f} ms, score alone {short:.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
