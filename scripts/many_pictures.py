# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Peak memory of training, testing and predicting with very many images.

    python scripts/many_pictures.py --pictures 10000

Draws so many good parts to train on and parts to test on, and prints each stage's peak of resident memory. Linux only.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Parts

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTURES = 64
"""Different backgrounds; noise of its own for every part would take longer to draw than to test."""


def draw(root: Path, pictures: int, size: int) -> None:
    """Draw parts of noise, every fourth of those to test on with a bright square."""
    random = np.random.default_rng(0)
    textures = random.integers(90, 130, (TEXTURES, size, size, 3), np.uint8)
    for folder, count in (
        ("train/good", pictures),
        ("test/good", pictures - pictures // 4),
        ("test/bad", pictures // 4),
    ):
        (root / folder).mkdir(parents=True)
        (root / "ground_truth" / "bad").mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.roll(textures[index % TEXTURES], index, axis=index % 2)
            if folder == "test/bad":
                truth = np.zeros((size, size), np.uint8)
                top, left = random.integers(0, size - 40, 2)
                truth[top : top + 40, left : left + 40] = 255
                pixels[truth > 0] = 200
                Image.fromarray(truth).save(root / "ground_truth" / "bad" / f"{index:05}.png")
            Image.fromarray(pixels).save(root / folder / f"{index:05}.jpg", quality=80)


def measured(stage: str, run: Callable[[], object]) -> None:
    """Run a stage, and print its peak of resident memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start = time.perf_counter()
    run()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1e6
    print(f"{stage:8} {peak:6.2f} GB  {time.perf_counter() - start:6.0f} s", flush=True)


def main() -> None:
    """Draw, train, test and predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256, help="side of an image and of its map in pixels")
    parser.add_argument("--steps", type=int, default=300, help="of the training")
    parser.add_argument(
        "--stages", nargs="+", choices=("train", "test", "predict"), default=["train", "test", "predict"]
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        measured("draw", lambda: draw(root / "parts", given.pictures, given.size))
        pre_processor = PreProcessor(Resize((given.size, given.size), antialias=True))
        model = MixedDistillation(
            weights="quickstart", training_steps=given.steps, visualizer=False, pre_processor=pre_processor
        )
        data = Parts(root / "parts", eval_batch_size=16, num_workers=0)
        engine = Engine(default_root_dir=root, accelerator="cpu", devices=1, logger=False)
        pictures = PredictDataset(root / "parts" / "test")
        loader = DataLoader(pictures, batch_size=16, collate_fn=pictures.collate_fn)
        stages = {
            "train": lambda: engine.fit(model, datamodule=data),
            "test": lambda: engine.test(model, datamodule=data),
            "predict": lambda: engine.predict(model, dataloaders=loader),
        }
        for stage in given.stages:
            measured(stage, stages[stage])


if __name__ == "__main__":
    main()
