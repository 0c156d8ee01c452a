# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A training whose datamodule holds no images out, or that does not end on a validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

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


def small(**arguments: Any) -> MixedDistillation:
    """A model that learns little, fast."""
    return MixedDistillation(weights="quickstart", student_width=0.25, visualizer=False, **arguments)


def test_too_few_pictures_for_a_share_of_them_stop_before_the_first_step(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, limit_val_batches=0.1)
    with pytest.raises(MisconfigurationException, match="limit_val_batches"):
        engine.fit(small(training_steps=6), datamodule=make_data(tmp_path))
    assert engine.trainer.global_step == 0


def test_a_limit_of_time_alone_leaves_the_automatic_length(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, max_time="00:01:00:00", limit_val_batches=0)
    engine.fit(small(training_steps=2), datamodule=make_data(tmp_path))
    assert engine.trainer.current_epoch == 1


def test_a_trial_of_one_batch_asks_for_no_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_engine(tmp_path, fast_dev_run=True).fit(small(), datamodule=make_data(tmp_path))
    assert UNSAVED not in caplog.text


UNSAVED = "No checkpoint holds the student of the last step"


def test_a_validation_rarer_than_the_epochs_of_an_automatic_length_comes_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(tmp_path, check_val_every_n_epoch=50)
    engine.fit(small(training_steps=4), datamodule=make_data(tmp_path))
    assert torch.load(engine.best_model_path, weights_only=False)["global_step"] == engine.trainer.global_step > 0
    assert UNSAVED not in caplog.text


def test_checkpoints_of_every_few_epochs_are_written_in_a_training_of_automatic_length(tmp_path: Path) -> None:
    writer = ModelCheckpoint(tmp_path / "saved", filename="{epoch}", every_n_epochs=2, save_top_k=-1)
    engine = make_engine(tmp_path, callbacks=[writer])
    engine.fit(small(training_steps=15), datamodule=make_data(tmp_path))
    assert engine.trainer.current_epoch == 5
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"epoch=1.ckpt", "epoch=3.ckpt"}


@pytest.mark.parametrize(("epochs", "words"), [(2, "6: none was written"), (4, "12: the last one is of step 9")])
def test_a_last_student_without_a_checkpoint_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, epochs: int, words: str
) -> None:
    limits: dict[str, Any] = {"max_epochs": epochs, "check_val_every_n_epoch": 3}
    make_engine(tmp_path, **limits).fit(small(), datamodule=make_data(tmp_path))
    assert f"{UNSAVED}, {words}. Add the callback ModelCheckpoint" in caplog.text
    caplog.clear()
    writer = ModelCheckpoint(tmp_path / "saved", every_n_epochs=1, save_on_train_epoch_end=True)
    model = small()
    make_engine(tmp_path, callbacks=[writer], **limits).fit(model, datamodule=make_data(tmp_path))
    assert UNSAVED not in caplog.text
    saved = torch.load(writer.best_model_path, weights_only=False)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
@pytest.mark.parametrize("limits", [{}, {"max_epochs": 1}, {"max_steps": 2}], ids=["automatic", "epochs", "steps"])
def test_an_engine_that_has_trained_to_the_end_trains_no_other_model(tmp_path: Path, limits: dict[str, Any]) -> None:
    engine = make_engine(tmp_path, limit_val_batches=0, **limits)
    engine.fit(small(training_steps=2), datamodule=make_data(tmp_path))
    steps = engine.trainer.global_step
    with pytest.raises(ValueError, match=rf"^Expected an engine with steps left .* of {steps} steps\. Make a new"):
        engine.fit(small(training_steps=2), datamodule=make_data(tmp_path))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_an_engine_goes_on_with_more_epochs_or_from_a_checkpoint(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, limit_val_batches=0, max_epochs=1)
    model = small()
    engine.fit(model, datamodule=make_data(tmp_path))
    engine.trainer.fit_loop.max_epochs = 2
    engine.fit(model, datamodule=make_data(tmp_path))
    steps = engine.trainer.global_step
    engine.fit(small(), datamodule=make_data(tmp_path), ckpt_path=engine.best_model_path)
    assert engine.trainer.global_step == steps
