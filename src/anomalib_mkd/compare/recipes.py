# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The models that are compared, each with the recipe it is trained by."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

RESNET18 = "resnet18.tv_in1k"
"""Backbone of every model that has a choice: a comparison of methods, not of backbones."""
FAST = "MixedDistillation fast"
"""The preset of ``configs/model/mixed_distillation_fast.yaml``."""
ACCURATE = "MixedDistillation accurate"
"""The preset of ``configs/model/mixed_distillation_accurate.yaml``."""
MANY_PATCHES = "Patchcore 10 %"
"""PatchCore as published. Its selection takes ten times that of 1 %, so it runs last, if there is time for it."""
MANY_TIMES = 10
"""How many times longer the training of :data:`MANY_PATCHES` is taken to be than that with 1 %."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        name: In tables and on the command line.
        model: Class, in ``anomalib.models``, where ours are published, too.
        about: The recipe in words.
        ours: Whether it is one of this package's, which take ``weights``.
        arguments: Of the constructor.
        image_size: Side of the images that the model sees; ``None`` for its default.
        trainer: Arguments of the trainer.
        batch_size: Images of a training step; ``None`` leaves it to the data.
    """

    name: str
    model: str
    about: str
    ours: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None


def _ours(name: str, about: str, image_size: int | None = None, **arguments: Any) -> Recipe:
    limits = {"max_epochs": 1000}  # Lightning's default: our own steps
    model = name.split(maxsplit=1)[0]  # before that of the preset
    return Recipe(name, model, about, ours=True, arguments=arguments, image_size=image_size, trainer=limits)


_PATCHES: dict[str, Any] = {"backbone": RESNET18, "layers": ["layer2", "layer3"]}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _ours("MixedDistillation", "this package's recommendation, by its own defaults"),
        _ours(FAST, "the same on images of 144 px: configs/model/mixed_distillation_fast.yaml", 144),
        _ours(ACCURATE, "the same on images of 320 px: configs/model/mixed_distillation_accurate.yaml", 320),
        _ours("Dcam", "this package's, by its own defaults"),
        _ours("Mkd", "this package's, by its own defaults"),
        _ours("Mmrd", "this package's for photo and depth, by its own defaults"),
        Recipe(
            "Patchcore",
            "Patchcore",
            "anomalib's defaults with ResNet-18 and 1 % of the patches",
            arguments={**_PATCHES, "coreset_sampling_ratio": 0.01},
        ),
        Recipe(
            MANY_PATCHES,
            "Patchcore",
            "anomalib's defaults with ResNet-18 and 10 % of the patches",
            arguments={**_PATCHES, "coreset_sampling_ratio": 0.1},
        ),
        Recipe(
            "Padim",
            "Padim",
            "anomalib's defaults with ResNet-18",
            arguments={"backbone": RESNET18, "n_features": 100},  # its number for ResNet-18, which it knows by one name
        ),
        Recipe(
            "Stfpm",
            "Stfpm",
            "anomalib's defaults with ResNet-18, 100 epochs",
            arguments={"backbone": RESNET18},
            trainer={"max_epochs": 100},
        ),
        Recipe(
            "ReverseDistillation",
            "ReverseDistillation",
            "anomalib's defaults with ResNet-18, 200 epochs",
            arguments={"backbone": RESNET18},
            trainer={"max_epochs": 200},
        ),
        Recipe(
            "EfficientAd",
            "EfficientAd",
            "anomalib's defaults with its own teacher, 70,000 steps of one image; downloads 1.6 GB once",
            trainer={"max_epochs": 1000, "max_steps": 70_000},
            batch_size=1,
        ),
    )
}


def choose(names: Sequence[str]) -> list[Recipe]:
    """Look up recipes. PatchCore brings along its larger selection, as the last one.

    Args:
        names: Names as the tables have them; case does not matter.

    Raises:
        ValueError: If a name is unknown, or there is none.

    Example:
        >>> [recipe.name for recipe in choose(["patchcore", "Padim"])]
        ['Patchcore', 'Padim', 'Patchcore 10 %']
    """
    known = {name.lower(): name for name in RECIPES}
    chosen = []
    for name in names:
        if name.lower() not in known:
            begun = [word for word in known if word.startswith(name.lower())]
            alike = begun or difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
            near = [known[word] for word in alike]
            hint = f"Close ones: {', '.join(near)}." if near else f"Known are {', '.join(RECIPES)}."
            msg = f"Expected known --models, got '{name}'. {hint}"
            raise ValueError(msg)
        chosen.append(known[name.lower()])
    if not chosen:
        msg = f"Expected one of --models at least, got none. Known are {', '.join(RECIPES)}."
        raise ValueError(msg)
    last = [MANY_PATCHES] if {"Patchcore", MANY_PATCHES} & {*chosen} else []
    return [RECIPES[name] for name in dict.fromkeys([*(each for each in chosen if each != MANY_PATCHES), *last])]


def is_extra(recipe: Recipe) -> bool:
    """Return whether a recipe runs only if the others leave time for it."""
    return recipe.name == MANY_PATCHES
