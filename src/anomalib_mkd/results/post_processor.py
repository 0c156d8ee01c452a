# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's post-processor with a scale that is never clipped."""

import torch
from anomalib.post_processing import PostProcessor
from torch import Tensor

from anomalib_mkd.functional import linear_scale, soft_normalize


class SoftPostProcessor(PostProcessor):
    """anomalib's thresholds, with a scale that keeps the order of all scores.

    anomalib clips a scaled score ``0.5 + x``, with ``x = (score - threshold) / (max - min)``, to 0..1. If all
    validation images are normal, the threshold is their highest score: everything more than half their range below it
    becomes 0, and every strong defect 1. Heat maps are then blank or saturated, and metrics count ties. Here a score
    becomes :func:`soft_scale` of x: 0.5 at the threshold with the same slope, within 0..1 and never clipped. A
    sensitivity other than 0.5 moves the threshold to 1 - sensitivity on this scale, a different score than on
    anomalib's.

    Example:
        >>> import torch
        >>> scores, low, high, threshold = (torch.tensor(v) for v in ([0.0, 1.0, 2.0, 4.0], 0.0, 1.0, 1.0))
        >>> SoftPostProcessor._normalize(scores, low, high, threshold)
        tensor([0.1667, 0.5000, 0.8333, 0.9286])
    """

    @property
    def state_key(self) -> str:
        """Return anomalib's own key, so that checkpoints fit models with either post-processor."""
        return PostProcessor.__qualname__

    @staticmethod
    def _normalize(preds: Tensor | None, norm_min: Tensor, norm_max: Tensor, threshold: Tensor) -> Tensor | None:
        """Scale scores or maps of any shape; without statistics, or if their range is 0, as anomalib does."""
        hard: Tensor | None = PostProcessor._normalize(preds, norm_min, norm_max, threshold)  # noqa: SLF001
        if preds is None or hard is None:
            return hard
        spread = norm_max - norm_min
        high = torch.where(spread > 0, norm_max, norm_min + 1)  # no division by 0 in an exported graph
        return torch.where(spread > 0, soft_normalize(preds, norm_min, high, threshold), hard)

    @staticmethod
    def linear(scores: Tensor) -> Tensor:
        """Return scaled scores of any shape on a scale that is linear in the raw ones."""
        return linear_scale(scores)
