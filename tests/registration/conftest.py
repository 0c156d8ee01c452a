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
    """Build a wheel of the working tree, ``standard`` or ``editable``, with the hatchling that is installed."""

    def build(version: str) -> Path:
        folder = tmp_path_factory.mktemp(version)
        code = f"import hatchling.build as b; b.build_{'wheel' if version == 'standard' else version}({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)  # noqa: S603
        return next(folder.glob("*.whl"))

    return build


@pytest.fixture(scope="session")
def wheel(build: Callable[[str], Path]) -> Path:
    """The wheel of the working tree."""
    return build("standard")
