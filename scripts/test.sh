#!/usr/bin/env bash
# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up a virtual environment of its own (once), then checks and tests the project; ends at the first failure.
# Arguments go to pytest: `scripts/test.sh -m "not slow"`. Without any, the slow tests of each file run in a process of
# their own after all quick ones: torch, OpenVINO and NNCF in one long process have ended it with a segmentation fault.
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
if (($#)); then
    exec pytest "$@"
fi
pytest -m "not slow"
grep --recursive --files-with-matches --fixed-strings pytest.mark.slow tests | sort | while read -r file; do
    pytest -m slow "$file" < /dev/null
done
