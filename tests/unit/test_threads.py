# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Threads are as many as a container allows, and wait asleep where others work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd import threads
from anomalib_mkd.threads import VARIABLE, allowed_cores, sleep_if_busy, visible_cores

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


@pytest.mark.parametrize(
    ("files", "own", "allowed"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", 64),
        ({"cpu.max": "200000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "765000 100000\n"}, "0::/\n", 7),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "12800000 100000\n"}, "0::/\n", 64),
        ({"system.slice/line.service/cpu.max": "300000 100000\n"}, "0::/system.slice/line.service\n", 3),
        ({"system.slice/cpu.max": "200000 100000\n"}, "0::/system.slice/line.service\n", 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu,cpuacct:/docker/1\n", 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu,cpuacct:/docker/1\n", 4),
        ({"cpuset/cpu.max": "100000 100000\n"}, "2:cpuset:/\n", 64),
        ({"cpu.max": "broken\n"}, "0::/\n", 64),
    ],
)
def test_cores_are_those_of_a_quota(
    files: dict[str, str], own: str, allowed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "visible_cores", lambda: 64)
    for name, text in {**{f"groups/{name}": text for name, text in files.items()}, "own": own}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert allowed_cores(tmp_path / "groups", tmp_path / "own") == allowed


def test_cores_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed_cores(own=tmp_path / "none") == visible_cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert visible_cores() == os.cpu_count()
