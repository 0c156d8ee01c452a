# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The callback that says what a test or a prediction found: on the terminal, in a table and on a report page."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback
from rich.console import Console

from anomalib_mkd.data.normal_images import held_out, normal_batches
from anomalib_mkd.results.predictions import predictions_of, write_csv
from anomalib_mkd.results.verdicts import group_table, prediction_table, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning.pytorch import LightningModule, Trainer

    from anomalib_mkd.results.predictions import Prediction

logger = logging.getLogger(__name__)

TABLE = "predictions.csv"
PAGE = "report.html"
MOST_TRAINING_PICTURES = 1000
"""Most training pictures that are scored after a training, evenly spaced; more would take longer than the training."""


class Results(Callback):
    """Collect the predictions of a test or a prediction, print them, and write a table and a report page.

    Files go to the run's folder, where anomalib puts the heat maps. Each run overwrites those of the run before in the
    same folder. Our models bring this callback along. For another of anomalib's, pass it to the engine:
    ``Engine(callbacks=[Results()])``.

    Args:
        report: Whether to write the page, and to score the training pictures for it.
    """

    def __init__(self, report: bool = True) -> None:  # noqa: FBT001, FBT002  # as anomalib's switches
        self.report = report
        self.predictions: list[Prediction] = []
        self.training: list[Prediction] = []
        self._start = 0.0

    # --------------------------------------------------------------------------------------------------- collecting

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no predictions."""
        del trainer, pl_module
        self.predictions.clear()
        self._start = time.perf_counter()

    on_predict_epoch_start = on_test_epoch_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the predictions of a batch, behind the post-processor."""
        del outputs, batch_idx, dataloader_idx
        self.predictions += _rows(trainer, pl_module, batch)

    on_predict_batch_end = on_test_batch_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the good parts of the training: a defect among them is likeliest where the score is highest."""
        self.training.clear()
        if not self.report or trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it
            return
        training = pl_module.training
        pl_module.eval()
        with torch.inference_mode():
            for batch in _good_batches(trainer, pl_module):
                self.training += _rows(trainer, pl_module, batch)
        pl_module.train(training)

    # --------------------------------------------------------------------------------------------------- presenting

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the counts, and write the files."""
        self._write(trainer, pl_module)
        if self.predictions and trainer.is_global_zero and trainer.test_loop.verbose:
            _print(group_table(self.predictions), sentence(self.predictions))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the predictions, and write the files."""
        self._write(trainer, pl_module)
        if self.predictions and trainer.is_global_zero:
            _print(prediction_table(self.predictions), sentence(self.predictions))

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        self.predictions = _of_all_processes(trainer, self.predictions)
        if not self.predictions or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / TABLE, self.predictions)


def _rows(trainer: Trainer, module: Any, batch: Any) -> list[Prediction]:
    """List the predictions of a post-processed batch, whose files must be known."""
    if batch.image_path is None or batch.pred_score is None:
        return []
    categories_of = getattr(getattr(trainer, "datamodule", None), "categories_of", None)
    categories = categories_of(batch) if categories_of else [None] * len(batch.image_path)
    return predictions_of(batch, categories, *thresholds(module.post_processor))


def thresholds(post_processor: Any) -> tuple[float | None, float | None]:
    """Return the thresholds of scores and of pixels; ``None`` for one that no validation has set.

    Without one, anomalib still compares: raw scores with 0.5.

    Args:
        post_processor: A model's; ``None`` if it has none.
    """
    if not isinstance(post_processor, PostProcessor) or not post_processor.enable_thresholding:
        return None, None
    image, pixel = (
        None if math.isnan(raw) else float(scaled)
        for raw, scaled in (
            (post_processor.image_threshold, post_processor.normalized_image_threshold),
            (post_processor.pixel_threshold, post_processor.normalized_pixel_threshold),
        )
    )
    return image, pixel


def _good_batches(trainer: Any, module: Any) -> Iterator[Any]:
    """Predict on good parts of a training: those that it learnt from, and those that set the threshold."""
    post_processors = [each for each in trainer.callbacks if isinstance(each, PostProcessor)]
    for dataset in (trainer.train_dataloader.dataset, held_out(getattr(trainer, "datamodule", None))):
        if dataset is None:
            continue
        for batch in normal_batches(module, MOST_TRAINING_PICTURES, dataset):
            predicted = module.predict_step(batch, 0)
            for post_processor in post_processors:
                post_processor.on_predict_batch_end(trainer, module, predicted, batch, 0)
            yield predicted


def _of_all_processes(trainer: Any, predictions: list[Prediction]) -> list[Prediction]:
    """Join the predictions of all processes, each of which may have been given some files twice to be as busy."""
    if trainer.world_size == 1:
        return predictions
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, predictions)
    return list({row.file: row for part in parts for row in part}.values())


def _print(*parts: Any) -> None:
    console = Console()
    for part in parts:
        if part is not None:
            console.print(part, markup=False, highlight=False)
