# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The precision in which a student is trained."""

import pytest
import torch

from anomalib_mkd.training.precision import uses_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, False), ({"avx512_bf16": True, "amx_bf16": False}, False), ({"avx512_bf16": True, "amx_bf16": True}, True)],
)
def test_only_a_cpu_with_amx_trains_in_bf16_by_itself(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert uses_bf16(CPU, "auto") is expected
    assert uses_bf16(CPU, "bf16")
    assert not uses_bf16(CPU, "f32")
