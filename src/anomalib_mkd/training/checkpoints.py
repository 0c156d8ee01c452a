# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints that name the model and version that wrote them, and checks that this version can load them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from anomalib.engine.plugins import AnomalibCheckpointIO
from anomalib.pre_processing.utils._transform_registry import TRANSFORM_REGISTRY
from anomalib.pre_processing.utils.spec import transform_to_spec
from anomalib.pre_processing.utils.transform import get_exportable_transform
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torchvision.transforms import v2
from typing_extensions import Self

from anomalib_mkd._version import __version__
from anomalib_mkd.post_processor import SoftPostProcessor
from anomalib_mkd.training.resume import Course, end_epoch

logger = logging.getLogger(__name__)

for _kind in (v2.Identity, v2.Pad, v2.RGB):  # anomalib's list lacks them, and a checkpoint forgets what is not in it
    TRANSFORM_REGISTRY.register(_kind, f"torchvision.transforms.v2.{_kind.__name__}")

MODEL_KEY = "anomalib_mkd_model"
VERSION_KEY = "anomalib_mkd_version"
COURSE_KEY = "anomalib_mkd_course"
CONFIG_KEY = "anomalib_pre_processor_config"
VALIDATED_KEY = "anomalib_mkd_validated_step"
"""The step whose student the thresholds are of."""
COMPONENTS_KEY = "anomalib_components_enabled"
TRANSFORM_KEY = "anomalib_mkd_transform"
"""The pre-processor's transform in words, where a checkpoint cannot hold it."""

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

ADDED: dict[str, dict[str, Any]] = {"Mkd": {"relative_value": False, "map_layers": None}}
"""Model to arguments that older checkpoints do not name, and to what they meant."""

TRAINING_ONLY = {
    *("hard_share", "painted_share", "cosine_weight", "kl_weight", "raw_weight", "loss"),
    *("optimizer", "learning_rate", "weight_decay", "schedule", "training_steps", "student_precision"),
    *("cache_gigabytes", "pre_trained", "weights", "false_alarms"),
}
"""Arguments that may differ from those of a checkpoint, because scores do not depend on them once it is loaded."""


OF_OPTIMIZER = {"optimizer", "learning_rate", "weight_decay", "schedule"}
"""Arguments that a resumed training takes from the checkpoint, whatever the model's are."""


class SafeCheckpointIO(AnomalibCheckpointIO):
    """anomalib's reader of checkpoints, which also names a damaged file, and never unpickles any other object.

    Attributes:
        instead: Gives the checkpoint to use instead of the file; ``None`` to read the file.
    """

    instead: Callable[[], dict[str, Any]] | None = None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Load a checkpoint, to the CPU unless told otherwise; errors as for :func:`check_readable`.

        Lightning moves its values on. It names no device, and anomalib then takes that of the training: a GPU that this
        machine may lack.
        """
        del weights_only
        if self.instead is not None:
            logger.info("Testing the weights in memory, not '%s', from which the training resumed.", path)
            return self.instead()
        check_readable(path)
        content: dict[str, Any] = super().load_checkpoint(path, map_location=map_location or "cpu", weights_only=True)
        return content


class CheckpointMixin(LightningModule):
    """Signed checkpoints: only the class that wrote one can load it, and only with settings that still exist."""

    _course: Course | None = None
    _interrupted: dict[str, Any] | None = None  # the course of the training that a fit resumes
    _validated_step: int | None = None  # the step whose student the thresholds are of
    _validated_before: int | None = None  # that of the training that a fit resumes
    _own_pre_processor = False  # given to the constructor
    _outdated = ""  # says that the checkpoint's thresholds are of an older student
    _replaced: str = ""  # says which pre-processor the checkpoint has, in place of which another one was given

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which model and which version wrote the checkpoint, and the random course of its training."""
        super().on_save_checkpoint(checkpoint)
        if self._course is not None:
            checkpoint[COURSE_KEY] = self._course.state()
        transform = getattr(self.pre_processor, "transform", None)
        if transform is not None and checkpoint.get(CONFIG_KEY, {}).get("transform") is None:
            checkpoint[TRANSFORM_KEY] = repr(transform)
        checkpoint[VALIDATED_KEY] = self._validated_step
        checkpoint[MODEL_KEY] = type(self).__name__
        checkpoint[VERSION_KEY] = __version__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reject a checkpoint of another model, or with settings that no longer exist or are not this model's.

        Where another setting changes the scores, or the student was trained further, the checkpoint's thresholds do not
        hold: a test or a prediction stops, and otherwise the model has none until the next validation.

        Raises:
            ValueError: If the checkpoint does not fit this model.
        """
        model, owner = type(self).__name__, checkpoint.get(MODEL_KEY, "a model of another package")
        if owner != model:
            msg = f"Expected a checkpoint of {model}, got one of {owner}. Load it with the class that wrote it."
            raise ValueError(msg)
        given = ADDED.get(model, {}) | checkpoint.get("hyper_parameters", {})
        for name, value in RETIRED.get(model, {}).items():
            if name in given and given[name] != value:
                msg = (
                    f"Expected a checkpoint with {name}={value!r}, the only value in anomalib_mkd {__version__}, "
                    f"got {given[name]!r}. Load it with the version that wrote it, or train again."
                )
                raise ValueError(msg)
        trainer: Any = self._trainer
        own, has = getattr(self.pre_processor, "transform", None), self.pre_processor is not None
        callbacks = {name: getattr(self, name) for name in ("evaluator", "visualizer")}
        super().on_load_checkpoint(checkpoint)
        if trainer is not None:  # in which they go on, also if the checkpoint's training had none
            for name, callback in callbacks.items():
                setattr(self, name, callback)
        self._keep_transform(own, checkpoint)
        had = (checkpoint.get(COMPONENTS_KEY) or {}).get("pre_processor", has)
        if had and not has:
            self._replaced = "a pre-processor"
        elif has and not had and trainer is not None:  # in which it goes on as a callback
            self._replaced = "no pre-processor, pre_processor=False"
        fits = trainer is not None and trainer.state.fn == "fit"
        in_memory = trainer is not None and getattr(trainer.strategy.checkpoint_io, "instead", None) is not None
        self._outdated = "" if fits or in_memory else _outdated(checkpoint)
        if fits:
            self._check_optimizer(given)
            self._interrupted = checkpoint.get(COURSE_KEY)
            self._validated_before = checkpoint.get(VALIDATED_KEY)
            if self._interrupted is None:
                logger.warning("The checkpoint has no random states: the training goes on with other random numbers.")
            end_epoch(checkpoint, trainer)
        contradiction = self._contradiction(given) or self._outdated
        if contradiction and trainer is not None and trainer.state.fn in {"test", "predict"}:
            raise ValueError(contradiction)
        self._check_network(checkpoint["state_dict"], given)
        if contradiction and trainer is not None:
            checkpoint["state_dict"] |= _without_thresholds(checkpoint["state_dict"])
            self._forget_learnt()

    def _keep_transform(self, own: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the transform of a pre-processor that was given: anomalib puts the checkpoint's in its place.

        Args:
            own: The transform before the checkpoint was read.
            checkpoint: The checkpoint.

        Raises:
            ValueError: If the checkpoint's transform is lost, and another one was given, or none.
        """
        pre_processor: Any = self.pre_processor
        config, unsaved = checkpoint.get(CONFIG_KEY), checkpoint.get(TRANSFORM_KEY)
        if pre_processor is None or config is None:
            return
        if unsaved and repr(own) != unsaved:
            msg = (
                f"Expected the pre-processor of the checkpoint's training, which a checkpoint cannot hold, {unsaved}, "
                f"got {own}. Pass it to the model: pre_processor=PreProcessor(...)."
            )
            raise ValueError(msg)
        if unsaved or (self._own_pre_processor and _spec(own) != config.get("transform")):
            self._replaced = "" if unsaved else f"the pre-processor's transform {pre_processor.transform}"
            pre_processor.transform, pre_processor.export_transform = own, get_exportable_transform(own)

    def _check_network(self, state: dict[str, Any], given: dict[str, Any]) -> None:
        """Reject the weights of another network, and weights that are not finite."""
        weights = {name: value for name, value in state.items() if name.startswith("model.")}
        own = {name: value.shape for name, value in self.state_dict().items() if name.startswith("model.")}
        shapes = {name: value.shape for name, value in weights.items()}
        if own != shapes:
            first = min(name for name in own.keys() | shapes.keys() if own.get(name) != shapes.get(name))
            differing = self._differing(given, TRAINING_ONLY - {"weights"})
            was = ", ".join(f"{name}={was!r}" for name, (was, _) in differing.items()) or "the same arguments"
            now = ", ".join(f"{name}={now!r}" for name, (_, now) in differing.items()) or f"another {first!r}"
            options = " ".join(f"--model.{name}={was}" for name, (was, _) in differing.items())
            remedy = f"Pass {options} to the command, or these" if options else "Pass the arguments of its training"
            msg = f"Expected the network of the checkpoint, with {was}, got one with {now}. {remedy} to the model."
            raise ValueError(msg)
        broken = [name for name, value in weights.items() if not value.isfinite().all()]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            msg = (
                f"Expected finite weights, got others in {broken[0]!r}{more}. Take another checkpoint, or train again."
            )
            raise ValueError(msg)

    def _differing(self, given: dict[str, Any], without: set[str]) -> dict[str, tuple[Any, Any]]:
        """List the settings other than the checkpoint's: its value and this model's."""
        names = sorted(self.hparams.keys() & given.keys() - without)
        pairs = {name: tuple(_plain(each[name]) for each in (given, self.hparams)) for name in names}
        return {name: (was, now) for name, (was, now) in pairs.items() if was != now}

    def _check_optimizer(self, given: dict[str, Any]) -> None:
        """Refuse to resume a training with another optimiser, rate or schedule, which would be ignored."""
        differing = self._differing(given, self.hparams.keys() - OF_OPTIMIZER)
        if differing:
            was, now = (", ".join(f"{name}={pair[which]!r}" for name, pair in differing.items()) for which in (0, 1))
            msg = (
                f"Expected {was}, with which the interrupted training began, got {now}. Resume it with the former, or "
                f"start from its weights: {type(self).__name__}.load_from_checkpoint(path, {now}), then fit without "
                "ckpt_path."
            )
            raise ValueError(msg)

    def _contradiction(self, given: dict[str, Any]) -> str:
        """Name a setting other than the checkpoint's that changes scores; empty if there is none."""
        if self._replaced:
            return (
                f"Expected {self._replaced}, as when the checkpoint was trained: its thresholds hold for no other, "
                "got another one. Build the model as for its training, or train again."
            )
        for name, (was, now) in self._differing(given, TRAINING_ONLY).items():
            return (
                f"Expected {name}={was!r}, as when the checkpoint was trained: its thresholds hold for no "
                f"other, got {now!r}. Pass --model.{name}={was} to the command, or train again."
            )
        return ""

    def _forget_learnt(self) -> None:
        """Forget what the checkpoint's settings gave: scores of good parts, and thresholds of categories."""
        if isinstance(self.post_processor, SoftPostProcessor):
            self.post_processor.learnt, self.post_processor.table = [], {}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # more is passed on
        cls, checkpoint_path: str | Path, map_location: Any = None, *args: Any, **kwargs: Any
    ) -> Self:
        """Load as anomalib does; with other settings that change scores, without thresholds.

        Values of a device that this machine lacks stay on the CPU, unless ``map_location`` names another.

        Raises:
            ValueError: If this version cannot build the checkpoint's model or load its weights.
            FileNotFoundError: If there is no such file.
        """
        check_readable(checkpoint_path)
        added = ADDED.get(cls.__name__, {})
        if added:
            given = _arguments(checkpoint_path)
            added = {name: value for name, value in added.items() if name not in given}
        try:
            loaded: Self = super().load_from_checkpoint(
                checkpoint_path, map_location or _if_here, *args, **{**added, **kwargs}
            )
        except ValueError as error:
            msg = f"Expected a checkpoint that anomalib_mkd {__version__} can load, got '{checkpoint_path}': {error}"
            raise ValueError(msg) from error
        scored = kwargs.keys() & loaded.hparams.keys() - TRAINING_ONLY
        contradiction = loaded._outdated
        if scored or loaded._replaced:  # Lightning has put them in place of the checkpoint's
            contradiction = loaded._contradiction(added | _arguments(checkpoint_path)) or contradiction
        if contradiction:
            logger.warning("%s Until its next validation the model has no thresholds.", contradiction)
            loaded.load_state_dict(_without_thresholds(loaded.state_dict()), strict=False)
            loaded._forget_learnt()
        return loaded


def _arguments(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's arguments, as Lightning reads it: its path may be the address of another machine."""
    given: dict[str, Any] = SafeCheckpointIO().load_checkpoint(path, weights_only=True).get("hyper_parameters", {})
    return given


def _if_here(storage: Any, device: str) -> Any:
    """Move a storage from the CPU to its device, if this machine has it; Lightning looks for CUDA and MPS only."""
    try:
        return torch.serialization.default_restore_location(storage, device)  # type: ignore[no-untyped-call]
    except RuntimeError:
        return storage


def warn_if_unsaved(trainer: Any) -> None:
    """Warn of a training whose last student no checkpoint holds.

    Args:
        trainer: Lightning's, at the end of a training.
    """
    callbacks = () if trainer.fast_dev_run else trainer.checkpoint_callbacks
    writers = [each for each in callbacks if isinstance(each, ModelCheckpoint)]
    writers = [each for each in writers if each.save_top_k != 0 or each.save_last]
    # one that watches a metric keeps the best student instead
    if not writers or any(each.monitor is not None and each.best_model_path for each in writers):
        return
    saved = max(each._last_global_step_saved for each in writers)  # noqa: SLF001  # there is no public name
    if saved != trainer.global_step:
        logger.warning(
            "No checkpoint holds the student of the last step, %d: %s. Add the callback "
            "ModelCheckpoint(every_n_epochs=1, save_on_train_epoch_end=True).",
            trainer.global_step,
            f"the last one is of step {saved}" if saved else "none was written",
        )


def check_readable(path: str | Path | None) -> None:
    """Reject a file that is no whole checkpoint; torch's own errors name no file.

    Args:
        path: The checkpoint; None, or an address of another machine, is left to Lightning.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, empty, truncated or of another kind.
    """
    if path is None or "://" in str(path):
        return
    file = Path(path)
    if not file.exists():
        msg = f"Expected a checkpoint, got '{file}', which does not exist. Check its path."
        raise FileNotFoundError(msg)
    if not file.is_file() or not is_zipfile(file):
        empty = file.is_file() and not file.stat().st_size
        what = "a folder" if file.is_dir() else "empty" if empty else "truncated or of another kind"
        msg = (
            f"Expected a checkpoint, got '{file}', which is {what}. Name the .ckpt file of a training, or copy it anew."
        )
        raise ValueError(msg)


def _outdated(checkpoint: dict[str, Any]) -> str:
    """Say that the student was trained further between its thresholds and the checkpoint; empty if it was not."""
    validated, step = checkpoint.get(VALIDATED_KEY), checkpoint.get("global_step", 0)
    thresholds = [value for name, value in checkpoint["state_dict"].items() if name.startswith("post_processor.")]
    known = any(bool(value.isfinite().all()) for value in thresholds)
    if validated is None or validated >= step or not known:  # a trainer that only validates counts from 0
        return ""
    return (
        f"Expected thresholds of the checkpoint's step {step}, got those of step {validated}: it was written between "
        "two validations. Validate first, engine.validate(model, datamodule=..., ckpt_path=...), then test or predict "
        "without ckpt_path."
    )


def _spec(transform: Any) -> Any:
    """Return a transform as a checkpoint holds it; words that equal none if it cannot."""
    try:
        return transform_to_spec(transform)
    except ValueError:
        return repr(transform)


def _plain(value: Any) -> Any:
    """Return a setting as YAML knows it, so that equal ones compare as equal."""
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def _without_thresholds(state: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of a post-processor in a state, as they are before a validation."""
    return {
        name: torch.full_like(value, float("nan"))
        for name, value in state.items()
        if name.startswith("post_processor.")
    }
