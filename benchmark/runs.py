# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One model on one data set, or on several as one: the data, the model, and all runs that arguments span."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_mkd.data import DepthFolder, MultiCategory, MVTecFolder, Recipe, make_dataset
from benchmark.rows import JOINT
from benchmark.variants import BASELINES, NAMED, variant_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomalib.models.components import AnomalibModule

RGB_FOLDER = "rgb"
"""Where MVTec 3D-AD's layout has its photos."""

RESNET18 = "resnet18.tv_in1k"
RESNET18_FILE = "resnet18_tv_in1k_layers1-3_f16.safetensors"

PAPER: dict[str, Any] = {
    "learning_rate": 1e-3,
    "schedule": "constant",
    "value_weight": 0.5,  # Salehi et al. 2021, authors' config for MVTec AD
    "map_scaling": "per_image_p99",
    "opening": True,
    "sigma": 4.0,
    "student_precision": "f32",
}
"""What the paper's protocol changes; a plain VGG gets ``detach_teacher=False`` too, as in the authors' code."""


@dataclass(frozen=True)
class Run:
    """What is trained and tested once.

    Args:
        model: ``Mkd``, ``MixedDistillation``, ``Dcam``, ``Mmrd``, ``Stfpm`` or ``Patchcore``.
        variant: Name of the preset.
        data: Folder under the data root, for example ``mvtec/bottle``, or a name in ``JOINT``, or ``drawn3d/metal``
            for drawn parts with depth.
        seed: Seed of everything.
        weights: Teacher weights: a timm name, or ``quickstart``.
        protocol: ``user``, ``paper``, or ``painted6`` for painted defects.
        steps: Training steps, of joint data all together; ``None`` = the model's own number.
        batch_size: Training batch.
        arguments: Arguments of the model beyond those of the variant.
    """

    model: str
    variant: str
    data: str
    seed: int
    weights: str
    protocol: str = "user"
    steps: int | None = None
    batch_size: int = 16
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Readable name that tells this run from any other."""
        steps = "auto" if self.steps is None else str(self.steps)
        return (
            f"{self.model}-{self.variant}-{self.protocol}-{self.weights}-{self.data.replace('/', '_')}"
            f"-s{self.seed}-b{self.batch_size}-n{steps}"
        ).lower()


def folder_data(root: Path | str, data: str, batch_size: int, seed: int, workers: int = 0) -> MVTecFolder:
    """The data module of a data set in MVTec layout, without validation images.

    Args:
        root: Data root.
        data: Folder under it, with ``train/good``, ``test/<type>`` and ``ground_truth/<type>``.
        batch_size: Training batch.
        seed: Seed of anomalib's splits (none is made here).
        workers: Loader processes.

    Raises:
        FileNotFoundError: If a needed folder is missing.
        ValueError: If an image does not get its own mask.
    """
    datamodule = MVTecFolder(
        root,
        data,
        train_batch_size=batch_size,
        eval_batch_size=8,
        num_workers=workers,
        val_split_mode="none",
        seed=seed,
    )
    for part in ("test/good", "ground_truth"):
        if not (Path(root) / data / part).is_dir():
            msg = f"Expected the folder {part} in {Path(root) / data}, got none. Name a data set that has it."
            raise FileNotFoundError(msg)
    datamodule.setup()
    return datamodule


def depth_data(root: Path | str, data: str, batch_size: int) -> DepthFolder:
    """The data module of a data set in MVTec 3D-AD's layout.

    Every point keeps its height above the plane: by the rule for parts on a table, a bare table has no plane to remove,
    and would come as raw distances, other than every picture with something on it.

    Args:
        root: Data root.
        data: Folder under it.
        batch_size: Training batch.
    """
    datamodule = DepthFolder(
        root, data, train_batch_size=batch_size, eval_batch_size=8, num_workers=0, removal_distance=0.0
    )
    datamodule.setup()
    return datamodule


def draw_depth_data(root: Path, data: str) -> None:
    """Draw parts with depth; their defects show in colour, in depth, or in both.

    Args:
        root: Data root.
        data: ``drawn3d/<category>``.
    """
    folder, category = data.split("/")
    recipe = Recipe(category, picture_size=256, train_images=60, test_good=20, per_defect=20, layout="mvtec3d")
    make_dataset(root / folder, recipe)


def has_depth(root: Path | str, data: str) -> bool:
    """Whether a folder under the data root has MVTec 3D-AD's layout."""
    return (Path(root) / data / "train" / "good" / RGB_FOLDER).is_dir()


def run_data(root: Path | str, run: Run) -> MVTecFolder | MultiCategory | DepthFolder:
    """The data module of a run; arguments and errors as for :func:`folder_data`."""
    if has_depth(root, run.data):
        return depth_data(root, run.data, run.batch_size)
    if run.data not in JOINT:
        return folder_data(root, run.data, run.batch_size, run.seed)
    parts = [folder_data(root, name, run.batch_size, run.seed) for name in JOINT[run.data]]
    names = [name.rsplit("/", 1)[-1] for name in JOINT[run.data]]
    return MultiCategory(
        datamodules=parts, categories=names, train_batch_size=run.batch_size, eval_batch_size=8, num_workers=0
    )


def model_arguments(run: Run, shared: Path) -> dict[str, Any]:
    """Arguments of the model's constructor for a run.

    Args:
        run: The run.
        shared: Folder with ``weights/``.

    Raises:
        ValueError: If the variant is unknown, or the model cannot have these weights.
    """
    if run.model in BASELINES:
        variant, fixed = BASELINES[run.model]
        if run.variant != variant or run.weights == "quickstart":
            msg = (
                f"Expected variant {variant!r} and a timm backbone for {run.model}, got {run.variant!r} and "
                f"{run.weights!r}. anomalib's models know neither our variants nor our embedded teacher."
            )
            raise ValueError(msg)
        return {"backbone": run.weights, **fixed, **run.arguments}
    arguments: dict[str, Any] = {"backbone": run.weights}
    if run.variant == "random_teacher":
        arguments["pre_trained"] = False
    elif run.weights == RESNET18:
        arguments["weights"] = str(shared / "weights" / RESNET18_FILE)
    if run.model in NAMED and not run.protocol.startswith("painted"):  # there, a candidate brings its arguments
        arguments |= variant_arguments(run.model, run.variant)
    elif run.protocol == "paper":
        arguments |= PAPER
        if not run.weights.startswith("resnet"):
            arguments["detach_teacher"] = False
    if run.steps is not None:
        arguments["training_steps"] = math.ceil(run.steps / len(JOINT.get(run.data, [run.data])))  # they count for each
    return arguments | dict(run.arguments)


def build_model(run: Run, shared: Path) -> AnomalibModule:
    """The untrained model of a run, without post-processor, evaluator and visualizer.

    Args:
        run: The run.
        shared: Folder with ``weights/``.

    Raises:
        ValueError: If the model is unknown.
    """
    off: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}
    package = "anomalib.models" if run.model in BASELINES else "anomalib_mkd"
    models = {"Mkd", *NAMED, *BASELINES}
    if run.model not in models:
        msg = f"Expected a model out of {sorted(models)}, got {run.model!r}. Correct --models."
        raise ValueError(msg)
    model: AnomalibModule = getattr(import_module(package), run.model)(**model_arguments(run, shared), **off)
    return model


def plan(
    models: Sequence[str],
    weights: Sequence[str],
    variants: Sequence[str],
    data: Sequence[str],
    seeds: Sequence[int],
    steps: int | None,
    batch_size: int,
) -> list[Run]:
    """All runs that the arguments span; the first seed of everything comes first.

    Args:
        models: Class names.
        weights: Teacher weights.
        variants: Presets of our models; those of anomalib have one each.
        data: Folders under the data root, or names in ``JOINT``.
        seeds: Seeds.
        steps: Training steps; ``None`` = the model's own (Stfpm: 100; Patchcore always takes one pass).
        batch_size: Training batch.
    """
    runs: list[Run] = []
    for seed in seeds:
        for model in models:
            for weight in weights:
                if model in BASELINES and weight == "quickstart":
                    continue
                for variant in (BASELINES[model][0],) if model in BASELINES else variants:
                    protocol = "paper" if variant == "paper" else "user"
                    count = {"Stfpm": steps or 100, "Patchcore": None}.get(model, steps)
                    runs += [Run(model, variant, name, seed, weight, protocol, count, batch_size) for name in data]
    return runs
