# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Accuracy cost of 8 bits in the first convolutions: ``python -m benchmark.first_convolution --setup.batch_size 8``.

Trains a MixedDistillation (seed 0) on a category, exports it for images of 256 px in 8 bits with and without the
convolutions that read the image, and tests both exports with OpenVINO's default settings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import jsonargparse
from anomalib.deploy import CompressionType
from lightning import seed_everything
from torchvision.transforms.v2.functional import resize

from anomalib_mkd.export import quantization
from anomalib_mkd.results.machine import machine
from benchmark.accuracy import openvino_outputs, test_outputs, train
from benchmark.outputs import Outputs, measure
from benchmark.runs import Run, build_model, run_data

if TYPE_CHECKING:
    from benchmark.__main__ import Setup

SIZE = (256, 256)


def show(name: str, outputs: Outputs) -> None:
    """Print the metrics of a whole test set."""
    whole = {metric: value for (metric, subset), value in measure(outputs).items() if subset == "all"}
    print(f"{name:32}", ", ".join(f"{metric} {100 * value:.1f}" for metric, value in whole.items()))


def main(setup: Setup, data: str = "mvtec/screw") -> None:
    """Train, export twice, and test.

    Args:
        setup: Common options.
        data: Folder under the data root, in MVTec layout.
    """
    setup.prepare()
    print(machine(setup.threads))
    seed_everything(0, verbose=False)
    run = Run("MixedDistillation", "default", data, seed=0, **setup.run)
    datamodule, model = run_data(setup.data_root, run), build_model(run)
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        train(model, datamodule, run, Path(folder))
        outputs = test_outputs(model, datamodule, Path(folder))
        show("torch", outputs)
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
            show(f"first convolutions {name}", openvino_outputs(file, images, outputs))


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
