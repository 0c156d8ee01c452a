# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Arguments that are one word out of a few."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_choices(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse a word that is no choice; the command line does so by itself, Python does not.

    Args:
        function: Whose annotations of the form ``Literal[...]`` name the choices.
        arguments: Value of each argument that has choices.

    Raises:
        ValueError: If a value is none of its argument's choices.

    Example:
        >>> def paint(colour: Literal["red", "blue"], coats: int) -> None: ...
        >>> check_choices(paint, {"colour": "green"})
        Traceback (most recent call last):
        ValueError: Expected colour to be 'red' or 'blue', got 'green'. Choose one of them.
    """
    for name, annotation in get_type_hints(function).items():
        choices = get_args(annotation)
        if get_origin(annotation) is Literal and arguments[name] not in choices:
            words = " or ".join(map(repr, choices))
            msg = f"Expected {name} to be {words}, got {arguments[name]!r}. Choose one of them."
            raise ValueError(msg)
