# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A training whose datamodule holds no images out, or that does not end on a validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lightning.pytorch import Callback

from anomalib_mkd import MixedDistillation
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]


def test_without_held_out_pictures_thresholds_come_from_those_learnt(tmp_path: Path) -> None:
    model = MixedDistillation(weights="quickstart", student_width=0.25, visualizer=False)
    engine = make_engine(tmp_path, max_epochs=1)
    (results,) = engine.train(model, datamodule=make_data(tmp_path, val_split_mode="none"))
    assert set(results) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    assert len(model.post_processor.good_scores) == 8
    assert model.post_processor.scales is not None


class StopAt(Callback):
    """Ends a training as a limit of time does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        del args
        trainer.should_stop = trainer.global_step >= self.step


@pytest.mark.parametrize(
    "limits",
    [
        {"max_steps": 3},  # within the first epoch
        {"max_steps": 6},  # within the second: after the first, thresholds were set
        {"max_epochs": 4, "check_val_every_n_epoch": 3},
        {"callbacks": [StopAt(5)]},
    ],
    ids=["first epoch", "second epoch", "every third", "stopped"],
)
def test_thresholds_are_those_of_the_last_step(tmp_path: Path, limits: dict[str, Any]) -> None:
    data = make_data(tmp_path, train_batch_size=2)
    model = MixedDistillation(weights="quickstart", student_width=0.25, training_steps=40, visualizer=False)
    make_engine(tmp_path, **limits).fit(model, datamodule=data)
    assert model.post_processor.scales is not None
    kept = [*model.post_processor.good_scores], *model.post_processor.scales
    make_engine(tmp_path).validate(model, datamodule=data)
    again = [*model.post_processor.good_scores], *model.post_processor.scales
    assert kept[0] == pytest.approx(again[0], rel=1e-4)
    assert [scale.threshold for scale in kept[1:]] == pytest.approx([scale.threshold for scale in again[1:]], rel=1e-3)
