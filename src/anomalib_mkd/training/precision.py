# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The precision in which a student is trained."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch

StudentPrecision: TypeAlias = Literal["auto", "f32", "bf16"]


def has_bf16() -> bool:
    """Return whether this CPU computes in bf16.

    ``torch`` also runs bf16 on CPUs that have to emulate it, four times slower than f32; so this checks for the
    instructions themselves.
    """
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def uses_bf16(device: torch.device, precision: StudentPrecision) -> bool:
    """Return whether a student is trained in bf16.

    Args:
        device: Device of the images.
        precision: ``"bf16"`` and ``"f32"`` force that precision. ``"auto"`` uses bf16 on a CPU that has it, and the
            trainer's own ``precision`` elsewhere.

    Example:
        >>> uses_bf16(torch.device("cpu"), "bf16"), uses_bf16(torch.device("cuda"), "auto")
        (True, False)
    """
    return precision == "bf16" or (precision == "auto" and device.type == "cpu" and has_bf16())


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
