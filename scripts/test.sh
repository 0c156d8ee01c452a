#!/usr/bin/env bash
# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up a virtual environment of its own (once), then checks and tests the project; ends at the first failure.
# Arguments go to pytest: `scripts/test.sh -m "not slow"`. PYTHON names the interpreter to start from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv-test
stamp=$venv/.installed
if [[ ! -e $stamp || pyproject.toml -nt $stamp || constraints.txt -nt $stamp ]]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
    touch "$stamp"
fi

PATH="$PWD/$venv/bin:$PATH"
ruff check
ruff format --check
mypy
lint-imports
exec pytest "$@"
