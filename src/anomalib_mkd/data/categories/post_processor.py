# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds and normalisation per category, in addition to anomalib's global ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from anomalib.post_processing import PostProcessor
from torch import Tensor

from anomalib_mkd.data.categories.results import split_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule, Trainer

#: anomalib's statistics of the validation images; each threshold falls back to the other.
STATISTICS = ("image_threshold", "image_min", "image_max", "pixel_threshold", "pixel_min", "pixel_max")
#: Methods that this post-processor overrides or relies on, and so cannot adopt from another one.
REPLACED = (
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_test_batch_end",
    "on_predict_batch_end",
    "post_process_batch",
    "normalize_batch",
    "threshold_batch",
    "normalized_image_threshold",
    "normalized_pixel_threshold",
    "_apply_threshold",
    "forward",
)


class CategoryPostProcessor(PostProcessor):
    """anomalib's post-processor with a table of its six statistics per category.

    Scores are scaled as by the post-processor that it was made from.

    An image whose category is known and in the table is normalised with that row; any other image, and every image of
    an exported model, with the global statistics. Table and statistics are part of the checkpoint.

    Categories come from ``trainer.datamodule.threshold_categories(batch)``.

    Args:
        **arguments: As for anomalib's post-processor.

    Attributes:
        table: Category to statistic to value, in the units of the model's scores and maps.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.table: dict[str, dict[str, float]] = {}
        self._parts: dict[str, PostProcessor] = {}

    @classmethod
    def of(cls, post_processor: Any) -> CategoryPostProcessor:
        """Make one with the settings and global statistics of a model's post-processor.

        Raises:
            TypeError: If that one differs from anomalib's in more than its scale, or does not normalise.
        """
        if isinstance(post_processor, cls):
            return post_processor
        alike = all(getattr(type(post_processor), name, None) is getattr(PostProcessor, name) for name in REPLACED)
        if not alike or not post_processor.enable_normalization:
            msg = (
                "Expected anomalib's PostProcessor with normalisation, or one with another scale, for "
                f"thresholds='category', got {type(post_processor).__name__}. Set thresholds='global'."
            )
            raise TypeError(msg)
        made = cls()
        made._normalize = post_processor._normalize  # type: ignore[method-assign]  # noqa: SLF001
        made.load_checkpoint_config(post_processor.checkpoint_config())
        made.load_state_dict(post_processor.state_dict())
        return made

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
            if category not in self._parts:
                self._parts[category] = PostProcessor().to(self.image_min.device)
                self._parts[category].load_checkpoint_config(self.checkpoint_config())
            self._parts[category].on_validation_batch_end(trainer, pl_module, part)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the statistics."""
        super().on_validation_epoch_end(trainer, pl_module)
        for category, part in self._parts.items():
            part.on_validation_epoch_end(trainer, pl_module)
            self.table[category] = _statistics(part)
        self._parts.clear()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Normalise and threshold a batch."""
        del pl_module, args, kwargs
        self._normalize_by_category(outputs, _categories(trainer, outputs))
        if self.enable_thresholding:
            self.threshold_batch(outputs)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Normalise and threshold a batch."""
        self.on_test_batch_end(trainer, pl_module, outputs, *args, **kwargs)

    def _normalize_by_category(self, batch: Any, categories: Sequence[str | None]) -> None:
        """Normalise each image with its own row of the table, as anomalib does with its global statistics."""
        everywhere = _statistics(self)
        rows = [self.table.get(category or "", everywhere) for category in categories]

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


def _statistics(post_processor: PostProcessor) -> dict[str, float]:
    return {name: float(getattr(post_processor, name)) for name in STATISTICS}


def _categories(trainer: Trainer, batch: Any) -> Sequence[str | None]:
    """Return the categories of a batch's images; None for each if the trainer's datamodule has no categories."""
    threshold_categories = getattr(getattr(trainer, "datamodule", None), "threshold_categories", None)
    return threshold_categories(batch) if threshold_categories else [None] * len(batch)
