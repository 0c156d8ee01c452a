# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts beside it. `make_environment FOLDER PACKAGE` makes a virtual environment in the repository and
# installs the package into it; once, and again when the packages that it needs or the interpreter have changed. PYTHON
# names the interpreter to start from; pip's own variables, such as PIP_EXTRA_INDEX_URL, choose where packages come from.
make_environment() {
    local repository venv stamp python
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    venv=$repository/$1
    stamp=$venv/.installed
    python=$("${PYTHON:-python3}" --version)
    if [[ ! -e $stamp || $(< "$stamp") != "$python" ||
        $repository/pyproject.toml -nt $stamp || $repository/constraints.txt -nt $stamp ]]; then
        [[ -e $stamp && $(< "$stamp") != "$python" ]] && rm -r "$venv"
        if [[ $(uname -s) == Linux && -z ${PIP_INDEX_URL:-}${PIP_EXTRA_INDEX_URL:-} ]] && ! command -v nvidia-smi > /dev/null; then
            echo "No NVIDIA GPU found: PIP_EXTRA_INDEX_URL=<address of PyTorch's CPU index> $0 saves 4.6 GB of packages for one."
        fi
        "${PYTHON:-python3}" -m venv "$venv"
        "$venv/bin/python" -m pip install --disable-pip-version-check \
            -c "$repository/constraints.txt" -e "$repository$2"
        printf '%s\n' "$python" > "$stamp"
    fi
}
