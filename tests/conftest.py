# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What any test may ask for."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def no_internet() -> Iterator[None]:
    """Fail if any test or fixture, however wide its scope, tries to reach another machine; tests of that block it."""
    attempts: list[str] = []
    connect = socket.socket.connect

    def refuse_far(own: socket.socket, address: object) -> None:
        host = str(address[0]) if isinstance(address, tuple) else ""
        if own.family == socket.AF_UNIX or host.startswith("127.") or host in {"localhost", "::1"}:
            connect(own, address)  # type: ignore[arg-type]  # as it came
            return
        attempts.append(repr(address))
        msg = f"the network is blocked in tests, and something wants to reach {address}"
        raise OSError(msg)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse_far)
        yield
    assert attempts == []


@pytest.fixture
def blocked_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every attempt to reach a network fail; the attempts are listed."""
    attempts: list[str] = []

    def refuse(*arguments: object, **_: object) -> NoReturn:
        attempts.append(repr(arguments))
        msg = "the network is blocked by this test"
        raise OSError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return attempts


@pytest.fixture
def no_network(blocked_network: list[str]) -> Iterator[None]:
    """Fail a test that tries to reach a network, even where the code under test swallows the error."""
    yield
    assert blocked_network == []


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Return a path in the folder of real images and weights, or skip the test if it is missing."""
    root = Path(os.environ.get("ANOMALIB_MKD_SHARED") or REPOSITORY.parent / "shared")

    def path(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"needs {name} in {root}; set ANOMALIB_MKD_SHARED to the folder that has it")
        return root / name

    return path
