# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""AUROC over any number of images and their pixels, in a memory that does not grow with them."""

import logging
from typing import Any

import torch
from anomalib.metrics import AnomalibMetric
from torch import Tensor
from torchmetrics.classification import BinaryAUROC
from torchmetrics.utilities.compute import auc
from torchmetrics.utilities.distributed import gather_all_tensors

logger = logging.getLogger(__name__)

MOST_EXACT = 1 << 24
"""Most pixels that are kept one by one: 256 maps of 256 pixels a side, about 1 GB while they are sorted."""
KEPT_BITS = 20
"""Bits of a float that its bin keeps: the exponent, and 11 of the mantissa, so that values differ by 0.05 % in a bin."""
BINS = (127 << (KEPT_BITS - 9)) + 1
"""Bins of all floats in 0..1."""


class LargeAUROC(BinaryAUROC):
    """torchmetrics' exact AUROC, and from a number of values on that of a histogram.

    Both agree within 0.001; values in one bin count as equal.

    Attributes:
        most_exact: That number. Several metrics at a time should share it.

    Example:
        >>> metric = LargeAUROC()
        >>> metric.update(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()
        tensor(0.7500)
    """

    histogram: Tensor
    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.add_state("histogram", torch.zeros(2, BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self._kept = 0
        self.most_exact = MOST_EXACT

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take in values in 0..1, or logits, of any shape and their truth."""
        super().update(preds.flatten(), target.flatten().bool())
        if self._kept < 0:  # in bins already
            self._bin()
            return
        self._kept += preds.numel()
        if preds.ndim < 3:  # scores of images, not maps
            # Thousands of tiny tensors, each left between a batch's large ones, would keep the heap from ever being used
            # again: 1.3 GB more after 100 batches.
            self.preds[:], self.target[:] = [_joined(self.preds)], [_joined(self.target)]
        if self._kept > self.most_exact:
            logger.info("More than %d pixels: their AUROC is computed in bins, to within 0.001.", self.most_exact)
            self._bin()
            self._kept = -1

    def _bin(self) -> None:
        """Count the values that were kept, and free them."""
        for values, truth in zip(self.preds, self.target, strict=True):
            number = values.float().nan_to_num(1.0).clamp(0, 1).view(torch.int32).long() >> (32 - KEPT_BITS)
            counts = torch.bincount(number + BINS * truth.bool(), minlength=2 * BINS)
            self.histogram += counts.reshape(2, BINS).to(self.histogram.device)
        self.preds.clear()
        self.target.clear()

    def _sync_dist(self, dist_sync_fn: Any = gather_all_tensors, process_group: Any = None) -> None:
        """Exchange values with other processes: all of them bins, or none, and truth as what it is."""
        group = process_group or self.process_group
        if any(dist_sync_fn(torch.tensor(self._kept < 0, device=self.device), group=group)):
            self._bin()
            self._kept = -1
        elif not self.preds:  # torchmetrics would send numbers for the truth
            self.preds = [torch.empty(0, device=self.device)]
            self.target = [torch.empty(0, dtype=torch.bool, device=self.device)]
        super()._sync_dist(dist_sync_fn, process_group)

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics' own BinaryAUROC
        """Return the area."""
        if self._kept >= 0:
            exact: Tensor = super().compute()
            return exact
        false, true = self.histogram.cpu().flip(1).cumsum(1).double()  # Apple's GPUs have no float64
        start = torch.zeros(1, dtype=torch.float64, device=false.device)
        x, y = (torch.cat([start, counts / counts[-1].clamp(min=1)]) for counts in (false, true))
        area: Tensor = auc(x, y).float().to(self.histogram.device)
        return area

    def reset(self) -> None:
        """Forget all values."""
        super().reset()
        self._kept = 0


class AUROC(AnomalibMetric, LargeAUROC):  # type: ignore[misc]
    """The same as a metric of anomalib's."""


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate parts on the device of the first: with ``compute_on_cpu``, earlier ones have left the GPU."""
    return torch.cat([part.to(parts[0].device) for part in parts])
