#!/usr/bin/env bash
# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up a virtual environment of its own (once), then checks and tests the project; ends at the first failure.
# Arguments go to pytest: `scripts/test.sh -m "not slow"`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
make_environment .venv-test "[dev]"

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # threads of tiny networks wait for each other more than they compute
PATH="$PWD/.venv-test/bin:$PATH"
ruff check
ruff format --check
mypy
lint-imports
exec pytest "$@"
