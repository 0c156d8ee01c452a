# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Named presets and ablations, the baselines that they are compared with, and their order in tables."""

from __future__ import annotations

import re
from typing import Any

DELIVERED, CONSTANT = "delivered", "constant_step"
"""Variants of the stability runs; rows of the second add the step of a checkpoint to it."""

_LEVELWISE: dict[str, dict[str, Any]] = {
    "every": {"hard_share": 1.0},
    "peak": {"score_share": 0.0},
    "clean": {"painted_share": 0.0},
    "adamw": {"optimizer": "adamw"},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.4},
    "product": {"level_fusion": "product"},
}
_LEVELWISE_PAPER: dict[str, Any] = {
    "student_width": 1.0,
    "hard_share": 1.0,
    "score_share": 0.0,
    "painted_share": 0.0,
    "optimizer": "sgd",
    "weight_decay": 1e-4,
    "student_precision": "f32",
}
NAMED: dict[str, dict[str, dict[str, Any]]] = {
    "Mkd": {
        "default": {},
        "paper": {
            "learning_rate": 1e-3,
            "schedule": "constant",
            "value_weight": 0.5,  # Salehi et al. 2021, authors' config for MVTec AD
            "relative_value": False,
            "map_layers": None,
            "map_scaling": "per_image_p99",
            "opening": True,
            "sigma": 4.0,
            "student_precision": "f32",
        },
        "random_teacher": {"pre_trained": False},
        "direction": {"value_weight": 0.0},
        "absolute": {"relative_value": False},
        "map345": {"map_layers": None},
        "pools34": {"score_layers": ("pool3", "pool4"), "map_layers": None},
        "score3": {"score_layers": ("pool3",)},
        "guided": {"localization": "guided"},
        "both_networks": {"detach_teacher": False},
    },
    "MixedDistillation": {
        "default": {},
        "paper": {**_LEVELWISE_PAPER, "level_fusion": "product", "learning_rate": 0.4},
        "none": {"skip_weight": 0.0, "symmetric_weight": 0.0},
        "skip": {"skip_weight": 0.5, "symmetric_weight": 0.0},
        "symmetric": {"skip_weight": 0.0, "symmetric_weight": 0.5},
        **_LEVELWISE,
    },
    "Dcam": {
        "default": {},
        "paper": {**_LEVELWISE_PAPER, "raw_weight": 0.0, "learning_rate": 0.1, "schedule": "constant"},
        "no_gate": {"attention": "none"},
        "spatial": {"attention": "spatial"},
        "both_gates": {"attention": "both"},
        "cosine": {"kl_weight": 0.0},
        "attended": {"raw_weight": 0.0},
        "double": {"cosine_weight": 2.0},
        **_LEVELWISE,
    },
    "Mmrd": {
        "default": {},
        "paper": {"modality_fusion": "rss", "schedule": "constant", "student_precision": "f32"},
        "rgb": {"branches": "rgb"},
        "aux": {"branches": "aux"},
        "two_branch": {"branches": "two_branch"},
        "target_mean": {"target_fusion": "mean"},
        "target_modulation": {"target_fusion": "modulation"},
        "map_rss": {"modality_fusion": "rss"},
        "normals": {"aux": "normals"},
        "no_interaction": {"interaction": "none"},
        "pixel": {"loss": "pixel"},
    },
}
"""Model to preset to arguments; all others are the model's defaults.

Result files also hold rows of other names, whose options were measured and then removed."""

COMMON: dict[str, dict[str, Any]] = {
    "sigma4": {"sigma": 4.0},
    "f32": {"student_precision": "f32"},
    "bf16": {"student_precision": "bf16"},
    DELIVERED: {},
    CONSTANT: {"schedule": "constant"},
}
"""Presets of every model above; the last two are those of the stability runs."""

_OTHER_MAPS: dict[str, dict[str, Any]] = {
    "product": {"anomaly_map.level_fusion": "product"},
    "sigma4": {"anomaly_map.sigma": 4.0},
    "peak": {"score_share": 0.0},
}
PREDICTED_OTHERWISE: dict[str, dict[str, dict[str, Any]]] = {
    "Mkd": {
        "map345": {"map_layers": ("pool3", "pool4", "pool5")},
        "score3": {"score_layers": ("pool3",)},
        "both_networks": {"detach_teacher": False},
        "guided": {"localization": "guided"},
        "guided+both_networks": {"localization": "guided", "detach_teacher": False},
    },
    "MixedDistillation": _OTHER_MAPS,
    "Dcam": _OTHER_MAPS,
    "Mmrd": {"map_rss": {"modality_fusion": "rss"}},
}
"""Model to variants that are the trained default with another map or score: attributes of its torch model and their
values."""

NARROWED = ("MixedDistillation", "Dcam")
"""Models whose student may be narrower than its teacher."""

WIDTHS: dict[str, tuple[str, ...]] = {
    "1": ("width1.0",),
    "0.5, the default": ("default",),
    "0.25": ("width0.25",),
}
STUDIES: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "MixedDistillation": {
        "paths": {
            "none": ("none",),
            "skip": ("skip",),
            "symmetric": ("symmetric",),
            "both, the default": ("default",),
            **{f"{path}, nothing painted": (f"{path}+clean",) for path in ("none", "skip", "symmetric")},
            "both, nothing painted": ("clean",),
        },
        "other": {
            f"`{name}`": (name,)
            for name in (
                *("clean+adamw", "product", "sigma4", "peak", "default+bf16", "every"),
                *("all_pairs", "fine", "review"),
            )
        },
    },
    "Mmrd": {
        "branches": {
            "Mmrd, the default": ("default",),
            "two branches": ("two_branch",),
            "two branches, loss per position": ("two_branch+pixel",),
            "Mmrd, maps joined by rss": ("map_rss",),
            "colour alone": ("rgb",),
            "depth alone": ("aux",),
        },
    },
    "Dcam": {
        "gates": {
            "none": ("no_gate",),
            "channel, the default": ("default",),
            "channel, attended alone": ("attended",),
            "none, cosine once": ("attended+no_gate",),
        },
        "other": {
            f"`{name}`": (name,)
            for name in (
                *("attended+t4", "attended+kl_sum", "attended+both_gates", "attended+no_gate+cosine"),
                "attended+double",
            )
        },
    },
}
"""Model to question to answers, each the names of its variants in the rows."""

OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "MixedDistillation": {
        "the default": ("default",),
        "`all_pairs`": ("all_pairs",),
        "`fine`": ("fine",),
        "`review`": ("review",),
        "full width": ("width1.0",),
        "`feed`, full width": ("feed",),
        "`mixed_map`, full width": ("mixed_map",),
    },
    "Dcam": {
        "the default": ("default",),
        "`ratio2`": ("ratio2",),
        "both gates": ("both_gates",),
        "`parallel`, both gates": ("parallel",),
        "`kernel3`, both gates": ("kernel3",),
        "every position": ("every",),
        "`spatial_cosine`, every position": ("spatial_cosine",),
    },
    "Mmrd": {
        "the default": ("default",),
        "`append`": ("append",),
        "`one_bottleneck`": ("one_bottleneck",),
        "`kmeans`": ("kmeans",),
        "`dim64`": ("dim64",),
        "`soft`": ("soft",),
        "`one_head`": ("one_head",),
        "`target_mean`": ("target_mean",),
        "`target_modulation`": ("target_modulation",),
    },
}
"""Model to options in short trainings, each below its control; most were removed, and ran at commit ea11db3."""

_PATCHCORE: dict[str, Any] = {"layers": ["layer2", "layer3"]}
BASELINES: dict[str, dict[str, dict[str, Any]]] = {
    "Stfpm": {"anomalib": {}},
    "Patchcore": {
        "coreset0.01": {**_PATCHCORE, "coreset_sampling_ratio": 0.01},
        "coreset0.1": {**_PATCHCORE, "coreset_sampling_ratio": 0.1},  # anomalib's default; hours for hundreds of images
    },
}
"""anomalib's own models: variants of each and their arguments, the usual one first."""
USUAL: dict[str, str] = {model: next(iter(variants)) for model, variants in BASELINES.items()}
"""Variant of each that runs unless another is asked for."""


def variant_arguments(model: str, variant: str) -> dict[str, Any]:
    """Look up a variant, which may consist of several words joined by ``+``.

    Args:
        model: One of the models above.
        variant: Presets of the model, common ones, ``width<share>``, and ``size<pixels>`` for the side of images; later
            words win.

    Returns:
        Arguments of the model, and ``image_size`` if the variant has one.

    Raises:
        ValueError: If a word is unknown.

    Example:
        >>> variant_arguments("MixedDistillation", "none+width0.25")
        {'skip_weight': 0.0, 'symmetric_weight': 0.0, 'student_width': 0.25}
    """
    known = NAMED[model] | COMMON
    arguments: dict[str, Any] = {}
    for word in variant.split("+"):
        if size := re.fullmatch(r"size(\d+)", word):
            arguments["image_size"] = int(size[1])
        elif model in NARROWED and (width := re.fullmatch(r"width(\d+(?:\.\d+)?)", word)):
            arguments["student_width"] = float(width[1])
        elif word in known:
            arguments |= known[word]
        else:
            numbered = ["size<pixels>", *(["width<share>"] if model in NARROWED else [])]
            msg = f"Expected variants of {model}, joined by '+', got {variant!r}. Choose from {[*known, *numbered]}."
            raise ValueError(msg)
    return arguments
