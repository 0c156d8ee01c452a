# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checks of a folder of parts before training.

NumPy, Pillow and PyYAML only, the command also rich, so that the first line comes at once.
"""

from anomalib_mkd.check.folder import Check, Finding, check_folder, check_layout
from anomalib_mkd.check.images import Facts
from anomalib_mkd.check.layout import Group, Layout, find_layout

__all__ = ["Check", "Facts", "Finding", "Group", "Layout", "check_folder", "check_layout", "find_layout"]
