# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Environments and wheels for the tests of registration."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.registration.environments import REAL_FILES, REPOSITORY, SOURCE, STUB_HOST, STUB_LEAVES, Environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def stub(tmp_path: Path) -> Environment:
    """An environment with the stub host and our registration files."""
    environment = Environment(tmp_path / "stub")
    environment.write({**STUB_HOST, **STUB_LEAVES})
    for name in REAL_FILES:
        (environment.site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / name, environment.site / name)
    return environment


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build a ``wheel``, an ``editable`` or an ``sdist`` of the working tree with the hatchling that is installed."""

    def build(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        code = f"import hatchling.build as b; b.build_{kind}({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)  # noqa: S603
        (file,) = folder.iterdir()
        return file

    return build


@pytest.fixture(scope="session")
def wheel(build: Callable[[str], Path]) -> Path:
    """The wheel of the working tree."""
    return build("wheel")


@pytest.fixture(scope="session")
def sdist(build: Callable[[str], Path]) -> Path:
    """The source distribution of the working tree."""
    return build("sdist")
