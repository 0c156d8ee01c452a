# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Data that needs no download: a seeded generator and its datamodule."""

from anomalib_mkd.data.quickstart import Quickstart
from anomalib_mkd.data.synthetic import Recipe, make_dataset

__all__ = ["Quickstart", "Recipe", "make_dataset"]
