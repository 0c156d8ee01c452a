# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The loss of mixed distillation: STFPM's at each level, and the same distance along each path."""

from collections.abc import Mapping, Sequence
from functools import partial

from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.functional import batch_cosine_distance, position_cosine_distance


def mixed_loss(
    layers: Sequence[str], paths: Mapping[str, tuple[float, Sequence[str]]], reduction: str, hard_share: float
) -> PyramidLoss:
    """Sum the base over layers, add each path's weighted mean; ``paths``: name to weight and to what it compares.

    The squared distance of unit vectors, on which STFPM's authors train (``reduction="mean"``), is 2 (1 - cos).
    """
    cosine, scale = (position_cosine_distance, 2.0) if reduction == "mean" else (batch_cosine_distance, 1.0)
    distance = partial(cosine, share=hard_share)
    terms = {name: Term(distance, scale * weight / len(pairs), pairs) for name, (weight, pairs) in paths.items()}
    return PyramidLoss(base=Term(distance, scale, layers), **terms)
