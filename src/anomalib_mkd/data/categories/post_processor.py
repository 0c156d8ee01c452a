# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds and normalisation per category, in addition to anomalib's global ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from anomalib.post_processing import PostProcessor
from torch import Tensor

from anomalib_mkd.data.categories.results import split_batch
from anomalib_mkd.post_processor import SoftPostProcessor, categories_of, group_number, scales_of, statistics
from anomalib_mkd.thresholds import Fitted, strictest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)


class ByCategory(PostProcessor):
    """A table of anomalib's six statistics per category, in addition to the global ones.

    An image whose category has a row in the table is normalised with that row, any other image with the global
    statistics. Table and statistics are part of the checkpoint; the table of :class:`SoftCategoryPostProcessor` is also
    part of an OpenVINO export.

    Categories come from ``trainer.datamodule.threshold_categories(batch)``.

    Args:
        **arguments: As for the post-processor that it extends.

    Attributes:
        table: Category to statistic to value, in the units of the model's scores and maps; in ours also to the scores
            that set it, ``good_scores``. Empty for a category with too few good parts.
    """

    kind: type[PostProcessor]
    """The post-processor that it extends, and that fits each category."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.table: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, PostProcessor] = {}
        self._unknown: set[str | None] = set()

    @property
    def state_key(self) -> str:
        """Return anomalib's own key, so that checkpoints fit models with either post-processor."""
        return PostProcessor.__qualname__

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "table")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Update the global statistics and those of each category with their images."""
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)
        for category, part in split_batch(outputs, _categories(trainer, outputs)):
            if category is None:
                continue
            self._part(category).on_validation_batch_end(trainer, pl_module, part)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the statistics."""
        super().on_validation_epoch_end(trainer, pl_module)
        for category, part in self._parts.items():
            try:  # each on its own
                part.on_validation_epoch_end(trainer, pl_module)
            except ValueError as error:  # noqa: PERF203
                kept = self.table.setdefault(category, {})
                has = "keeps its thresholds" if kept else "has the thresholds of all categories together"
                logger.warning("The category %s %s: %s", category, has, error)
            else:
                self.table[category] = self._row(part)
        self._parts.clear()

    def _row(self, part: PostProcessor) -> dict[str, Any]:
        """Return what the table keeps of a category."""
        return dict(statistics(part))

    def _part(self, category: str) -> PostProcessor:
        """Return the post-processor that fits a category."""
        if category not in self._parts:
            self._parts[category] = self.kind().to(self.image_min.device)
            self._parts[category].load_checkpoint_config({**self.checkpoint_config(), "table": {}})
        return self._parts[category]

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget which unknown categories were named; each batch warns of new ones, so that the start need not."""
        del trainer, pl_module
        self._unknown = set()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start as a test does."""
        self.on_test_start(trainer, pl_module)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Normalise and threshold a batch."""
        del pl_module, args, kwargs
        self._warn_of_unknown(categories_of(trainer, outputs))
        self._normalize_by_category(outputs, _categories(trainer, outputs))
        if self.enable_thresholding:
            self.threshold_batch(outputs)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Normalise and threshold a batch."""
        self.on_test_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def _warn_of_unknown(self, categories: Sequence[str | None]) -> None:
        """Warn of each category that the table does not know, once per run."""
        new = {*categories} - {*self.table} - self._unknown if self.table else set()
        self._unknown |= new
        if new:
            logger.warning(
                "Expected one of the model's categories, %s, for each image, got %s: the common threshold applies, "
                "which may miss defects. Load the images with MultiCategory, by these names.",
                ", ".join(map(repr, self.table)),
                ", ".join(sorted("none" if name is None else repr(name) for name in new)),
            )

    def _normalize_by_category(self, batch: Any, categories: Sequence[str | None]) -> None:
        """Normalise each image with its own row of the table, as anomalib does with its global statistics."""
        everywhere = statistics(self)
        rows = [self.table.get(category or "") or everywhere for category in categories]

        def normalized(values: Tensor | None, kind: str) -> Tensor | None:
            if values is None:
                return None
            shape = (-1, *[1] * (values.dim() - 1))  # one number per image
            low, high, threshold = (
                torch.tensor([row[f"{kind}_{name}"] for row in rows]).to(values).reshape(shape)
                for name in ("min", "max", "threshold")
            )
            return self._normalize(values, low, high, threshold)

        batch.anomaly_map = normalized(batch.anomaly_map, "pixel")
        batch.pred_score = normalized(batch.pred_score, "image")


class CategoryPostProcessor(ByCategory):
    """anomalib's thresholds per category."""

    kind = PostProcessor


class SoftCategoryPostProcessor(ByCategory, SoftPostProcessor):
    """Thresholds from good parts alone, per category."""

    kind = SoftPostProcessor

    @property
    def validated(self) -> set[str]:
        """Return the categories that the running validation has seen."""
        return set(self._parts)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the statistics; the common thresholds stay the highest even if some categories keep theirs."""
        validated = self.validated
        super().on_validation_epoch_end(trainer, pl_module)
        if self.false_alarms is None or not validated:
            return
        rows = [(scales, row) for row in self.table.values() if row and (scales := scales_of(row))]
        if rows:
            common = strictest([Fitted(*scales, tuple(row["good_scores"])) for scales, row in rows])
            self.good_scores = list(common.good_scores)
            self.set_scales(common.image, common.pixel)

    def _row(self, part: Any) -> dict[str, Any]:
        """Return what the table keeps of a category."""
        return {**super()._row(part), "good_scores": part.good_scores}

    def _part(self, category: str) -> Any:
        """Return the post-processor that fits a category, with what was learnt of it."""
        part: Any = super()._part(category)
        part.of_one = True
        group = group_number(category)
        part.learnt, part.just_learnt = [row for row in self.learnt if row[-1] == group], self.just_learnt
        return part

    def learn(self, trainer: Trainer, batches: Iterable[Any]) -> None:
        """Remember good parts that the model has learnt, of each category and of all."""
        batches = list(batches)
        super().learn(trainer, batches)
        known = dict.fromkeys(name for batch in batches for name in _categories(trainer, batch))
        for category in filter(None, known):
            self._part(category)


def by_category(post_processor: Any) -> ByCategory:
    """Return a post-processor per category with the settings and global statistics of a model's post-processor.

    Raises:
        TypeError: If that one is neither anomalib's nor ours, or does not normalise.
    """
    if isinstance(post_processor, ByCategory):
        return post_processor
    for made in (CategoryPostProcessor, SoftCategoryPostProcessor):
        if type(post_processor) is made.kind and post_processor.enable_normalization:
            result = made()
            result.load_checkpoint_config(post_processor.checkpoint_config())
            result.load_state_dict(post_processor.state_dict())
            return result
    msg = (
        "Expected anomalib's PostProcessor or our SoftPostProcessor, with normalisation, for thresholds='category', "
        f"got {type(post_processor).__name__}. Set thresholds='global'."
    )
    raise TypeError(msg)


def _categories(trainer: Trainer, batch: Any) -> Sequence[str | None]:
    """Return the categories whose thresholds apply to a batch's images; None for those that apply to all."""
    threshold_categories = getattr(getattr(trainer, "datamodule", None), "threshold_categories", None)
    return threshold_categories(batch) if threshold_categories else [None] * len(batch)
