# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The shared ImageNet weights as a cache of the hub, for anomalib's own models. Imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def prepare_hub_cache(shared: Path, work: Path) -> None:
    """Let timm find the shared ResNet-18 offline, for anomalib's own models.

    Sets ``HF_HOME``; call it before anything imports ``huggingface_hub``, or it has no effect there.

    Args:
        shared: Folder with ``weights/make_hf_cache.py``.
        work: Folder that may be written.
    """
    cache = (work / "hf_cache").resolve()
    if not (cache / "hub").exists():
        script = (shared / "weights" / "make_hf_cache.py").resolve()
        subprocess.run([sys.executable, str(script), str(cache)], check=True, capture_output=True)  # noqa: S603
    os.environ["HF_HOME"] = str(cache)
    os.environ["HF_HUB_OFFLINE"] = "1"
