# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The scripts' environment: made once, without packages for a GPU where the user names a CPU index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
INTERPRETER = """#!/bin/bash
# An interpreter that makes environments with itself in them and writes down what pip was given.
case "$*" in
    --version) echo "Python 3.0" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) echo "pip $PIP_EXTRA_INDEX_URL $*" >> "$LOG" ;;
esac
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Lay out a repository with the real script and an interpreter that installs nothing."""
    root = tmp_path / "a repository"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "environment.sh", root / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        (root / name).touch()
    (root / "python").write_text(INTERPRETER, encoding="utf-8")
    (root / "python").chmod(0o755)
    return root


def make(root: Path, path: str = "/usr/bin:/bin", **variables: str) -> str:
    command = f'. "{root}/scripts/environment.sh"; make_environment .venv ""'
    environment = {"PATH": path, "PYTHON": str(root / "python"), "LOG": str(root / "log"), **variables}
    return subprocess.run(  # noqa: S603
        ["/bin/bash", "-euo", "pipefail", "-c", command], env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the default build of PyTorch is for CPUs")
def test_the_cpu_index_is_named_where_it_helps(repository: Path) -> None:
    said = make(repository)
    assert said.count("\n") == 1
    assert "PIP_EXTRA_INDEX_URL=<address of PyTorch's CPU index>" in said
    assert not make(repository), "it is made once"
    assert (repository / "log").read_text(encoding="utf-8").count("\n") == 1


def test_pips_variable_reaches_pip(repository: Path) -> None:
    assert not make(repository, PIP_EXTRA_INDEX_URL="somewhere")
    log = (repository / "log").read_text(encoding="utf-8")
    assert log.startswith(f"pip somewhere -m pip install --disable-pip-version-check -c {repository}/constraints.txt")


def test_nothing_is_said_with_a_gpu(repository: Path) -> None:
    (repository / "nvidia-smi").symlink_to("/bin/true")
    assert not make(repository, path=f"{repository}:/usr/bin:/bin")


def test_the_constraints_allow_a_cpu_build_and_pip_prefers_it(tmp_path: Path) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(
        line.split(";")[0].strip().split("==") for line in lines if line.startswith(("torch==", "torchvision=="))
    )
    for name, pinned in pins.items():
        for version in (pinned, f"{pinned}+cpu"):
            info = f"{name}-{version}.dist-info"
            with zipfile.ZipFile(tmp_path / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
                wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                wheel.writestr(f"{info}/RECORD", "")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(f"{name}=={version}" for name, version in pins.items()), encoding="utf-8")
    command = ["-m", "pip", "install", "--dry-run", "--no-index", "--ignore-installed", "-c", constraints, *pins]
    done = subprocess.run(  # noqa: S603
        [sys.executable, *map(str, command), "--find-links", str(tmp_path)],
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1].split()[2:] == [
        f"{name}-{version}+cpu" for name, version in sorted(pins.items())
    ]
