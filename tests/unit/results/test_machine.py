# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A machine is named by its accelerator, its processor and by what decides the speed of a network on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from anomalib_mkd.results import machine as names
from anomalib_mkd.results.machine import machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_machine_names_features(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "model name\t: A Chip\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8\n\n"
        "model name\t: Another\nflags : sse\n",
        encoding="utf-8",
    )
    text = machine(4, cpuinfo)
    assert text.startswith("A Chip; ")
    assert text.endswith("; 4 threads; AVX2 AVX-512 AVX512-VNNI AVX512-BF16 AMX-BF16 AMX-INT8")


def test_machine_names_the_cores_of_a_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(names, "allowed_cores", lambda: 2)
    assert "; 2 of 64 cores; " in machine(2, tmp_path / "none")


def test_machine_without_description(tmp_path: Path) -> None:
    assert machine(1, tmp_path / "none").endswith("1 thread; no known features")


def test_an_accelerator_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    processor = machine(1, tmp_path / "none")
    for device, start in (("cpu", ""), ("cuda:1", "GPU 1; "), ("mps", "mps; ")):
        assert machine(1, tmp_path / "none", torch.device(device)) == start + processor
