# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The loss of Dcam: direction of attended and of raw features, and where each channel looks."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from anomalib_mkd.distillation.losses import PyramidLoss, Term
from anomalib_mkd.functional import channel_cosine_distance, position_cosine_distance, spatial_kl_divergence


def raw(layer: str) -> str:
    """Name the features of a layer that no gate has seen."""
    return f"{layer} raw"


def dcam_loss(
    layers: Sequence[str],
    cosine_weight: float,
    kl_weight: float,
    raw_weight: float,
    cosine_type: str,
    temperature: float,
    kl_reduction: Literal["mean", "sum"],
    hard_share: float,
) -> PyramidLoss:
    """Sum the weighted terms over layers, without those of weight 0; arguments as for ``Dcam``.

    The paper's channel-wise cosine compares the vectors of channels at each position, hence our other name for it.
    """
    by_position = partial(position_cosine_distance, share=hard_share)
    cosine = by_position if cosine_type == "channel" else channel_cosine_distance
    divergence = partial(spatial_kl_divergence, temperature=temperature, reduction=kl_reduction)
    terms = {
        "cosine": Term(cosine, cosine_weight, layers),
        "divergence": Term(divergence, kl_weight, layers),
        "raw": Term(cosine, raw_weight, [raw(layer) for layer in layers]),
    }
    return PyramidLoss(**{name: term for name, term in terms.items() if term.weight})
