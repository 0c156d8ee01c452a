# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Threads wait asleep where others work, and as OpenMP chooses elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd import threads
from anomalib_mkd.threads import VARIABLE, sleep_if_busy

if TYPE_CHECKING:
    from pathlib import Path

IDLE, BUSY = "cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1 2 3 4 5\n", "cpu  110 5 105 1040 0 0 0 0 0 0\ncpu0 1 2 3 4 5\n"


@pytest.fixture
def statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)
    file = tmp_path / "stat"
    file.write_text(IDLE)
    return file


def look(file: Path, then: str, monkeypatch: pytest.MonkeyPatch) -> str | None:
    monkeypatch.setattr(threads.time, "sleep", lambda _: file.write_text(then))
    sleep_if_busy(file)
    return os.environ.pop(VARIABLE, None)


@pytest.mark.parametrize(
    ("then", "policy"),
    [
        (BUSY, "PASSIVE"),  # 20 of 60 ticks
        (BUSY.replace("1040", "1070"), None),  # 20 of 90
        ("cpu  100 0 100 1000 90 0 0 0 0 0\n", None),  # waits for a disk
    ],
)
def test_share_of_other_work(statistics: Path, then: str, policy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(statistics, then, monkeypatch) == policy


def test_a_choice_is_kept(statistics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "ACTIVE")
    assert look(statistics, BUSY, monkeypatch) == "ACTIVE"


def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    sleep_if_busy(tmp_path / "none")
    assert VARIABLE not in os.environ
