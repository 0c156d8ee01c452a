# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Two processes train together, for the steps asked for, and end with one model."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path

import torch
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import seed_everything
from torchvision.transforms.v2 import Resize

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Quickstart

if __name__ == "__main__":  # the second process runs this file, too
    folder, checkpoint = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    torch.set_num_threads(1)
    seed_everything(0)
    small = PreProcessor(Resize((64, 64), antialias=True))
    model = MixedDistillation(weights="quickstart", training_steps=5, visualizer=False, pre_processor=small)
    sizes = {"image_size": 64, "train_images": 20, "test_good": 3, "per_defect": 1}
    data = Quickstart(folder / "data", train_batch_size=4, eval_batch_size=4, **sizes)
    engine = Engine(default_root_dir=folder, logger=False, accelerator="cpu", strategy="ddp", devices=2)
    engine.fit(model, datamodule=data, ckpt_path=checkpoint)
    (found,) = engine.test(model, datamodule=data)
    torch.save(
        {"state": model.state_dict(), "steps": engine.trainer.global_step, "best": engine.best_model_path, **found},
        folder / f"of_process_{engine.trainer.global_rank}.pt",
    )
"""


def train(folder: Path, *arguments: str) -> list[dict[str, object]]:
    """Train in two processes, and return what each ended with."""
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", program, folder, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)  # noqa: S603
    assert ended.returncode == 0, ended.stderr[-2000:]
    return [torch.load(folder / f"of_process_{number}.pt", weights_only=True) for number in range(2)]


@pytest.mark.slow
def test_two_processes_train_one_model_for_the_steps_asked_for(tmp_path: Path) -> None:
    first, second = train(tmp_path)
    assert first["steps"] == second["steps"] == 6  # 5 steps, rounded up to whole epochs of 2
    assert first["image_AUROC"] == second["image_AUROC"]
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
    rerun, _ = train(tmp_path, str(first["best"]))
    assert rerun["steps"] == 6
    for key, value in first["state"].items():
        assert torch.equal(value, rerun["state"][key]), key
