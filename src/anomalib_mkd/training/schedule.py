# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Length of a training, and its learning rate over time."""

import logging
import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule: TypeAlias = Literal["one_cycle", "constant"]

logger = logging.getLogger(__name__)

LIGHTNING_DEFAULT_EPOCHS = 1000
WARM_UP = 0.05
"""Share of the training during which the learning rate rises."""
LONG = 2
"""Times the steps asked for, from which on a first epoch is worth a warning."""


def limit_training(trainer: Any, training_steps: int | None) -> None:
    """End a training after ``training_steps``, unless the user set epochs or steps.

    Steps are those of the optimiser, which takes one for ``accumulate_grad_batches`` batches. They are per category if
    the datamodule has ``categories``, as ``MultiCategory`` does: one model for all of them trains as long as one model
    for each would in total. Lightning cannot distinguish its default of 1000 epochs, or of -1 with ``max_time``, from
    a user's: for exactly these, also set ``training_steps=None``. Training lasts whole epochs, and validation, which
    only sets thresholds, runs once at the end, unless a callback watches a metric; ``val_check_interval`` applies
    in the last epoch only.

    Args:
        trainer: Lightning's, about to fit.
        training_steps: Steps per category; ``None`` leaves the length to Lightning.
    """
    loop = trainer.fit_loop
    timed = any(isinstance(each, Timer) for each in trainer.callbacks)
    unset = loop.max_epochs == LIGHTNING_DEFAULT_EPOCHS or (timed and loop.max_epochs == -1)
    if training_steps is None or trainer.max_steps != -1 or not unset:
        return
    data = getattr(trainer, "datamodule", None)
    categories = len(getattr(data, "categories", ())) or 1
    steps = training_steps * categories
    loop.setup_data()
    if math.isinf(trainer.num_training_batches):
        loop.max_epochs, loop.epoch_loop.max_steps = -1, steps
        return
    steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    loop.max_epochs = max(math.ceil(steps / steps_per_epoch), loop.min_epochs or 1)
    validates = trainer.enable_validation and (data is None or getattr(data, "val_data", None) is not None)
    every, watched = trainer.check_val_every_n_epoch, any(map(watches_metric, trainer.callbacks))
    # without validation, Lightning writes checkpoints only if this number stays 1; without its last epoch's, none
    if validates and every is not None and (every > loop.max_epochs or (every == 1 and not watched)):
        trainer.check_val_every_n_epoch = loop.max_epochs
        save_at_ends_of_epochs(each for each in trainer.checkpoint_callbacks if not keeps_newest(each))
        trainer.validating = True  # as Lightning does: too few images are an error before the first step
        loop.epoch_loop.val_loop.setup_data()
        trainer.training = True
    logger.info(
        "Training for %d steps, in %d whole epochs (training_steps=%d, categories: %d).",
        loop.max_epochs * steps_per_epoch,
        loop.max_epochs,
        training_steps,
        categories,
    )
    if steps_per_epoch >= LONG * steps:
        logger.warning(
            "One epoch of these images has %d steps, %d times as many as training_steps asks for, and takes as much "
            "longer. Set --trainer.limit_train_batches %d to train on as many batches, drawn at random.",
            steps_per_epoch,
            steps_per_epoch // steps,
            steps * trainer.accumulate_grad_batches,
        )


def check_not_ended(trainer: Any) -> None:
    """Refuse a second training by a trainer that has finished its first: Lightning would train no step.

    Args:
        trainer: Lightning's, about to fit.

    Raises:
        ValueError: If no step is left.
    """
    loop, steps = trainer.fit_loop, trainer.global_step
    ended = 0 <= loop.max_epochs <= loop.epoch_progress.current.processed or 0 <= loop.max_steps <= steps
    if steps and ended and not trainer.ckpt_path:
        msg = (
            f"Expected an engine with steps left to train, got one that has finished a training of {steps} steps. Make "
            "a new Engine: a model continues from its own weights."
        )
        raise ValueError(msg)


def one_cycle(optimizer: Optimizer, trainer: Trainer) -> OptimizerLRScheduler:
    """Raise the learning rate over the first 5 % of the training, then decay it to 0 along a cosine.

    A rate that ends at 0 makes the final weights independent of the step at which training happens to stop.

    Args:
        optimizer: Its learning rate is the peak.
        trainer: Lightning's; provides the length of the training.

    Raises:
        ValueError: If the length of the training is not known in advance.
    """
    total = trainer.estimated_stepping_batches
    if math.isinf(total):
        msg = (
            "Expected a training of known length for schedule='one_cycle', got max_epochs=-1. "
            "Set max_epochs or max_steps, or schedule='constant'."
        )
        raise ValueError(msg)
    warm_up = max(1, round(WARM_UP * total))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, total - warm_up))))

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def may_be_last_epoch(trainer: Any) -> bool:
    """Return whether the current epoch may be the last one.

    Callbacks that watch a metric stop the training, or save the best weights, at the end of any epoch.

    Args:
        trainer: Lightning's, at the end of a training epoch.
    """
    loop = trainer.fit_loop
    last_step = 0 <= loop.max_steps <= trainer.global_step  # -1 is no limit
    ends = loop.max_epochs == trainer.current_epoch + 1 or trainer.should_stop or last_step
    return ends or any(map(watches_metric, trainer.callbacks))


def watches_metric(callback: Callback) -> bool:
    """Return whether a callback needs validation metrics during training."""
    return isinstance(callback, (EarlyStopping, Checkpoint)) and getattr(callback, "monitor", None) is not None


def keeps_newest(callback: Any) -> bool:
    """Return whether a callback keeps the newest checkpoint alone, of any epoch, as anomalib's own does."""
    newest = isinstance(callback, ModelCheckpoint) and callback.monitor is None and callback.save_top_k != -1
    return newest and callback._every_n_epochs == 1  # noqa: SLF001  # there is no public name


def save_at_ends_of_epochs(callbacks: Iterable[Any]) -> None:
    """Let callbacks write checkpoints at the ends of epochs that are not validated, unless told when to write.

    Args:
        callbacks: A trainer's; those that watch a metric are left alone.
    """
    for each in callbacks:
        told = not isinstance(each, ModelCheckpoint) or each._save_on_train_epoch_end is not None  # noqa: SLF001
        if not told and not watches_metric(each):
            each._save_on_train_epoch_end = True  # noqa: SLF001


def save_newest(trainer: Any) -> None:
    """Write the newest checkpoint in the middle of a training; the end of the epoch still writes one, with thresholds.

    Args:
        trainer: Lightning's, at the end of a step.
    """
    for each in () if trainer.fast_dev_run else filter(keeps_newest, trainer.checkpoint_callbacks):
        saved, metrics = each._last_global_step_saved, each._monitor_candidates(trainer)  # noqa: SLF001
        each._save_topk_checkpoint(trainer, metrics)  # noqa: SLF001
        each._save_last_checkpoint(trainer, metrics)  # noqa: SLF001
        each._last_global_step_saved = saved  # noqa: SLF001
