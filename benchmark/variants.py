# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Named presets and ablations of the models that are judged level by level, and what they are compared with."""

from __future__ import annotations

import re
from typing import Any

DELIVERED, CONSTANT = "delivered", "constant_step"
"""Variants of the stability runs; rows of the second add the step of a checkpoint to it."""

_FUSED_TARGETS = ("sum", "max", "nsum", "energy", "variance")
_OTHER_JOINS = ("p4", "rss", "zsum", "sum")
"""Of Mmrd: what its default is compared with."""

NAMED: dict[str, dict[str, dict[str, Any]]] = {
    "MixedDistillation": {
        "default": {},
        "paper": {
            "student_width": 1.0,
            "level_fusion": "product",
            "hard_share": 1.0,
            "score_share": 0.0,
            "painted_share": 0.0,
            "optimizer": "sgd",
            "learning_rate": 0.4,
            "weight_decay": 1e-4,
            "student_precision": "f32",
        },
        "none": {"skip_weight": 0.0, "symmetric_weight": 0.0},
        "skip": {"skip_weight": 0.5, "symmetric_weight": 0.0},
        "symmetric": {"skip_weight": 0.0, "symmetric_weight": 0.5},
        "both": {"skip_weight": 0.5, "symmetric_weight": 0.5},
        "every": {"hard_share": 1.0},
        "peak": {"score_share": 0.0},
        "clean": {"painted_share": 0.0},
        "adamw": {"optimizer": "adamw"},
        "sgd": {"optimizer": "sgd", "learning_rate": 0.4},
        "all_pairs": {"pairs": "all"},
        "fine": {"align": "fine"},
        "review": {"adapter": "review"},
        "feed": {"path_mode": "feed", "student_width": 1.0},
        "mixed_map": {"map_source": "mixed", "level_fusion": "sum", "student_width": 1.0},
    },
    "Dcam": {
        "default": {},
        "paper": {
            "student_width": 1.0,
            "raw_weight": 0.0,
            "hard_share": 1.0,
            "score_share": 0.0,
            "painted_share": 0.0,
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "schedule": "constant",
            "student_precision": "f32",
        },
        "every": {"hard_share": 1.0},
        "peak": {"score_share": 0.0},
        "clean": {"painted_share": 0.0},
        "adamw": {"optimizer": "adamw"},
        "sgd": {"optimizer": "sgd", "learning_rate": 0.4},
        "no_gate": {"attention": "none"},
        "spatial": {"attention": "spatial"},
        "both_gates": {"attention": "both"},
        "cosine": {"kl_weight": 0.0},
        "attended": {"raw_weight": 0.0},
        "double": {"cosine_weight": 2.0},
        "t4": {"temperature": 4.0, "kl_weight": 16.0},
        "kl_sum": {"kl_reduction": "sum", "kl_weight": 0.01},
        "parallel": {"attention": "both", "attention_order": "parallel"},
        "ratio2": {"reduction_ratio": 2},
        "kernel3": {"attention": "both", "spatial_kernel": 3},
        "spatial_cosine": {"cosine_type": "spatial", "hard_share": 1.0},
    },
    "Mmrd": {
        "default": {},
        "paper": {"modality_fusion": "rss", "schedule": "constant", "student_precision": "f32"},
        "rgb": {"branches": "rgb"},
        "aux": {"branches": "aux"},
        "two_branch": {"branches": "two_branch"},
        **{f"target_{name}": {"target_fusion": name} for name in _FUSED_TARGETS},
        **{f"map_{name}": {"modality_fusion": name} for name in _OTHER_JOINS},
        "imagenet_bn": {"aux_bn": "imagenet"},
        "image_norm": {"depth_norm": "image"},
        "normals": {"aux": "normals"},
        "replace": {"inject": "replace"},
        "embedding": {"prior_source": "embedding"},
        "no_interaction": {"interaction": "none"},
        "pixel": {"loss": "pixel"},
        "append": {"inject": "concat"},
        "one_bottleneck": {"shared_bottleneck": True},
        "kmeans": {"prior_init": "kmeans"},
        "dim64": {"prior_dim": 64},
        "one_head": {"num_heads": 1},
        "soft": {"prior_temperature": 1.0},
    },
}
"""Model to preset to arguments; what a preset does not say is the model's default."""

COMMON: dict[str, dict[str, Any]] = {
    "sum": {"level_fusion": "sum"},
    "product": {"level_fusion": "product"},
    "sigma4": {"sigma": 4.0},
    "f32": {"student_precision": "f32"},
    "bf16": {"student_precision": "bf16"},
    DELIVERED: {},
    CONSTANT: {"schedule": "constant"},
}
"""Presets of every model above; the last two are those of the stability runs."""

_OTHER_MAPS: dict[str, tuple[str, Any]] = {
    "product": ("anomaly_map.level_fusion", "product"),
    "sigma4": ("anomaly_map.sigma", 4.0),
    "peak": ("score_share", 0.0),
}
JUDGED_OTHERWISE: dict[str, dict[str, tuple[str, Any]]] = {
    "MixedDistillation": _OTHER_MAPS,
    "Dcam": _OTHER_MAPS,
    "Mmrd": {f"map_{name}": ("modality_fusion", name) for name in _OTHER_JOINS},
}
"""Model to variants that are the trained default judged otherwise: an attribute of its torch model, and the value."""

NARROWED = ("MixedDistillation", "Dcam")
"""Models whose student may be narrower than its teacher."""

_WIDTHS: dict[str, tuple[str, ...]] = {
    "1": ("width1.0", "width1"),
    "0.5, the default": ("default", "width0.5"),
    "0.25": ("width0.25",),
}
STUDIES: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "MixedDistillation": {
        "paths": {
            "none": ("none",),
            "skip": ("skip",),
            "symmetric": ("symmetric",),
            "both, the default": ("default", "both"),
            **{f"{path}, nothing painted": (f"{path}+clean",) for path in ("none", "skip", "symmetric")},
            "both, nothing painted": ("clean",),
        },
        "widths": _WIDTHS,
    },
    "Mmrd": {
        "branches": {
            "Mmrd, the default": ("default",),
            "two branches": ("two_branch",),
            "two branches, loss per position": ("two_branch+pixel",),
            "Mmrd, maps joined by p4": ("map_p4",),
            "two branches, maps joined by p4": ("two_branch+map_p4",),
            "Mmrd, maps joined by rss": ("map_rss",),
            "two branches, maps joined by rss": ("two_branch+map_rss",),
            "colour alone": ("rgb",),
            "depth alone": ("aux",),
            "depth alone, BatchNorm of ImageNet": ("aux+imagenet_bn",),
        },
        "targets": {
            "side by side, the default": ("default",),
            **{name: (f"target_{name}",) for name in _FUSED_TARGETS},
        },
        "maps": {
            "zmax, the default": ("default",),
            **{name: (f"map_{name}",) for name in _OTHER_JOINS},
        },
        "choices": {
            "default but for p4": ("map_p4",),
            "BatchNorm of ImageNet": ("imagenet_bn+map_p4",),
            "depth scaled per image": ("image_norm+map_p4",),
            "priors replace the embedding": ("replace+map_p4",),
            "priors from the embedding": ("embedding+map_p4",),
        },
    },
    "Dcam": {
        "gates": {
            "none": ("no_gate",),
            "channel, the default": ("default",),
            "channel, attended alone": ("attended",),
            "channel, attended alone and twice": ("attended+double",),
            "both, attended alone": ("attended+both_gates",),
            "none, cosine once": ("attended+no_gate",),
            "none, cosine once, nothing painted": ("attended+no_gate+clean",),
            "channel, attended alone, nothing painted": ("attended+clean",),
        },
        "widths": _WIDTHS
        | {
            "1, attended alone": ("attended+width1.0",),
            "0.5, attended alone": ("attended",),
            "0.25, attended alone": ("attended+width0.25",),
        },
    },
}
"""Model to question to answers; the variants of an answer are the same model under several names."""

BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "Stfpm": ("anomalib", {}),
    "Patchcore": ("coreset0.01", {"layers": ["layer2", "layer3"], "coreset_sampling_ratio": 0.01}),
}
"""anomalib's own models: the only variant of each, and its arguments. 10 % of a core set takes hours on two cores."""


def variant_arguments(model: str, variant: str) -> dict[str, Any]:
    """Look up a variant, which may be several words joined by ``+``.

    Args:
        model: One of the models above.
        variant: Presets of the model, common ones, and ``width<share>``; later words win.

    Returns:
        Arguments of the model.

    Raises:
        ValueError: If a word is unknown.

    Example:
        >>> variant_arguments("MixedDistillation", "none+width0.25")
        {'skip_weight': 0.0, 'symmetric_weight': 0.0, 'student_width': 0.25}
    """
    known = NAMED[model] | COMMON
    arguments: dict[str, Any] = {}
    for word in variant.split("+"):
        width = re.fullmatch(r"width(\d+(?:\.\d+)?)", word) if model in NARROWED else None
        if not width and word not in known:
            widths = ["width<share>"] if model in NARROWED else []
            msg = f"Expected variants of {model} out of {[*known, *widths]}, joined by '+', got {variant!r}."
            raise ValueError(msg)
        arguments |= {"student_width": float(width[1])} if width else known[word]
    return arguments
