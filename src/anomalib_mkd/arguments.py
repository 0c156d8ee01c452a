# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Argument checks: a name has the same range or type wherever an argument has it."""

import math
import operator
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args

COUNTS = {
    # models
    "num_prototypes": ">= 1",
    "training_steps": ">= 1",
    # data
    "train_batch_size": ">= 1",
    "eval_batch_size": ">= 1",
    "num_workers": ">= 0",
    "seed": ">= 0 and < 4294967296",
    "data_seed": ">= 0 and < 4294967296",
    "image_size": ">= 64",
    "train_images": ">= 2",
    "test_good": ">= 1",
    "per_defect": ">= 1",
    "version": ">= 1",
    # depth
    "fill_iterations": ">= 0",
    # exported models, and the first run
    "smallest_area": ">= 0",
    "steps": ">= 1",
    "batch_size": ">= 1",
}
"""Argument to the range of its whole numbers."""

RANGES = {
    **COUNTS,
    # models
    "student_width": "> 0 and <= 1",
    "skip_weight": ">= 0 and <= 1000000",
    "symmetric_weight": ">= 0 and <= 1000000",
    "cosine_weight": ">= 0 and <= 1000000",
    "kl_weight": ">= 0 and <= 1000000",
    "raw_weight": ">= 0 and <= 1000000",
    "direction_weight": ">= 0 and <= 1000000",
    "value_weight": ">= 0 and <= 1000000",
    "sigma": ">= 0 and <= 256",  # pixels of a map; a kernel of larger ones does not fit in memory
    "score_share": ">= 0 and <= 1",
    "hard_share": "> 0 and <= 1",
    "painted_share": ">= 0 and <= 1",
    "learning_rate": "> 0 and <= 1000",
    "weight_decay": ">= 0 and <= 1000",
    "cache_gigabytes": ">= 0 and <= 1000000",
    "false_alarms": ">= 1e-9 and < 0.5",
    # data
    "test_split_ratio": "> 0 and < 1",
    "val_split_ratio": "> 0 and < 1",
    # depth
    "scale": "> 0",
    "depth_scale": "> 0",
    "focal_length": "> 0",
    "inlier_distance": "> 0",
    "removal_distance": ">= 0",
    # exported models
    "threshold": "> 0 and < 1",
}
"""Argument to the range of its numbers."""

TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "backbone": ((str,), "a name of timm's"),
    "pre_trained": ((bool,), "true or false"),
    "weights": ((str, Path, type(None)), "a file, a name or None"),
    "opening": ((bool,), "true or false"),
    "detach_teacher": ((bool,), "true or false"),
    "relative_value": ((bool,), "true or false"),
    "balanced": ((bool,), "true or false"),
    "leave_out_suspects": ((bool,), "true or false"),
    "maps": ((bool,), "true or false"),
}
"""Argument to its types, and how to say them."""

LISTS = {"layers", "score_layers", "map_layers"}
"""Arguments that are lists of names, or None."""

COMPARED = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def check_arguments(arguments: Mapping[str, Any], *, optional: Collection[str] = (), **choices: Any) -> None:
    """Reject values that an argument cannot have: out of range, not finite, of another type, or not among its choices.

    The command line checks types and choices itself; Python does not.

    Args:
        arguments: Values by name, such as ``locals()`` at the start of a function. Names without an entry in the
            tables above and without choices are ignored.
        optional: Numbers and choices that may be None.
        **choices: The ``Literal`` of each argument that has one; a number may be one of its words instead.

    Raises:
        ValueError: If a value is rejected.

    Example:
        >>> from typing import Literal
        >>> check_arguments({"sigma": 0.5, "seed": None}, optional=["seed"])
        >>> check_arguments({"sigma": float("nan")})
        Traceback (most recent call last):
        ValueError: Expected sigma >= 0 and <= 256, got nan. Set sigma within that range.
        >>> check_arguments({"seed": 0.5}, optional=["seed"])
        Traceback (most recent call last):
        ValueError: Expected seed >= 0 and < 4294967296 as a whole number or None, got 0.5. Set seed within that range.
        >>> check_arguments({"colour": "green"}, colour=Literal["red", "blue"])
        Traceback (most recent call last):
        ValueError: Expected colour to be 'red' or 'blue', got 'green'. Choose one of them.
    """
    for name, value in arguments.items():
        words = get_args(choices.get(name))
        if (value is None and name in optional) or (isinstance(value, str) and value in words):
            continue
        others = " or None" * (name in optional)
        if name in RANGES:
            kind = Integral if name in COUNTS else Real
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if not (is_number and in_range(name, value)):
                bounds = RANGES[name] + " and finite" * (name not in COUNTS and "<" not in RANGES[name])
                others = " as a whole number" * (name in COUNTS) + others + "".join(f" or {word!r}" for word in words)
                msg = f"Expected {name} {bounds}{others}, got {value!r}. Set {name} within that range."
                raise ValueError(msg)
        elif name in LISTS:
            if not (value is None or _is_list_of_names(value)):
                first = "".join(f"{word!r}, " for word in words)
                msg = f"Expected {name} to be {first}a list of names or None, got {value!r}. Choose one of them."
                raise ValueError(msg)
        elif words:
            msg = f"Expected {name} to be {' or '.join(map(repr, words))}{others}, got {value!r}. Choose one of them."
            raise ValueError(msg)
        elif name in TYPES and not isinstance(value, TYPES[name][0]):
            msg = f"Expected {name} to be {TYPES[name][1]}, got {value!r}. Set {name} to one."
            raise ValueError(msg)


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def in_range(name: str, value: Any) -> bool:
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
