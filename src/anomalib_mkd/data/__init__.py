# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Data: folders of any image format, many categories as one, depth, and a generator that needs no download."""

from anomalib_mkd.category_post_processor import CategoryPostProcessor
from anomalib_mkd.data.categories.multi_category import MultiCategory
from anomalib_mkd.data.depth.dataset import DepthDataset, DepthPredictDataset
from anomalib_mkd.data.depth.folder import DepthFolder
from anomalib_mkd.data.parts import Parts
from anomalib_mkd.data.quickstart import Quickstart
from anomalib_mkd.data.synthetic import Recipe, make_dataset

__all__ = [
    "CategoryPostProcessor",
    "DepthDataset",
    "DepthFolder",
    "DepthPredictDataset",
    "MultiCategory",
    "Parts",
    "Quickstart",
    "Recipe",
    "make_dataset",
]
