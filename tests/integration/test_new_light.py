# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A finished training continues on new good images by the recipe of docs/how_to/new_light.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning import seed_everything
from lightning.pytorch import Callback

from anomalib_mkd import MixedDistillation
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(noise) for noise in NOISE)]


class FirstLoss(Callback):
    """Keep the loss of the first step."""

    value = float("nan")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        del pl_module, batch, batch_idx
        if trainer.global_step == 1:
            self.value = float(outputs["loss"])


def fit(folder: Path, model: MixedDistillation, seed: int, **arguments: Any) -> tuple[Any, float]:
    """Train on images of a seed; returns the engine and the loss of the first step."""
    seed_everything(0, verbose=False)
    first = FirstLoss()
    engine = make_engine(folder / "run", callbacks=[first])
    engine.fit(model=model, datamodule=make_data(folder / f"data{seed}", data_seed=seed), **arguments)
    return engine, first.value


def student(model: MixedDistillation) -> dict[str, torch.Tensor]:
    """Weights, without BatchNorm's statistics, which are estimated again on the images at hand."""
    return {name: value.detach().clone() for name, value in model.model.student.named_parameters()}


def test_training_continues_from_a_checkpoint(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"weights": "quickstart", "visualizer": False}
    engine, fresh = fit(tmp_path, MixedDistillation(training_steps=30, **arguments), 0)
    checkpoint = engine.best_model_path

    again = MixedDistillation.load_from_checkpoint(checkpoint, training_steps=6, visualizer=False)
    before = again.post_processor.image_threshold.clone()
    engine, continued = fit(tmp_path, again, 1)
    assert engine.trainer.global_step == 6
    assert continued < 0.7 * fresh  # the student knows the parts already
    assert again.post_processor.image_threshold != before  # from the new validation images

    resumed = MixedDistillation.load_from_checkpoint(checkpoint, visualizer=False)
    weights = student(resumed)
    engine, none = fit(tmp_path, resumed, 1, ckpt_path=checkpoint)
    assert none != none  # noqa: PLR0124  # NaN: resuming a finished training takes no step
    assert all(torch.equal(value, weights[name]) for name, value in student(resumed).items())


def test_a_validation_alone_sets_the_threshold(tmp_path: Path) -> None:
    model = MixedDistillation(weights="quickstart", training_steps=4, visualizer=False)
    fit(tmp_path, model, 0)
    weights, before = student(model), model.post_processor.image_threshold.clone()
    make_engine(tmp_path / "run").validate(model=model, datamodule=make_data(tmp_path / "data1", data_seed=1))
    assert model.post_processor.image_threshold != before
    assert all(torch.equal(value, weights[name]) for name, value in student(model).items())
