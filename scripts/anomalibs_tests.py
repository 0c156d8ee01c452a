# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Run anomalib's own integration tests of models on our four.

    git clone --branch lib/v2.7.0 --depth 1 https://github.com/open-edge-platform/anomalib
    python scripts/anomalibs_tests.py anomalib

Needs pyarrow beside our package. Fits, tests, trains, validates, predicts and exports each in anomalib's own way, on
its generated images and without a network: all take the embedded teacher, but ``Mmrd``, which takes an untrained one
and its branch of photos.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anomalib.models
import pytest
import torch

ARGUMENTS: dict[str, dict[str, Any]] = {
    "mixed_distillation": {"weights": "quickstart"},
    "dcam": {"weights": "quickstart"},
    "mkd": {"weights": "quickstart"},
    "mmrd": {"branches": "rgb", "pre_trained": False},
}


def get_model(original: Any, name: str, **arguments: Any) -> Any:
    """Build a model as anomalib does, with arguments that need no network."""
    return original(name, **ARGUMENTS[name], **arguments)


def main() -> int:
    """Run the tests.

    Returns:
        pytest's exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of anomalib's repository")
    checkout: Path = parser.parse_args().checkout
    file = checkout / "tests/integration/model/test_models.py"
    if not file.is_file():
        parser.error(f"Expected anomalib's repository in {checkout}, got no {file}. Clone it first.")
    if not set(ARGUMENTS) <= anomalib.models.list_models():
        parser.error(f"Expected anomalib to list {', '.join(ARGUMENTS)}, got {sorted(anomalib.models.list_models())}.")
    torch.set_num_threads(1)
    anomalib.models.get_model = partial(get_model, anomalib.models.get_model)
    setattr(anomalib.models, "list_models", ARGUMENTS.copy)  # noqa: B010  # of another signature
    sys.path.insert(0, str(checkout))
    return int(pytest.main([str(file), f"--rootdir={checkout}", "-q", "-p", "no:cacheprovider", "-W", "ignore"]))


if __name__ == "__main__":
    sys.exit(main())
