# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Scores and maps before post-processing clamps them, in a range that torchmetrics does not change."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback

from anomalib_mkd.functional import soft_normalize
from anomalib_mkd.thresholds import soft_scale

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor


def soften(values: Tensor | None, post_processor: Any, kind: str) -> Tensor | None:
    """Normalise as anomalib does, but with soft ends, which keep the order; clamping at 0 and 1 creates ties.

    With one range for several categories, many scores of one category may lie beyond an end. Clamped, all are equal,
    and its AUROC would be 0.5 however good the model is. Raw scores are no alternative: torchmetrics takes numbers
    outside 0..1 for logits, and its sigmoid ties large ones.

    Args:
        values: Raw scores or maps, of any shape.
        post_processor: The model's; if it is not anomalib's, or has no statistics, values are only softened.
        kind: "image" or "pixel".

    Returns:
        Values between 0 and 1, with 0.5 at the threshold; None for None.

    Example:
        >>> import torch
        >>> soften(torch.tensor([-9.0, 0.0, 1.0, 3.0, 1000.0]), None, "image")
        tensor([0.0263, 0.5000, 0.8333, 0.9286, 0.9998])
    """
    if values is None:
        return None
    if isinstance(post_processor, PostProcessor):
        low, high, threshold = (getattr(post_processor, f"{kind}_{name}") for name in ("min", "max", "threshold"))
        if high > low:
            return soft_normalize(values, low, high, threshold)
    scaled: Tensor = soft_scale(values)
    return scaled


class RawPredictions(Callback):
    """Keeps the model's latest predictions; must precede the callback that post-processes them in place."""

    def __init__(self) -> None:
        self.pred_score: Tensor | None = None
        self.anomaly_map: Tensor | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch."""
        del trainer, outputs, batch_idx, dataloader_idx
        post_processor = getattr(pl_module, "post_processor", None)
        self.pred_score = soften(batch.pred_score, post_processor, "image")
        self.anomaly_map = soften(batch.anomaly_map, post_processor, "pixel")

    on_test_batch_end = on_validation_batch_end

    def put_into(self, batch: Any) -> Any:
        """Return a copy of the batch with these scores and maps; labels and masks are unchanged."""
        return copy.copy(batch).update(pred_score=self.pred_score, anomaly_map=self.anomaly_map)
