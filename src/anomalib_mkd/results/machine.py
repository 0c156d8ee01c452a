# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Description of the computer that ran a measurement."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_mkd.threads import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

CPU_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "bf16": "BF16",
    "i8mm": "I8MM",
}
"""Flags of ``/proc/cpuinfo`` that determine the speed of a network, and their display names."""


def cpu_features(flags: Iterable[str]) -> list[str]:
    """List the names of the processor features that determine the speed of a network.

    Args:
        flags: Flags as the system prints them.

    Example:
        >>> cpu_features(["fpu", "avx512f", "avx2"])
        ['AVX2', 'AVX-512']
    """
    flags = set(flags)
    return [name for flag, name in CPU_FEATURES.items() if flag in flags]


def machine(
    threads: int | None = None, cpuinfo: Path = Path("/proc/cpuinfo"), device: torch.device | None = None
) -> str:
    """Describe this machine at run time: accelerator, processor, cores, threads used and features.

    Args:
        threads: Threads that the run used; left out if ``None``.
        cpuinfo: The system's description of the processor.
        device: On which a model ran; it is named first unless it is the processor.

    Returns:
        For example ``"AMD EPYC; 2 cores; 2 threads; AVX2"``, or ``"NVIDIA H200; AMD EPYC; ..."``.
    """
    name = platform.processor() or platform.machine()
    features: list[str] = []
    if cpuinfo.exists():
        fields: dict[str, str] = {}
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
        name = fields.get("model name", name)
        features = cpu_features((fields.get("flags") or fields.get("features") or "").split())
    allowed, cores = allowed_cores(), os.cpu_count() or 1
    parts = [*_accelerator(device), name, f"{cores} cores" if allowed >= cores else f"{allowed} of {cores} cores"]
    if threads is not None:
        parts.append(f"{threads} thread{'s' if threads != 1 else ''}")
    return "; ".join([*parts, " ".join(features) or "no known features"])


def _accelerator(device: torch.device | None) -> list[str]:
    """Return the name of a device that is not the processor, if it is one."""
    if device is None or device.type == "cpu":
        return []
    if device.type != "cuda":
        return [device.type]
    import torch  # noqa: PLC0415  # slow, and not needed to describe a processor

    return [torch.cuda.get_device_name(device)]
