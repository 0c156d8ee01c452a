# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Depth scans: read from files, prepared as heights above the background, cached on disk. Does not import torch."""

from anomalib_mkd.depth.preparation import DepthMap, prepare_depth
from anomalib_mkd.depth.reading import read_depth
from anomalib_mkd.depth.source import DepthSource

__all__ = ["DepthMap", "DepthSource", "prepare_depth", "read_depth"]
