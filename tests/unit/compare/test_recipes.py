# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Models by name, and near names for a wrong one."""

from __future__ import annotations

import re

import pytest

from anomalib_mkd.compare.recipes import MANY_PATCHES, RECIPES, choose
from anomalib_mkd.networks import backbone


def names(*given: str) -> list[str]:
    return [recipe.name for recipe in choose(given)]


def test_order_is_kept_and_patchcore_brings_its_large_selection_last() -> None:
    assert names("Padim", "Dcam") == ["Padim", "Dcam"]
    assert names("PATCHCORE", "padim", "Patchcore") == ["Patchcore", "Padim", MANY_PATCHES]
    assert names(MANY_PATCHES, "Padim") == ["Padim", MANY_PATCHES]


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(ValueError, match=re.escape("got 'PatchCor'. Close ones: Patchcore, Patchcore 10 %.")):
        choose(["PatchCor"])
    with pytest.raises(ValueError, match=r"got 'Mixed'\. Close ones: MixedDistillation"):
        choose(["Padim", "Mixed"])
    with pytest.raises(ValueError, match=r"got 'xyzzy'\. Known are MixedDistillation, MixedDistillation fast, "):
        choose(["xyzzy"])


def test_backbones_are_this_packages_default() -> None:
    found = {name: recipe.arguments["backbone"] for name, recipe in RECIPES.items() if "backbone" in recipe.arguments}
    assert found == dict.fromkeys(
        ("Patchcore", MANY_PATCHES, "Padim", "Stfpm", "ReverseDistillation"), backbone.RESNET18
    )
