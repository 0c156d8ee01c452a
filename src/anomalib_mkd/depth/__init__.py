# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Depth scans: read from files, prepared as heights above the background, cached on disk. Does not import torch.

The names below are loaded on first use: reading needs fewer packages than preparing, and arrays none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_mkd.depth.preparation import DepthMap, prepare_depth
    from anomalib_mkd.depth.reading import read_depth
    from anomalib_mkd.depth.source import DepthSource

__all__ = ["DepthMap", "DepthSource", "prepare_depth", "read_depth"]

MODULES = {"DepthMap": "preparation", "prepare_depth": "preparation", "read_depth": "reading", "DepthSource": "source"}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f"anomalib_mkd.depth.{MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
