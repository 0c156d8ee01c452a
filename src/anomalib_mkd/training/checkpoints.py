# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Who wrote a checkpoint, and whether this version can still load it."""

from collections.abc import Mapping
from typing import Any

from anomalib_mkd._version import __version__

MODEL_KEY = "anomalib_mkd_model"
VERSION_KEY = "anomalib_mkd_version"

RETIRED: dict[str, Any] = {
    "pairs": "extreme",
    "path_mode": "target",
    "adapter": "linear",
    "align": "coarse",
    "map_source": "same",
    "loss_reduction": "mean",
    "attention_order": "sequential",
    "reduction_ratio": 8,
    "spatial_kernel": 7,
    "cosine_type": "channel",
    "kl_reduction": "mean",
    "depth_norm": "train",
    "aux_bn": "reestimate",
    "prior_dim": 256,
    "prior_temperature": 0.1,
    "prior_source": "teacher",
    "prior_init": "orthogonal",
    "num_heads": 4,
    "inject": "add",
    "shared_bottleneck": False,
    "direction_only": False,
}
"""Arguments of commit 0a145f3 that 0.1.0 no longer has, and the value that it always uses."""


def sign(checkpoint: dict[str, Any], model: str) -> None:
    """Write into a checkpoint which model and which version wrote it."""
    checkpoint[MODEL_KEY] = model
    checkpoint[VERSION_KEY] = __version__


def check_signature(checkpoint: Mapping[str, Any], model: str) -> None:
    """Refuse a checkpoint of another model, or of settings that no longer exist.

    Args:
        checkpoint: As loaded.
        model: Class name of the model that loads it.

    Raises:
        ValueError: If the model cannot be that of the checkpoint.
    """
    owner = checkpoint.get(MODEL_KEY, "a model of another package")
    if owner != model:
        msg = f"Expected a checkpoint of {model}, got one of {owner}. Load it with the class that wrote it."
        raise ValueError(msg)
    given = checkpoint.get("hyper_parameters", {})
    for name, value in RETIRED.items():
        if name in given and given[name] != value:
            msg = (
                f"Expected a checkpoint with {name}={value!r}, the only value that version {__version__} "
                f"has, got {given[name]!r}. Load it with the version that wrote it, or train again."
            )
            raise ValueError(msg)
