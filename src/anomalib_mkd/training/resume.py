# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a resumed training needs besides weights and optimiser to be the uninterrupted one, bit for bit on a CPU.

On a GPU, sums depend on their timing: CUDA repeats them with the trainer's ``deterministic=True`` only.
"""

from __future__ import annotations

import random
from inspect import currentframe
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping


class _Generator(torch.Generator):
    """One that a course has given to a loader, which a later training may use as well."""


class Course:
    """The random course of a training: the order of its images, and all other random numbers.

    Lightning continues an interrupted epoch with a new order, and draws other random numbers. Here the order follows
    from a seed and the epoch alone, so that the rest of an epoch can be read again. A loader or a sampler that has a
    generator of its own keeps it.

    Args:
        trainer: Lightning's, about to train.
        saved: What :meth:`state` returned when the training was interrupted; ``None`` for a new one.
    """

    def __init__(self, trainer: Any, saved: dict[str, Any] | None = None) -> None:
        self.trainer = trainer
        loader: Any = trainer.train_dataloader
        self.seed = saved["seed"] if saved else int(torch.empty((), dtype=torch.int64).random_())
        loop = trainer.fit_loop
        begin_next_epoch(loop)
        self.begin(loop.epoch_progress.current.processed)
        if saved is not None or getattr(loader, "num_workers", 0) > 0:  # Lightning has begun to read, in another order
            iter(loop._data_fetcher)  # noqa: SLF001  # there is no public name
        if saved:
            progress = loop.epoch_loop.batch_progress
            for _ in range(0 if progress.is_last_batch else progress.current.ready):
                if next(loop._data_fetcher.iterator, None) is None:  # noqa: SLF001
                    msg = (
                        "Expected the training images of the interrupted training, got fewer. Put them back, or "
                        "train anew, without the checkpoint."
                    )
                    raise ValueError(msg)
            if len(saved["random"]) == trainer.world_size:
                set_random_state(saved["random"][trainer.global_rank])

    def begin(self, epoch: int) -> None:
        """Set the order of an epoch, which is about to be read.

        Args:
            epoch: From 0.
        """
        for part in _random_parts(self.trainer.train_dataloader):  # of a loader that may be new in each epoch
            _own_generator(part).manual_seed(self.seed + epoch)
            if hasattr(part, "set_epoch"):  # of a sampler that serves several processes
                part.set_epoch(epoch)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs; all processes must call it."""
        states: list[Any] = [random_state()] * self.trainer.world_size
        if self.trainer.world_size > 1:
            torch.distributed.all_gather_object(states, random_state())
        return {"seed": self.seed, "random": states}


def end_epoch(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Let a resumed training end the epoch whose last batch was done when the checkpoint was written.

    Lightning begins the next epoch at once, so that the validation and what belongs to it would be left out.

    Args:
        checkpoint: Changed in place.
        trainer: Lightning's, about to fit.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    if not batches["is_last_batch"] and epochs["current"]["processed"] == epochs["current"]["started"]:
        for count in ("total", "current"):  # saved within an epoch, which continues
            epochs[count]["processed"] -= 1
            batches[count]["completed"] -= 1
    if not batches["is_last_batch"] or batches["current"]["completed"] == batches["current"]["processed"]:
        return
    epoch, every = epochs["current"]["started"], trainer.check_val_every_n_epoch
    validates = trainer.enable_validation and every is not None and epoch % every == 0
    if not validates and epoch == trainer.max_epochs:
        return
    for count in ("total", "current"):
        batches[count]["completed"] += 1
        if not validates:  # as at the end of an epoch
            epochs[count]["processed"] += 1
    if validates:  # as in the middle of a validation, which is begun again
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        loops["epoch_loop.val_loop.batch_progress"] |= {"total": begun, "current": dict.fromkeys(begun, 0)}


def begin_next_epoch(loop: Any) -> None:
    """Let a training with ``max_steps`` that was saved at the end of an epoch begin the next one.

    Lightning would add a batch to the old one.

    Args:
        loop: Lightning's ``fit_loop``, about to train.
    """
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
        loop.reset_restart_stage()
        loop.epoch_loop.restarting = False


def stop_if_stopped(trainer: Any) -> None:
    """End a resumed training that early stopping had ended; Lightning would train one more epoch."""
    for callback in trainer.callbacks:
        if isinstance(callback, EarlyStopping) and callback.stopped_epoch and callback.wait_count >= callback.patience:
            trainer.should_stop = True


def tests_its_training() -> bool:
    """Return whether anomalib's ``Engine.train`` is running, which tests the checkpoint that it resumed from.

    What it has learnt since would be lost from memory, and its report would be one of the old checkpoint.
    """
    from anomalib.engine import Engine  # noqa: PLC0415  # which, imported first, registers these models

    frame = currentframe()
    while frame is not None and frame.f_code is not Engine.train.__code__:
        frame = frame.f_back
    return frame is not None


def _random_parts(loader: Any) -> list[Any]:
    """Return what draws random numbers for a loader: seeds of its workers, and the order."""
    samplers = [getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)]
    return [loader, *{id(sampler): sampler for sampler in samplers if sampler is not None}.values()]


def _own_generator(part: Any) -> torch.Generator:
    """Give a part of a loader a generator, unless it has one or needs none."""
    own = getattr(part, "generator", None)
    if isinstance(own, _Generator):
        return own
    generator = _Generator()
    if own is None:
        part.generator = generator
    return generator


def random_state() -> dict[str, Any]:
    """Return the states of all global random numbers, in types that a checkpoint may contain.

    Example:
        >>> state = random_state()
        >>> first = random.random(), np.random.rand(), torch.rand(()).item()
        >>> set_random_state(state)
        >>> first == (random.random(), np.random.rand(), torch.rand(()).item())
        True
    """
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # what transforms draw from
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set the states of all global random numbers.

    Args:
        state: As from :func:`random_state`.
    """
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    if torch.backends.mps.is_available() and state.get("mps") is not None:  # older checkpoints have none
        torch.mps.set_rng_state(state["mps"].cpu())
