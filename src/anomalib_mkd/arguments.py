# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Argument checks: allowed choices, and number ranges that hold wherever an argument has that name."""

import inspect
import math
import operator
import re
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

RANGES = {
    # models
    "student_width": "> 0 and <= 1",
    "skip_weight": ">= 0",
    "symmetric_weight": ">= 0",
    "cosine_weight": ">= 0",
    "kl_weight": ">= 0",
    "raw_weight": ">= 0",
    "direction_weight": ">= 0",
    "value_weight": ">= 0",
    "num_prototypes": ">= 1",
    "sigma": ">= 0 and <= 256",  # pixels of a map; a kernel of larger ones does not fit in memory
    "score_share": ">= 0 and <= 1",
    "hard_share": "> 0 and <= 1",
    "painted_share": ">= 0 and <= 1",
    "learning_rate": "> 0",
    "weight_decay": ">= 0",
    "training_steps": ">= 1",
    "cache_gigabytes": ">= 0",
    "false_alarms": "> 0 and < 0.5",
    # data
    "train_batch_size": ">= 1",
    "eval_batch_size": ">= 1",
    "num_workers": ">= 0",
    "test_split_ratio": "> 0 and < 1",
    "val_split_ratio": "> 0 and < 1",
    "seed": ">= 0 and < 4294967296",
    "data_seed": ">= 0 and < 4294967296",
    "picture_size": ">= 64",
    "train_images": ">= 2",
    "test_good": ">= 1",
    "per_defect": ">= 1",
    "version": ">= 1",
    # depth
    "scale": "> 0",
    "depth_scale": "> 0",
    "focal_length": "> 0",
    "inlier_distance": "> 0",
    "removal_distance": ">= 0",
    "fill_iterations": ">= 0",
    # exported models, and the first run
    "threshold": "> 0 and < 1",
    "smallest_area": ">= 0",
    "steps": ">= 1",
    "batch_size": ">= 1",
}
"""Argument to the range of its numbers; whether they are whole, and None is allowed, its annotation says."""

COMPARED = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def check_choices(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Reject a value that is not among its argument's choices; the command line checks this itself, Python does not.

    Args:
        function: Its annotations ``Literal[...]`` and ``Literal[...] | None`` define the choices.
        arguments: Value of each argument that has choices.

    Raises:
        ValueError: If a value is not among its argument's choices.

    Example:
        >>> def paint(colour: Literal["red", "blue"], coats: int) -> None: ...
        >>> check_choices(paint, {"colour": "green"})
        Traceback (most recent call last):
        ValueError: Expected colour to be 'red' or 'blue', got 'green'. Choose one of them.
    """
    for name, annotation in get_type_hints(function).items():
        parts = get_args(annotation) if get_origin(annotation) is Union else (annotation,)
        words_only = all(get_origin(part) is Literal or part is type(None) for part in parts)
        choices = [choice for part in parts for choice in get_args(part)] if words_only else []
        if choices and arguments[name] not in [*choices, *([None] if type(None) in parts else [])]:
            words = " or ".join(map(repr, choices))
            msg = f"Expected {name} to be {words}, got {arguments[name]!r}. Choose one of them."
            raise ValueError(msg)


def check_ranges(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Reject numbers that are out of range or not finite, and what is no number: words, booleans, floats for a count.

    Args:
        function: A function or class, whose annotations say which arguments are whole numbers, or may be None or a
            word.
        arguments: Values by name; those without an entry in ``RANGES`` are ignored.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> def paint(sigma: float, seed: int | None) -> None: ...
        >>> check_ranges(paint, {"sigma": 0.5, "seed": None})
        >>> check_ranges(paint, {"sigma": float("nan")})
        Traceback (most recent call last):
        ValueError: Expected sigma >= 0 and <= 256, got nan. Set sigma within that range.
        >>> check_ranges(paint, {"seed": 0.5})
        Traceback (most recent call last):
        ValueError: Expected seed >= 0 and < 4294967296 as a whole number or None, got 0.5. Set seed within that range.
    """
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in RANGES or name not in arguments:
            continue
        annotation = parameter.annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        kinds, words = set(re.findall(r"\w+", text)), re.findall(r"['\"](\w+)['\"]", text)
        value, whole, optional = arguments[name], "float" not in kinds, bool(kinds & {"None", "Optional"})
        if (value is None and optional) or (isinstance(value, str) and value in words):
            continue
        right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not (right and in_range(name, value)):
            bounds = RANGES[name] + (" and finite" if not whole and "<" not in RANGES[name] else "")
            others = " as a whole number" * whole + " or None" * optional + "".join(f" or {word!r}" for word in words)
            msg = f"Expected {name} {bounds}{others}, got {value!r}. Set {name} within that range."
            raise ValueError(msg)


def in_range(name: str, value: float) -> bool:
    """Return whether a number is finite and lies in the range of an argument.

    Example:
        >>> in_range("hard_share", 1), in_range("hard_share", 0), in_range("sigma", float("nan"))
        (True, False, False)
    """
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
    bounds = (bound.split() for bound in RANGES[name].split(" and "))
    return finite and all(COMPARED[sign](value, float(limit)) for sign, limit in bounds)
