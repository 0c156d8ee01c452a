# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Argument checks: allowed choices, and number ranges that hold in every model."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anomalib_mkd.thresholds import possible_false_alarms

RANGES: dict[str, Callable[[Any], bool]] = {
    "learning_rate > 0": lambda value: value is None or value > 0,  # None: the optimiser's default
    "weight_decay >= 0": lambda value: value is None or value >= 0,
    "sigma >= 0": lambda value: value >= 0,
    "hard_share > 0 and <= 1": lambda value: 0 < value <= 1,
    "painted_share >= 0 and <= 1": lambda value: 0 <= value <= 1,
    "score_share >= 0 and <= 1": lambda value: 0 <= value <= 1,
    "cache_gigabytes >= 0": lambda value: value >= 0,
    "training_steps >= 1 or None": lambda value: value is None or value >= 1,
    "false_alarms > 0 and < 0.5 or None": lambda value: value is None or possible_false_alarms(value),
    "num_prototypes >= 1": lambda value: value >= 1,
}
"""Requirement to check; NaN fails every check."""


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


def check_ranges(arguments: Mapping[str, Any]) -> None:
    """Reject numbers that are out of range.

    Args:
        arguments: Values by name; those without an entry in ``RANGES`` are ignored.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> check_ranges({"learning_rate": float("nan")})
        Traceback (most recent call last):
        ValueError: Expected learning_rate > 0, got nan. Set learning_rate within that range.
    """
    for wanted, is_right in RANGES.items():
        name = wanted.split()[0]
        if name in arguments and not is_right(arguments[name]):
            msg = f"Expected {wanted}, got {arguments[name]}. Set {name} within that range."
            raise ValueError(msg)
