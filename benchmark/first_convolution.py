# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What 8 bits in the first convolutions cost: ``python benchmarks/first_convolution.py SHARED mvtec/screw``.

Trains a MixedDistillation (seed 0) on a category of the shared folder, exports it for images of 256 px in 8 bits with
and without the convolutions that read the image, and tests both exports as OpenVINO compiles them by itself.
"""

import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from anomalib.deploy import CompressionType
from lightning import seed_everything
from torchvision.transforms.v2.functional import resize

from anomalib_mkd.export import quantization
from anomalib_mkd.quickstart.machine import machine
from benchmark.accuracy import openvino_outputs, test_outputs, train
from benchmark.outputs import Outputs, measure
from benchmark.runs import RESNET18, Run, build_model, run_data

SIZE = (256, 256)


def tell(name: str, outputs: Outputs) -> None:
    """Print the metrics of a whole test set."""
    whole = {metric: value for (metric, subset), value in measure(outputs).items() if subset == "all"}
    print(f"{name:32}", ", ".join(f"{metric} {100 * value:.1f}" for metric, value in whole.items()))


if __name__ == "__main__":
    shared, data = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    print(machine(1))
    seed_everything(0, verbose=False)
    run = Run(model="MixedDistillation", variant="default", data=data, seed=0, weights=RESNET18, batch_size=8)
    datamodule, model = run_data(shared / "data", run), build_model(run, shared)
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        train(model, datamodule, run, Path(folder))
        outputs = test_outputs(model, datamodule, Path(folder))
        tell("torch", outputs)
        test_data = datamodule.test_data
        images = [(resize(test_data[index].image, list(SIZE)),) for index in range(len(test_data))]
        for name, stems in (("spared", quantization._stems), ("in 8 bits", lambda _: [])):  # noqa: SLF001
            with patch.object(quantization, "_stems", stems):
                file = model.to_openvino(
                    Path(folder) / name,
                    input_size=SIZE,
                    compression_type=CompressionType.INT8_PTQ,
                    datamodule=datamodule,
                )
            tell(f"first convolutions {name}", openvino_outputs(file, images, outputs))
