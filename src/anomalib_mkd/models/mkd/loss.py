# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The discrepancy of MKD: training loss as its batch mean, anomaly score as its value per image."""

from anomalib_mkd.distillation.losses import PyramidLoss
from anomalib_mkd.functional import flat_cosine_distance, value_distance


def mkd_loss(value_weight: float) -> PyramidLoss:
    """Direction plus weighted value, summed over levels.

    Source: MKD (Salehi et al., CVPR 2021), Eq. 1-4. The weight sits on the value term, as in the authors' code; the
    paper prints it on the direction term.

    Args:
        value_weight: Weight of the value term; 0 leaves the direction alone.
    """
    return PyramidLoss(direction=(flat_cosine_distance, 1.0), value=(value_distance, value_weight))
