# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs of one model on one data set, or on several as one: data, model, and all combinations of arguments."""

from __future__ import annotations

import hashlib
import math
import os
import random
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Resize

from anomalib_mkd.data import DepthFolder, MultiCategory, Parts, Recipe, make_dataset
from anomalib_mkd.results.machine import machine
from anomalib_mkd.results.predictions import RGB_FOLDER
from benchmark.rows import JOINT, MEAN, OTHER_STEPS, OWN_STEPS, Key, Row, training_pictures, versions
from benchmark.variants import BASELINES, NAMED, USUAL, variant_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomalib.models.components import AnomalibModule

RESNET18 = "resnet18.tv_in1k"
QUICKSTART = "quickstart"
"""Names of teachers: timm's, and that of the embedded one."""

ACCELERATOR = "ANOMALIB_MKD_ACCELERATOR"
"""Environment variable with Lightning's name of the accelerator; without it, the CPU, which is what users have."""


def wanted_accelerator() -> str:
    """Return Lightning's name of the accelerator that trains and tests."""
    return os.environ.get(ACCELERATOR, "cpu")


@dataclass(frozen=True)
class Run:
    """One training and its test.

    Args:
        model: ``Mkd``, ``MixedDistillation``, ``Dcam``, ``Mmrd``, ``Stfpm`` or ``Patchcore``.
        variant: Name of the preset.
        data: Folder under the data root, for example ``mvtec/bottle``, or a name in ``JOINT``, or ``drawn3d/metal``
            for drawn parts with depth.
        seed: Seed of the whole run.
        teacher: timm's name, or ``quickstart``.
        steps: Training steps, in total for joint data.
        batch_size: Images per training step.
        protocol: ``user``, the same with 25 training images as ``good25``, ``paper``, or a protocol of painted defects.
        weights: File with the teacher's weights; ``None`` for those of the hub.
        arguments: Arguments of the model beyond those of the variant, and ``image_size``.
        accelerator: Lightning's name of what trains and tests; in the key unless it is the CPU.
    """

    model: str
    variant: str
    data: str
    seed: int
    teacher: str = RESNET18
    steps: int = OWN_STEPS["MixedDistillation"]
    batch_size: int = 16
    protocol: str = "user"
    weights: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    accelerator: str = field(default_factory=wanted_accelerator)

    @property
    def key(self) -> Key:
        """Identify this run; a file of weights and arguments of its own by a digest."""
        parts = [self.model, self.variant, self.protocol, self.teacher, self.data.replace("/", "_"), f"s{self.seed}"]
        if self.accelerator != "cpu":
            parts.append(self.accelerator)
        if self.weights is not None or self.arguments:
            own = repr((self.weights and _digest(self.weights), sorted(self.arguments.items())))
            parts.append(hashlib.sha256(own.encode()).hexdigest()[:8])
        return Key("-".join(parts).lower(), self.batch_size, self.steps)

    @property
    def name(self) -> str:
        """The key as one word."""
        return f"{self.key.run_id}-b{self.batch_size}-n{self.steps}"

    @property
    def pictures(self) -> int | None:
        """Training images of the protocol; ``None`` for all."""
        return training_pictures(self.protocol)

    @property
    def category(self) -> str:
        """Category of rows about the run as a whole."""
        return MEAN if self.data in JOINT else self.data.rsplit("/", 1)[-1]


@cache
def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run_row(
    run: Run,
    metric: str,
    value: float,
    *,
    epochs: float,
    image_size: int,
    precision: str,
    source: str,
    category: str | None = None,
    subset: str = "all",
    device: torch.device | None = None,
) -> Row:
    """Build a row of a run measured on this machine with these versions.

    Args:
        run: The run.
        metric: Name of the number; see :class:`Row`.
        value: The number.
        epochs: Passes over the training images.
        image_size: Side of the images.
        precision: Training precision, or ``int8``.
        source: Commit of the code.
        category: Category; that of the run as a whole if ``None``.
        subset: ``all``, or a defect type.
        device: That trained or tested, for the name of the machine; ``None`` for the CPU.
    """
    run_id, batch, steps, _ = run.key
    return Row(
        run_id=run_id,
        model=run.model,
        variant=run.variant,
        data=run.data,
        category=category or run.category,
        subset=subset,
        seed=run.seed,
        batch=batch,
        steps=steps,
        metric=metric,
        value=value,
        epochs=epochs,
        image_size=image_size,
        precision=precision,
        weights=run.teacher,
        protocol=run.protocol,
        machine=machine(torch.get_num_threads(), device=device),
        versions=versions(),
        commit=source,
    )


class SomeParts(Parts):
    """Parts of which some good training images are kept, drawn by the seed; fewer are among more.

    Attributes:
        pictures: Images to keep; ``None`` for all.
    """

    pictures: int | None = None

    def _setup(self, stage: str | None = None) -> None:
        super()._setup(stage)
        samples = self.train_data.samples
        if self.pictures is None:
            return
        if not 0 < self.pictures <= len(samples):
            msg = f"Expected 1 to {len(samples)} good training images, got {self.pictures}. Change --pictures."
            raise ValueError(msg)
        drawn = random.Random(self.seed).sample(range(len(samples)), len(samples))[: self.pictures]  # noqa: S311
        self.train_data.samples = samples.iloc[sorted(drawn)].reset_index(drop=True)


def folder_data(
    root: Path | str, data: str, batch_size: int, seed: int, workers: int = 0, pictures: int | None = None
) -> Parts:
    """Build the datamodule of a data set in MVTec layout, without validation images.

    Args:
        root: Data root.
        data: Folder under it, with ``train/good``, ``test/<type>`` and, if it has masks, ``ground_truth/<type>``.
        batch_size: Images per training step.
        seed: Seed of the images to keep, and of anomalib's splits (none is made here).
        workers: Loader processes.
        pictures: Training images to keep; ``None`` for all.

    Raises:
        FileNotFoundError: If a required folder is missing.
        ValueError: If an image has no mask, or several, or if there are fewer training images.
    """
    datamodule = SomeParts(
        root,
        data,
        train_batch_size=batch_size,
        eval_batch_size=8,
        num_workers=workers,
        val_split_mode="none",
        seed=seed,
    )
    if not (Path(root) / data / "test/good").is_dir():
        msg = f"Expected the folder test/good in {Path(root) / data}, got none. Choose a data set that has it."
        raise FileNotFoundError(msg)
    datamodule.pictures = pictures
    datamodule.setup()
    return datamodule


def depth_data(root: Path | str, data: str, batch_size: int) -> DepthFolder:
    """Build the datamodule of a data set in MVTec 3D-AD's layout.

    Every point keeps its height above the plane: under the rule for parts on a table, a bare table has no plane to
    remove, and would be returned as raw distances, unlike every scan with something on it.

    Args:
        root: Data root.
        data: Folder under it.
        batch_size: Images per training step.
    """
    datamodule = DepthFolder(
        root, data, train_batch_size=batch_size, eval_batch_size=8, num_workers=0, removal_distance=0.0
    )
    datamodule.setup()
    return datamodule


def draw_depth_data(root: Path, data: str) -> None:
    """Draw parts with depth, with defects visible in colour, in depth, or in both.

    Args:
        root: Data root.
        data: ``drawn3d/<category>``.
    """
    folder, category = data.split("/")
    recipe = Recipe(category, image_size=256, train_images=60, test_good=20, per_defect=20, layout="mvtec3d")
    make_dataset(root / folder, recipe)


def has_depth(root: Path | str, data: str) -> bool:
    """Return whether a folder under the data root has MVTec 3D-AD's layout."""
    return (Path(root) / data / "train" / "good" / RGB_FOLDER).is_dir()


def run_data(root: Path | str, run: Run) -> Parts | MultiCategory | DepthFolder:
    """Build the datamodule of a run; arguments and errors as for :func:`folder_data`."""
    if run.pictures is not None and (has_depth(root, run.data) or run.data in JOINT):
        msg = f"Expected one category of photographs for --pictures, got {run.data!r}. Leave --pictures out."
        raise ValueError(msg)
    if has_depth(root, run.data):
        return depth_data(root, run.data, run.batch_size)
    if run.data not in JOINT:
        return folder_data(root, run.data, run.batch_size, run.seed, pictures=run.pictures)
    parts = [folder_data(root, name, run.batch_size, run.seed) for name in JOINT[run.data]]
    names = [name.rsplit("/", 1)[-1] for name in JOINT[run.data]]
    return MultiCategory(
        datamodules=parts, categories=names, train_batch_size=run.batch_size, eval_batch_size=8, num_workers=0
    )


def model_arguments(run: Run) -> dict[str, Any]:
    """Return the arguments of the model's constructor for a run, and ``image_size`` if the run has one.

    Args:
        run: The run.

    Raises:
        ValueError: If model or variant is unknown, or the model cannot have this teacher.
    """
    models = {*NAMED, *BASELINES}
    if run.model not in models:
        msg = f"Expected a model out of {sorted(models)}, got {run.model!r}. Set --models to some of them."
        raise ValueError(msg)
    if run.model in BASELINES:
        variants = BASELINES[run.model]
        if run.variant not in variants or run.teacher == QUICKSTART or run.weights is not None:
            msg = (
                f"Expected variant {' or '.join(variants)} and a timm teacher without --weights for {run.model}, got "
                f"{run.variant!r}, {run.teacher!r} and {run.weights}. Run anomalib's models apart, with the hub or its "
                "cache (HF_HOME): they have neither our variants nor our embedded teacher, and read no file."
            )
            raise ValueError(msg)
        return {"backbone": run.teacher, **variants[run.variant], **run.arguments}
    arguments: dict[str, Any] = {"backbone": run.teacher}
    if run.weights is not None:
        arguments["weights"] = str(run.weights)
    if not run.protocol.startswith("painted"):  # where candidates bring their own arguments
        arguments |= variant_arguments(run.model, run.variant)
    if run.model == "Mkd" and run.protocol == "paper" and not run.teacher.startswith("resnet"):
        arguments["detach_teacher"] = False  # a plain VGG, as in the authors' code
    arguments["training_steps"] = math.ceil(run.steps / len(JOINT.get(run.data, [run.data])))  # per category
    return arguments | dict(run.arguments)


def build_model(run: Run) -> AnomalibModule:
    """Build the untrained model of a run, without post-processor, evaluator and visualizer.

    Args:
        run: The run.

    Raises:
        ValueError: As for :func:`model_arguments`.
    """
    off: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}
    package = "anomalib.models" if run.model in BASELINES else "anomalib_mkd"
    arguments = model_arguments(run)
    made = getattr(import_module(package), run.model)
    if side := arguments.pop("image_size", None):
        off["pre_processor"] = (
            PreProcessor(Resize((side, side), antialias=True))  # which normalises nothing
            if run.teacher == QUICKSTART
            else made.configure_pre_processor((side, side))
        )
    model: AnomalibModule = made(**arguments, **off)
    return model


def check_runs(runs: Sequence[Run], data_root: Path) -> None:
    """Refuse runs that would stop a command hours from now.

    Args:
        runs: All runs of a command.
        data_root: Folder of the data sets.

    Raises:
        ValueError: If a model, a variant or a folder is not one.
    """
    for run in runs:
        model_arguments(run)
        for name in JOINT.get(run.data, [run.data]):
            if not (data_root / name).is_dir() or name.endswith("/"):
                msg = (
                    f"Expected a folder below {data_root} as --data, without a slash at its end, got {name!r}. Check "
                    "its path."
                )
                raise ValueError(msg)


def usual_steps(model: str, data: str, steps: int | None) -> int:
    """Return the training steps of a run, in total for joint data.

    Args:
        model: Class name; 0 steps for an unknown one, which building it refuses.
        data: Folder under the data root, or a name in ``JOINT``.
        steps: The requested number; ``None`` for the model's own.
    """
    if OTHER_STEPS.get(model) == 0:
        return 0
    if steps is not None and steps < 1:
        msg = f"Expected --steps of at least 1, got {steps}. Leave it out for the model's own number."
        raise ValueError(msg)
    return steps or OTHER_STEPS.get(model) or OWN_STEPS.get(model, 0) * len(JOINT.get(data, [data]))


def plan(
    models: Sequence[str],
    variants: Sequence[str],
    data: Sequence[str],
    seeds: Sequence[int],
    steps: int | None,
    **common: Any,
) -> list[Run]:
    """List all combinations of the arguments, seed by seed.

    Args:
        models: Class names.
        variants: Presets; of those, anomalib's models run what they have, or their usual one.
        data: Folders under the data root, or names in ``JOINT``.
        seeds: Seeds.
        steps: As for :func:`usual_steps`.
        common: Further arguments of every :class:`Run`.
    """
    return [
        Run(
            model,
            variant,
            name,
            seed,
            steps=usual_steps(model, name, steps),
            **{"protocol": "paper" if variant == "paper" else "user", **common},
        )
        for seed in seeds
        for model in models
        for variant in _variants_of(model, variants)
        for name in data
    ]


def _variants_of(model: str, wanted: Sequence[str]) -> Sequence[str]:
    if model not in BASELINES:
        return wanted
    return [variant for variant in wanted if variant in BASELINES[model]] or [USUAL[model]]
