# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics and heat maps per category, for any model.

While a model runs on several categories, these callbacks replace its own evaluator and visualizer. The model itself and
its checkpoints do not change.
"""

from __future__ import annotations

import copy
import logging
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torchmetrics import MeanMetric

from anomalib_mkd.category_post_processor import split_batch
from anomalib_mkd.data.reading import part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anomalib.metrics import AnomalibMetric, Evaluator
    from anomalib.visualization import ImageVisualizer
    from lightning.pytorch import LightningModule, Trainer

    from anomalib_mkd.data.categories.raw_predictions import RawPredictions

logger = logging.getLogger(__name__)


class CategoryMetrics:
    """Metrics of each category, with a value only if its ground truth holds both normal and defective samples.

    AUROC and similar metrics are undefined on one kind alone: torchmetrics returns 0, which would silently lower a
    mean.

    Args:
        metrics: Metrics to copy for each category.
        categories: All categories that may occur.
        device: Device of the batches.
    """

    def __init__(
        self,
        metrics: Iterable[AnomalibMetric],
        categories: Sequence[str | None],
        device: torch.device | str = "cpu",
    ) -> None:
        self.metrics: dict[str | None, list[Any]] = {category: copy.deepcopy([*metrics]) for category in categories}
        for metric in chain(*self.metrics.values()):
            metric.reset()
            if hasattr(metric, "most_exact"):  # our AUROC of pixels: all categories share the memory of one
                metric.most_exact //= len(self.metrics)
        # number of batches with normal and with defective truth, per metric; on the device, to avoid synchronisation
        self._seen = {
            category: torch.zeros(len(metrics), 2, dtype=torch.int64, device=device)
            for category, metrics in self.metrics.items()
        }

    def update(self, category: str | None, batch: Any) -> None:
        """Update the metrics with a batch of one category; metrics whose ground truth it lacks skip it."""
        for column, metric in enumerate(self.metrics[category]):
            truths: list[Any] = [getattr(batch, field, None) for field in metric.fields if field.startswith("gt_")]
            if any(truth is None for truth in truths):
                continue
            before = metric.update_count
            metric.update(batch)
            if metric.update_count == before:  # a non-strict metric skipped a missing prediction
                continue
            kinds = [(truth == kind).any() for truth in truths for kind in (0, 1)]
            self._seen[category][column] += torch.stack(kinds) if kinds else 1

    def compute(self, add_up: Callable[[Tensor], Tensor] = lambda seen: seen) -> dict[str, dict[str | None, Tensor]]:
        """Return the values that are defined: metric to category to value.

        Args:
            add_up: Sums a tensor over processes, each of which sees a share of the images.
        """
        values: dict[str, dict[str | None, Tensor]] = {}
        for category, metrics in self.metrics.items():
            seen_both_kinds = add_up(self._seen[category]).all(1).tolist()
            for metric, is_defined in zip(metrics, seen_both_kinds, strict=True):
                value = metric.compute() if is_defined else None
                values.setdefault(metric.name, {}).update({} if value is None else {category: value})
        return values


class CategoryEvaluator(Callback):
    """Replaces the model's evaluator: its metrics once per category.

    Logs ``<metric>/<category>``, and their mean under the metric's own name. A category for which a metric has no value
    is left out of the mean, with a warning. Metrics use scores and maps from before post-processing.

    Args:
        original: The model's evaluator.
        raw: Callback of the same trainer that precedes the post-processor.
        categories: Names of the categories.
        categories_of: Maps a batch of N images to their N categories; None for an image without one.
    """

    def __init__(
        self,
        original: Evaluator,
        raw: RawPredictions,
        categories: Sequence[str],
        categories_of: Callable[[Any], Sequence[str | None]],
    ) -> None:
        self.original = original
        self.raw = raw
        self.categories = categories
        self.categories_of = categories_of
        self._metrics: CategoryMetrics
        self._attributes: dict[str, str] = {}
        self._values: dict[str, dict[str | None, Tensor]] = {}
        self._warned: set[tuple[str, str]] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the evaluator choose where its metrics are computed."""
        self.original.setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with empty metrics."""
        del trainer
        self._begin(self.original.val_metrics, pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with empty metrics."""
        del trainer
        self._begin(self.original.test_metrics, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        self._update(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics."""
        self._log(trainer, pl_module)

    on_test_epoch_end = on_validation_epoch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table, where Lightning prints its own."""
        del pl_module
        if trainer.is_global_zero and trainer.test_loop.verbose:
            Console().print(results_table(self._values))

    def _begin(self, metrics: Any, module: LightningModule) -> None:
        attributes = {id(part): attribute for attribute, part in module.named_modules()}
        self._attributes = {metric.name: attributes[id(metric)] for metric in metrics}
        # None: an engine that has used this datamodule may receive images of another loader
        self._metrics = CategoryMetrics(metrics, [*self.categories, None], module.device)

    def _update(self, batch: Any) -> None:
        for category, part in split_batch(self.raw.put_into(batch), self.categories_of(batch)):
            self._metrics.update(category, part)

    def _log(self, trainer: Trainer, module: LightningModule) -> None:
        self._values = self._metrics.compute(lambda seen: trainer.strategy.reduce(seen, reduce_op="sum"))
        for name, values in self._values.items():
            results = {f"{name}/{category}": value for category, value in values.items() if category is not None}
            for key, value in results.items():
                module.log(key, value, sync_dist=True)
            if values:  # logged as a metric, since the evaluator logs one by this name in the trainer's other runs
                results[name] = _mean(values)
                mean = MeanMetric().to(module.device)
                mean.update(results[name].to(module.device))
                module.log(name, mean, metric_attribute=self._attributes[name])
            if trainer.barebones:  # logging is off; anomalib's evaluator does the same
                trainer.callback_metrics.update(results)
                trainer.logged_metrics.update(results)
        self._warn_of_missing()

    def _warn_of_missing(self) -> None:
        """Warn once about every category that is left out of a mean."""
        for category in self.categories:
            names = [name for name, values in self._values.items() if category not in values]
            new = [name for name in names if (category, name) not in self._warned]
            self._warned.update((category, name) for name in new)
            if new:
                logger.warning(
                    "Left out of the mean over categories: %s of %s, which lacks normal, defective or any labels.",
                    ", ".join(new),
                    category,
                )


def _mean(values: dict[str | None, Tensor]) -> Tensor:
    first, *_ = values.values()  # a value in bins is on the GPU, an exact one may have left it
    return torch.stack([value.to(first.device) for value in values.values()]).float().mean()


def results_table(values: dict[str, dict[str | None, Tensor]]) -> Table:
    """Lay out results as a table, one row per category and the mean.

    Args:
        values: Metric to category to value.
    """
    categories = dict.fromkeys(category for of_metric in values.values() for category in of_metric)
    table = Table("category", *values, title="Test results per category")
    for category in categories:
        cells = (of_metric.get(category) for of_metric in values.values())
        table.add_row(Text(str(category)), *("-" if cell is None else f"{float(cell):.4f}" for cell in cells))
    table.add_section()
    table.add_row("mean", *(f"{float(_mean(of_metric)):.4f}" if of_metric else "-" for of_metric in values.values()))
    return table


class CategoryVisualizer(Callback):
    """Replaces the model's visualizer: heat maps in a folder per category, with the names that its datamodule gives.

    Args:
        original: The model's visualizer.
        categories_of: Maps a batch of N images to their N categories; None for an image without one.
    """

    def __init__(self, original: ImageVisualizer, categories_of: Callable[[Any], Sequence[str | None]]) -> None:
        self.original = original
        self.categories_of = categories_of

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw a batch."""
        folder = Path(self.original.output_dir or Path(trainer.default_root_dir) / "images")
        for category, part in split_batch(batch, self.categories_of(batch)):
            visualizer = copy.copy(self.original)
            visualizer.output_dir = folder / (category or "")
            own = copy.copy(trainer)
            own.datamodule = part_of(trainer.datamodule, category)  # type: ignore[attr-defined]
            visualizer.on_test_batch_end(own, pl_module, outputs, part, batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw a batch."""
        self.on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
