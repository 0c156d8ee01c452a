# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Every number that a user can set has a range, and what is out of it is refused by name."""

from __future__ import annotations

import inspect
import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from anomalib_mkd import data, deploy, depth, models
from anomalib_mkd.arguments import COUNTS, RANGES, check_arguments, in_range
from anomalib_mkd.post_processor import SoftPostProcessor
from anomalib_mkd.quickstart.__main__ import quickstart
from anomalib_mkd.thresholds import threshold_from_good

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = {"Box", "DepthMap", "Metadata", "Prediction"}
"""What functions return: nobody sets their numbers."""
POINTS = np.ones((8, 8))
PUBLIC: dict[str, Callable[..., Any]] = {
    **{name: partial(getattr(models, name), pre_trained=False) for name in models.__all__},
    **{name: getattr(module, name) for module in (data, deploy, depth) for name in module.__all__},
    "Parts": partial(data.Parts, root="nowhere"),
    "DepthFolder": partial(data.DepthFolder, root="nowhere", category="part"),
    "MultiCategory": partial(data.MultiCategory, "Quickstart", ["metal"]),
    "Recipe": partial(data.Recipe, "metal"),
    "Inferencer": partial(deploy.Inferencer, "nowhere.xml"),
    "DepthInferencer": partial(deploy.DepthInferencer, "nowhere.xml"),
    "prepare_depth": partial(depth.prepare_depth, POINTS),
    "read_depth": partial(depth.read_depth, "nowhere.npy"),
    "SoftPostProcessor": SoftPostProcessor,
    "threshold_from_good": partial(threshold_from_good, [1.0, 2.0, 3.0, 4.0, 5.0]),
}


def words(annotation: Any) -> set[str]:
    return set(re.findall(r"\w+", annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)))


def numbers(function: Callable[..., Any]) -> dict[str, set[str]]:
    """The numeric arguments of a function, with the words of their annotations."""
    parameters = inspect.signature(function).parameters
    found = {name: words(parameter.annotation) for name, parameter in parameters.items()}
    return {
        name: kinds for name, kinds in found.items() if kinds & {"int", "float"} and not kinds & {"Sequence", "Mapping"}
    }


ARGUMENTS = [
    (name, argument, kinds)
    for name, function in PUBLIC.items()
    if name not in RESULTS
    for argument, kinds in numbers(function).items()
] + [("DepthInferencer", name, kinds) for name, kinds in numbers(deploy.Inferencer).items()]


def test_every_range_is_used_and_what_a_user_can_set_is_here() -> None:
    first_run = {name for name in inspect.signature(quickstart).parameters if name in RANGES}
    assert set(RANGES) == {argument for _, argument, _ in ARGUMENTS} | first_run
    assert len(ARGUMENTS) > 90


@pytest.mark.parametrize(("name", "argument", "kinds"), ARGUMENTS, ids=[f"{name}-{arg}" for name, arg, _ in ARGUMENTS])
def test_what_is_no_number_of_its_range_is_refused_by_name(name: str, argument: str, kinds: set[str]) -> None:
    assert argument in RANGES
    wrong: list[Any] = [
        math.nan,
        math.inf,
        -math.inf,
        -(10**400),
        -1,
        -1e-9,
        "a",
        True,
        False,
        [1],
        np.nan,
        np.bool_(1),
    ]
    wrong += [] if in_range(argument, 0) else [0]
    wrong += [2.5, 2.0] if "float" not in kinds else []
    wrong += [] if kinds & {"None", "Optional"} else [None]
    for value in wrong:
        with pytest.raises(
            ValueError, match=rf"^Expected {argument} [<>].*, got .*\. Set {argument} within that range"
        ):
            PUBLIC[name](**{argument: value})


def test_numbers_of_numpy_are_numbers() -> None:
    check_arguments({"val_split_ratio": np.float32(0.5), "seed": np.int64(3), "num_workers": np.uint8(2)})


@pytest.mark.parametrize("name", sorted(RANGES))
def test_the_limits_themselves_are_numbers_of_a_range(name: str) -> None:
    for limit in re.findall(r"[<>]= (\S+)", RANGES[name]):
        check_arguments({name: (int if name in COUNTS else float)(limit)})


def test_the_smallest_share_of_false_alarms_has_a_threshold() -> None:
    assert math.isfinite(threshold_from_good([1.0, 2.0, 3.0, 4.0, 5.0], 1e-9))
    with pytest.raises(ValueError, match=r"^Expected false_alarms >= 1e-9 and < 0\.5 or None, got 1e-17"):
        models.MixedDistillation(pre_trained=False, false_alarms=1e-17)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("pre_trained", "yes"),
        ("pre_trained", 1),
        ("weights", 3),
        ("weights", True),
        ("backbone", None),
        ("backbone", 18),
        ("layers", "layer1"),
        ("layers", [1, 2]),
        ("schedule", "cosine"),
        ("schedule", None),
        ("student_precision", 16),
    ],
)
@pytest.mark.parametrize("name", models.__all__)
def test_what_is_of_another_type_is_refused_by_name(name: str, argument: str, value: object) -> None:
    model = getattr(models, name)
    if argument not in inspect.signature(model).parameters:
        pytest.skip(f"{name} has no {argument}")
    with pytest.raises(ValueError, match=rf"^Expected {argument} to be .*, got .*\. (Set|Choose) "):
        model(**{argument: value})


@pytest.mark.parametrize("argument", ["opening", "detach_teacher"])
def test_a_switch_is_true_or_false(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^Expected {argument} to be true or false, got 'no'"):
        models.Mkd(**{argument: "no"})


@pytest.mark.parametrize("name", models.__all__)
def test_each_choice_of_a_model_is_checked(name: str) -> None:
    model = getattr(models, name)
    found = {name for name, parameter in inspect.signature(model).parameters.items() if "Literal" in str(parameter)}
    assert found
    for argument in found - set(RANGES):
        with pytest.raises(ValueError, match=rf"^Expected {argument} to be '.*, got 'nothing'\. Choose one of them"):
            model(**{argument: "nothing"}, pre_trained=False)
