# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Kill trainings at random moments, resume them, and compare every bit with a training that was not killed.

    python scripts/kill_and_resume.py --kills 20

Each training runs in a process of its own, writes a checkpoint after every step, and is killed with SIGKILL between its
first step and its end. Then the newest checkpoint is resumed. One thread.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import seed_everything
from torchvision.transforms.v2 import Resize

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Quickstart

EPOCHS = 20
SIZE = 64


def train(root: Path, folder: Path, checkpoint: Path | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """Train on seven drawn images, four steps an epoch, and return what the model consists of."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seed_everything(seed, verbose=False)
    data = Quickstart(
        root, image_size=SIZE, train_images=8, test_good=1, per_defect=1, train_batch_size=2, num_workers=0
    )
    pre_processor = PreProcessor(Resize((SIZE, SIZE), antialias=True))
    model = MixedDistillation(weights="quickstart", visualizer=False, pre_processor=pre_processor)
    writer = ModelCheckpoint(
        folder / "saved", filename="{step}", auto_insert_metric_name=False, save_top_k=-1, every_n_train_steps=1
    )
    engine = Engine(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        callbacks=[writer],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    engine.fit(model, datamodule=data, ckpt_path=checkpoint)
    return {**model.state_dict(), "steps": torch.tensor(engine.trainer.global_step)}


def saved(folder: Path) -> list[Path]:
    """List the checkpoints of a training by their steps."""
    return sorted((folder / "saved").glob("*.ckpt"), key=lambda path: int(path.stem))


def main() -> None:
    """Train whole, then kill and resume."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    moments, equal = np.random.default_rng(given.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        root, whole_folder = Path(temporary) / "pictures", Path(temporary) / "whole"
        whole = train(root, whole_folder)
        files = [path.stat().st_mtime for path in saved(whole_folder)]
        seconds = files[-1] - files[0]
        for number in range(given.kills):
            folder, moment = Path(temporary) / str(number), moments.uniform(0, seconds)
            process = multiprocessing.get_context("spawn").Process(target=train, args=(root, folder))
            process.start()
            while not saved(folder):
                time.sleep(0.01)
            time.sleep(moment)
            process.kill()
            process.join()
            newest = saved(folder)[-1]
            resumed = train(root, Path(temporary) / f"{number}_resumed", newest, seed=1)
            different = [name for name, value in whole.items() if not torch.equal(value, resumed[name])]
            equal += not different
            state = f"{len(different)} of {len(whole)} values differ" if different else "equal"
            print(f"killed after step {newest.stem} of {int(whole['steps'])}: {state}", flush=True)
    print(f"{equal} of {given.kills} resumed trainings equal the uninterrupted one, bit for bit")


if __name__ == "__main__":
    main()
