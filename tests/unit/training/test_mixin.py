# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What stops a training before its first step, what does not, and what its steps do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import RandomCrop, Resize

from anomalib_mkd import MixedDistillation
from anomalib_mkd.training import mixin
from anomalib_mkd.training.mixin import ASK_STEPS, laid_out
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]


def fit(folder: Path, transform: Any = None, **arguments: Any) -> Any:
    """Train one step, and return the engine."""
    pre_processor = PreProcessor(transform or Resize((64, 64), antialias=True))
    model = MixedDistillation(weights="quickstart", visualizer=False, pre_processor=pre_processor)
    engine = make_engine(folder, max_steps=1, **arguments)
    engine.fit(model, datamodule=make_data(folder))
    return engine


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_a_precision_that_torch_would_refuse_is_named(tmp_path: Path, precision: str) -> None:
    with pytest.raises(ValueError, match=rf"^Expected precision '32-true', .*, got '{precision}'\. Set one"):
        fit(tmp_path, precision=precision)


def test_pictures_too_small_are_named_before_the_teacher_sees_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Expected pre-processed images of shape .* H, W >= 32, got \(3, 3, 31, 31"):
        fit(tmp_path, Resize((31, 31), antialias=True))


def test_a_transform_that_needs_more_than_a_pixel_is_of_unknown_size(tmp_path: Path) -> None:
    crop = RandomCrop(48)
    assert MixedDistillation(pre_trained=False, pre_processor=PreProcessor(crop)).input_size is None
    assert fit(tmp_path, crop).trainer.global_step == 1


@pytest.mark.parametrize(("device", "channels_last"), [("cpu", True), ("meta", False)])
def test_only_on_a_cpu_do_the_channels_come_last(device: str, *, channels_last: bool) -> None:
    plain = torch.zeros(2, 3, 4, 4, device=device)
    for images in (plain, plain.contiguous(memory_format=torch.channels_last)):
        assert laid_out(images).is_contiguous(memory_format=torch.channels_last) is channels_last
        assert laid_out(images).is_contiguous() is not channels_last


@pytest.mark.parametrize(("processes", "answer"), [(1, False), (2, False), (2, True)])
def test_several_processes_rarely_ask_whether_to_write_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, processes: int, *, answer: bool
) -> None:
    asked, written = [], []
    trainer: Any = SimpleNamespace(world_size=processes, global_step=0)
    trainer.fit_loop = SimpleNamespace(_should_accumulate=lambda: False)
    trainer.strategy = SimpleNamespace(broadcast=lambda own: asked.append((trainer.global_step, own)) or answer)
    monkeypatch.setattr(mixin, "save_newest", lambda trainer: written.append(trainer.global_step))
    model = MixedDistillation(pre_trained=False)
    model._trainer, model._saved_at = trainer, mixin.monotonic()
    for trainer.global_step in range(1, 2 * ASK_STEPS + 1):
        model.on_train_batch_end()
    asking = [ASK_STEPS, 2 * ASK_STEPS]
    assert asked == ([(step, False) for step in asking] if processes > 1 else [])
    assert written == (asking if answer else [])
