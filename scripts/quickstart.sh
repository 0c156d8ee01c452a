#!/usr/bin/env bash
# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0
#
# Sets up a virtual environment of its own (once), then trains, tests and exports a model on images that it draws.
# Arguments go to the program: `scripts/quickstart.sh --data FOLDER`, `scripts/quickstart.sh --help`. For PyTorch without
# CUDA: `PIP_EXTRA_INDEX_URL=<address of PyTorch's CPU index> scripts/quickstart.sh`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/environment.sh"
make_environment .venv ""
exec "$here/../.venv/bin/python" -m anomalib_mkd.quickstart "$@"
