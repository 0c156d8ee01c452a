# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Two processes train together, for the steps asked for, and end with one model."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from anomalib.engine import Engine

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Quickstart
from tests.life import NOISE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(noise) for noise in NOISE]

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


def found_alone(folder: Path, checkpoint: str) -> dict[str, float]:
    """Test a checkpoint in one process, on the same images."""
    model = MixedDistillation.load_from_checkpoint(checkpoint)
    data = Quickstart(folder / "data", image_size=64, train_images=20, test_good=3, per_defect=1)
    engine = Engine(default_root_dir=folder / "alone", logger=False, accelerator="cpu", devices=1)
    (found,) = engine.test(model, datamodule=data)
    return found


@pytest.mark.slow
def test_two_processes_train_one_model_for_the_steps_asked_for(tmp_path: Path) -> None:
    first, second = train(tmp_path)
    alone = found_alone(tmp_path, str(first["best"]))
    assert {name: first[name] for name in alone} == pytest.approx(alone)
    assert first["steps"] == second["steps"] == 6  # 5 steps, rounded up to whole epochs of 2
    assert first["image_AUROC"] == second["image_AUROC"]
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
    rerun, _ = train(tmp_path, str(first["best"]))
    assert rerun["steps"] == 6
    for key, value in first["state"].items():
        assert torch.equal(value, rerun["state"][key]), key


EXCHANGE = """
import sys
from types import SimpleNamespace

import torch
from anomalib.data import ImageBatch
from torch import distributed

from anomalib_mkd.post_processor import SoftPostProcessor
from anomalib_mkd.results.auroc import AUROC

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
torch.manual_seed(rank)


def value(count, most):
    metric = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_")
    metric.most_exact = most
    for _ in range(count):
        truth = torch.rand(1, 8, 8) < 0.2
        metric.update(ImageBatch(image=torch.rand(1, 3, 8, 8), anomaly_map=torch.rand(1, 8, 8), gt_mask=truth))
    return [round(float(metric.compute()), 6) for _ in range(2)]


found = [value(17 - rank, 16 * 64), value(3 * (1 - rank), 1000)]  # one in bins; one without any
post_processor = SoftPostProcessor()
trainer = SimpleNamespace(datamodule=None)
labels = torch.full((6,), rank)  # the second process has bad parts alone
scores = torch.arange(6.0)
batch = ImageBatch(
    image=torch.rand(6, 3, 8, 8), pred_score=scores, anomaly_map=scores.view(6, 1, 1).repeat(1, 8, 8), gt_label=labels
)
post_processor.on_validation_batch_end(trainer, None, batch)
post_processor.on_validation_epoch_end(trainer, None)
print([*found, post_processor.good_scores, post_processor.scales])
"""


def test_processes_that_hold_different_things_agree(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(EXCHANGE, encoding="utf-8")
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-W", "ignore", program, str(rank), tmp_path / "meeting"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]" in outputs[0][0]
