# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""torch's threads are no more than a container allows."""

from __future__ import annotations

import pytest
import torch

from anomalib_mkd.training import threads
from anomalib_mkd.training.threads import COUNT, limit_threads


@pytest.mark.parametrize(("chosen", "expected"), [(None, 2), ("3", 3)])
def test_torch_computes_with_the_allowed_threads(
    chosen: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv(COUNT, raising=False)
    if chosen:
        monkeypatch.setenv(COUNT, chosen)
    monkeypatch.setattr(threads, "allowed_cores", lambda: 2)
    try:
        torch.set_num_threads(3)
        limit_threads()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
