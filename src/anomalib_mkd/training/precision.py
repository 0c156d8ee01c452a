# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The precision in which a student is trained."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch

StudentPrecision: TypeAlias = Literal["auto", "f32", "bf16"]

WORKING = ("32-true", "16-mixed", "bf16-mixed")
"""Lightning's precisions that work: the others convert either the images or the networks, not both."""


def check_precision(precision: str) -> None:
    """Refuse a precision of the trainer's with which torch would stop the first step with an error of types.

    Args:
        precision: Lightning's name.

    Raises:
        ValueError: If it converts weights.

    Example:
        >>> check_precision("64-true")
        Traceback (most recent call last):
        ValueError: Expected precision '32-true', '16-mixed' or 'bf16-mixed', got '64-true'. Set one of them.
    """
    if precision.endswith("-true") and precision not in WORKING:
        *first, last = map(repr, WORKING)
        msg = f"Expected precision {', '.join(first)} or {last}, got {precision!r}. Set one of them."
        raise ValueError(msg)


def is_faster_in_bf16() -> bool:
    """Return whether this CPU trains faster in bf16: whether it has AMX, units that multiply matrices in bf16.

    ``torch`` runs bf16 on every CPU. Emulated, it takes four times as long as f32; on a Xeon with bf16 in AVX-512
    but not in AMX, 1.2 to 1.5 times (``benchmark/time_precision.py``). No other CPU's bf16 was measured.
    """
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def uses_bf16(device: torch.device, precision: StudentPrecision) -> bool:
    """Return whether a student is trained in bf16.

    Args:
        device: Device of the images.
        precision: ``"bf16"`` and ``"f32"`` force that precision. ``"auto"`` uses bf16 on a CPU that is faster in
            it, and the trainer's own ``precision`` elsewhere.

    Example:
        >>> uses_bf16(torch.device("cpu"), "bf16"), uses_bf16(torch.device("cuda"), "auto")
        (True, False)
    """
    return precision == "bf16" or (precision == "auto" and device.type == "cpu" and is_faster_in_bf16())


def student_autocast(device: torch.device, precision: StudentPrecision) -> AbstractContextManager[object]:
    """Return the context of a student's forward pass in training; arguments as for :func:`uses_bf16`.

    Example:
        >>> with student_autocast(torch.device("cpu"), "bf16"):
        ...     torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype
        torch.bfloat16
    """
    if uses_bf16(device, precision):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext() if precision == "auto" else torch.autocast(device.type, enabled=False)
