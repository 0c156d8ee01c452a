# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Many short trainings, and whether each collapsed, detected on held-out normal images without any label."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from anomalib_mkd.data import Parts
from anomalib_mkd.data.normal_images import normal_batches
from anomalib_mkd.functional import mean_of_largest, position_cosine_distance
from anomalib_mkd.training.mixin import DivergedError
from benchmark.accuracy import device_of, train, train_precision
from benchmark.rows import Row, append_rows, commit, has_run
from benchmark.runs import Run, build_model, run_row
from benchmark.selection import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomalib.models.components import AnomalibModule
    from torch import Tensor

logger = logging.getLogger(__name__)

METRIC = "collapsed"
DISTANCE, FROM_STEP = 0.9, 100
"""A larger mean distance of a level (1 for unrelated features) is a sign from this step on; earlier it is normal."""
SPREAD, TIES = 1e-6, 0.5
"""A smaller deviation of the scores over their mean, or a larger share of images with the same score, is a sign."""


class HeldOutSigns(Callback):
    """Look for signs of a collapsed student on the validation images at the end of training."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the signs of a collapse."""
        dataset = trainer.datamodule.val_data  # type: ignore[attr-defined]  # it always has one here
        self.found = signs(pl_module, next(normal_batches(pl_module, dataset=dataset)), trainer.global_step)


@torch.no_grad()
def signs(module: Any, batch: Any, step: int) -> list[str]:
    """Describe the signs of a collapsed student.

    Args:
        module: A model that predicts level by level; its mode is restored.
        batch: Normal images.
        step: Training steps taken.
    """
    model, images = module.model, module.inputs(batch)
    training = model.training
    model.eval()
    teacher, student = model.compared(images, model.teacher(images))
    scores = mean_of_largest(model.locate(teacher, student, images.shape[-2:]), model.score_share)
    model.train(training)
    found = []
    for name, features in student.items():
        distance = position_cosine_distance(teacher[name], features).mean()
        if step >= FROM_STEP and not distance <= DISTANCE:  # also if it is NaN
            found.append(f"a mean distance of {distance:.2f} at {name!r}")
    if len(scores) > 1 and constant(scores):
        found.append(f"the same score, {scores[0]:.3g}, for most of {len(scores)} images")
    return found


def constant(scores: Tensor) -> bool:
    """Return whether scores ``(N,)`` do not distinguish images.

    Example:
        >>> constant(torch.tensor([0.5, 0.5, 0.5, 0.2])), constant(torch.tensor([0.5, 0.4, 0.3, 0.2]))
        (True, False)
    """
    counts = torch.unique(scores, return_counts=True)[1]
    return bool(counts.max() > TIES * len(scores) or not scores.std() >= SPREAD * scores.mean().abs())


def measure_short_run(
    run: Run,
    *,
    results: Path,
    data_root: Path,
    source: str | None = None,
    build: Callable[[Run], AnomalibModule] = build_model,
) -> list[Row]:
    """Train on four fifths of the normal training images, and append one row, unless the file already has it.

    Args:
        run: The run; its model must predict level by level.
        results: CSV file.
        data_root: Folder that contains ``run.data``.
        source: Commit of the code; determined if ``None``.
        build: Builds the model.

    Returns:
        The row ``collapsed``: 1 if the loss was not finite or the other fifth shows a sign, otherwise 0. Empty if the
        file already had the run.
    """
    if has_run(results, run.key):
        logger.info("%s: already measured, skipped", run.name)
        return []
    source = source or commit()
    seed_everything(run.seed, verbose=False)
    datamodule = Parts(
        data_root,
        run.data,
        train_batch_size=run.batch_size,
        num_workers=0,
        val_split_mode="from_train",
        val_split_ratio=HELD_OUT,
        seed=run.seed,
    )
    model, observer = build(run), HeldOutSigns()
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as work:
        try:
            train(model, datamodule, run, Path(work), [observer])
        except DivergedError as error:
            observer.found.append(str(error))
    sample: Any = datamodule.train_data[0]  # resized by the model's pre-processor
    row = run_row(
        run,
        METRIC,
        float(bool(observer.found)),
        epochs=run.steps / len(datamodule.train_dataloader()),
        image_size=sample.image.shape[-1],
        precision=train_precision(model),
        device=device_of(model),
        source=source,
    )
    append_rows(results, [row])
    logger.info("%s: %s", run.name, "; ".join(observer.found) or "no sign of a collapse")
    return [row]
