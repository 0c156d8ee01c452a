#!/usr/bin/env bash
# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up a virtual environment of its own (once), then checks and tests the project; a failure ends it.
# Arguments go to pytest: `scripts/test.sh -m "not slow"`. Without any, two files are tested at a time, and the slow tests
# of each in a process of their own: torch, OpenVINO and NNCF in one long process have ended it with a segmentation fault.
# Large files come first, and two small ones that run for minutes, so that the last ones are short and neither core waits
# long for the other.
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
NO_MKDOCS_2_WARNING=1 mkdocs build --strict # not --quiet: it hides the warnings from --strict, too
if (($#)); then
    exec pytest "$@"
fi
pytest --numprocesses 2 --dist loadfile --max-worker-restart 0 -m "not slow" # a restarted worker may wait for ever

test_slowly() { # prints in one piece, since another file is under way
    local output status=0
    output=$(pytest -m slow --durations 3 "$1" < /dev/null 2>&1) || status=$?
    printf '%s\n' "$output"
    return "$status"
}
export -f test_slowly
{
    printf '%s\n' tests/integration/test_notebooks.py tests/integration/test_blocks.py
    grep --recursive --files-with-matches --fixed-strings --include '*.py' pytest.mark.slow tests | xargs ls -S
} |
    awk '!seen[$0]++' |
    xargs --max-procs=2 --replace=FILE bash -c 'test_slowly FILE'
