# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints that name the model and version that wrote them, and checks that this version can load them."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from typing_extensions import Self

from anomalib_mkd._version import __version__

logger = logging.getLogger(__name__)

MODEL_KEY = "anomalib_mkd_model"
VERSION_KEY = "anomalib_mkd_version"

RETIRED: dict[str, dict[str, Any]] = {
    "MixedDistillation": {
        "pairs": "extreme",
        "path_mode": "target",
        "adapter": "linear",
        "align": "coarse",
        "map_source": "same",
        "loss_reduction": "mean",
    },
    "Dcam": {
        "attention_order": "sequential",
        "reduction_ratio": 8,
        "spatial_kernel": 7,
        "cosine_type": "channel",
        "kl_reduction": "mean",
        "temperature": 1.0,
    },
    "Mkd": {"direction_only": False},
    "Mmrd": {
        "depth_norm": "train",
        "aux_bn": "reestimate",
        "prior_dim": 256,
        "prior_temperature": 0.1,
        "prior_source": "teacher",
        "prior_init": "orthogonal",
        "num_heads": 4,
        "inject": "add",
        "shared_bottleneck": False,
        "level_fusion": "sum",
    },
}
"""Model to arguments that it had before 0.1.0 (commit 0a145f3), and to the only value that is left of each."""


TRAINING_ONLY = {
    *("hard_share", "painted_share", "cosine_weight", "kl_weight", "raw_weight", "loss"),
    *("optimizer", "learning_rate", "weight_decay", "schedule", "training_steps", "student_precision"),
    *("cache_gigabytes", "pre_trained", "weights", "false_alarms"),
}
"""Arguments that may differ from those of a checkpoint, because scores do not depend on them once it is loaded."""


class CheckpointMixin(LightningModule):
    """Signed checkpoints: only the class that wrote one can load it, and only with settings that still exist."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which model and which version wrote the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[MODEL_KEY] = type(self).__name__
        checkpoint[VERSION_KEY] = __version__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reject a checkpoint of another model, or with settings that no longer exist or are not this model's.

        Where another setting changes the scores, the checkpoint's thresholds do not hold: a test or a prediction stops,
        and otherwise the model has none until the next validation.

        Raises:
            ValueError: If the checkpoint does not fit this model.
        """
        model, owner = type(self).__name__, checkpoint.get(MODEL_KEY, "a model of another package")
        if owner != model:
            msg = f"Expected a checkpoint of {model}, got one of {owner}. Load it with the class that wrote it."
            raise ValueError(msg)
        given = checkpoint.get("hyper_parameters", {})
        for name, value in RETIRED.get(model, {}).items():
            if name in given and given[name] != value:
                msg = (
                    f"Expected a checkpoint with {name}={value!r}, the only value in anomalib_mkd {__version__}, "
                    f"got {given[name]!r}. Load it with the version that wrote it, or train again."
                )
                raise ValueError(msg)
        super().on_load_checkpoint(checkpoint)
        trainer: Any = self._trainer
        if (contradiction := self._contradiction(given)) and trainer is not None:
            if trainer.state.fn in {"test", "predict"}:
                raise ValueError(contradiction)
            checkpoint["state_dict"] |= _without_thresholds(checkpoint["state_dict"])

    def _contradiction(self, given: dict[str, Any]) -> str:
        """Name a setting other than the checkpoint's that changes scores; empty if there is none."""
        for name in sorted(self.hparams.keys() & given.keys() - TRAINING_ONLY):
            was, now = (list(each) if isinstance(each, tuple) else each for each in (given[name], self.hparams[name]))
            if was != now:
                return (
                    f"Expected {name}={was!r}, as in the training of the checkpoint, whose thresholds hold for no "
                    f"other, got {now!r}. Pass --model.{name}={was} to the command, or train again."
                )
        return ""

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # more is passed on
        cls, checkpoint_path: str | Path, *args: Any, **kwargs: Any
    ) -> Self:
        """Load as anomalib does; with other settings that change scores, without thresholds.

        Raises:
            ValueError: If this version cannot build the checkpoint's model or load its weights.
        """
        try:
            loaded: Self = super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except ValueError as error:
            msg = f"Expected a checkpoint that anomalib_mkd {__version__} can load, got '{checkpoint_path}': {error}"
            raise ValueError(msg) from error
        if kwargs.keys() & loaded.hparams.keys() - TRAINING_ONLY:  # Lightning has put them in place of the checkpoint's
            given = torch.load(checkpoint_path, map_location="cpu", weights_only=True)["hyper_parameters"]
            if contradiction := loaded._contradiction(given):
                logger.warning("%s Until its next validation the model has no thresholds.", contradiction)
                loaded.load_state_dict(_without_thresholds(loaded.state_dict()), strict=False)
        return loaded


def _without_thresholds(state: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of a post-processor in a state, as they are before a validation."""
    return {
        name: torch.full_like(value, float("nan"))
        for name, value in state.items()
        if name.startswith("post_processor.")
    }
