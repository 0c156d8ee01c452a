# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds and normalisation per category, in addition to anomalib's global ones."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from anomalib.post_processing import PostProcessor
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lightning.pytorch import LightningModule, Trainer

logger = logging.getLogger(__name__)

STATISTICS = ("image_threshold", "image_min", "image_max", "pixel_threshold", "pixel_min", "pixel_max")
"""anomalib's statistics of the validation images; each threshold falls back to the other."""


class CategoryPostProcessor(PostProcessor):
    """anomalib's post-processor, with a table of its six statistics per category in addition to the global ones.

    An image whose category has a row in the table is normalised with that row, any other image with the global
    statistics. Table and statistics are part of the checkpoint.

    Categories come from ``trainer.datamodule.threshold_categories(batch)``.

    Args:
        **arguments: As for anomalib's post-processor.

    Attributes:
        table: Category to statistic to value, in the units of the model's scores and maps.
    """

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

    # ------------------------------------------------------------------------------------------------ fitting

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Update the global statistics and those of each category with their images."""
        super().on_validation_batch_end(trainer, pl_module, outputs, *args, **kwargs)
        for category, part in split_batch(outputs, threshold_categories(trainer, outputs)):
            if category is not None:
                self._part(category).on_validation_batch_end(trainer, pl_module, part)

    def _part(self, category: str) -> PostProcessor:
        """Return the post-processor that sees a category alone."""
        if category not in self._parts:
            self._parts[category] = PostProcessor().to(self.image_min.device)
            self._parts[category].load_checkpoint_config(self.checkpoint_config())
        return self._parts[category]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the statistics; categories without validated images keep theirs."""
        super().on_validation_epoch_end(trainer, pl_module)
        if in_training(trainer):
            self.table = {}  # of an earlier training
        self._warn_of_kept(self._parts)
        for category, part in self._parts.items():
            part.on_validation_epoch_end(trainer, pl_module)
            self.table[category] = statistics(part)
        self._parts.clear()

    def _warn_of_kept(self, validated: Collection[str]) -> None:
        """Warn that categories keep their thresholds, if the validation knew none of them."""
        kept = ", ".join(repr(name) for name, row in self.table.items() if row)
        if kept and not validated:
            logger.warning(
                "Only the common threshold has moved, not those of %s. Validate with MultiCategory to move them.", kept
            )

    # ------------------------------------------------------------------------------------------------ predicting

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget which unknown categories were named; each batch warns of new ones, so that the start need not."""
        super().on_test_start(trainer, pl_module)
        self._unknown = set()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start as a test does."""
        super().on_predict_start(trainer, pl_module)
        self._unknown = set()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Normalise each image with its row of the table, then threshold; without any row as anomalib does."""
        self._warn_of_unknown(categories_of(trainer, outputs))
        rows = [self.table.get(category or "") for category in threshold_categories(trainer, outputs)]
        if not any(rows):
            super().on_test_batch_end(trainer, pl_module, outputs, *args, **kwargs)
            return
        everywhere = statistics(self)
        self._normalize_each(outputs, [row or everywhere for row in rows])
        if self.enable_thresholding:
            self.threshold_batch(outputs)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Normalise and threshold a batch as a test does."""
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

    def _normalize_each(self, batch: Any, rows: Sequence[dict[str, Any]]) -> None:
        """Normalise each image with statistics of its own, as anomalib does with its global ones."""

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


def in_training(trainer: Any) -> bool:
    """Return whether a validation is part of a training."""
    return bool(getattr(getattr(trainer, "state", None), "fn", None) == "fit")


def statistics(post_processor: PostProcessor) -> dict[str, Any]:
    """Return anomalib's statistics by name."""
    return {name: float(getattr(post_processor, name)) for name in STATISTICS}


def categories_of(trainer: Any, batch: Any) -> Sequence[str | None]:
    """Return the categories of a batch's images; ``None`` for each if the trainer's datamodule has no categories."""
    return _named(trainer, "categories_of", batch)


def threshold_categories(trainer: Any, batch: Any) -> Sequence[str | None]:
    """Return the categories whose thresholds apply to a batch's images; ``None`` for those that apply to all."""
    return _named(trainer, "threshold_categories", batch)


def _named(trainer: Any, method: str, batch: Any) -> Sequence[str | None]:
    known = getattr(getattr(trainer, "datamodule", None), method, None)
    return known(batch) if known else [None] * len(batch)


def split_batch(batch: Any, categories: Sequence[str | None]) -> Iterator[tuple[str | None, Any]]:
    """Split a batch by category.

    Args:
        batch: One of anomalib's batches, with N images.
        categories: N categories; None for an image without one.

    Yields:
        Category and its part of the batch; the batch itself if there is only one category.
    """
    distinct = dict.fromkeys(categories)
    for category in distinct:
        chosen = [index for index, other in enumerate(categories) if other == category]
        yield category, batch if len(distinct) == 1 else _take(batch, chosen)


def _take(batch: Any, chosen: Sequence[int]) -> Any:
    def pick(values: Any) -> Any:
        if isinstance(values, Tensor):
            return values[chosen]
        return None if values is None else [values[index] for index in chosen]

    return type(batch)(**{field.name: pick(getattr(batch, field.name)) for field in fields(batch)})
