# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The post-processor per category for a model that has anomalib's own."""

from __future__ import annotations

from typing import Any

from anomalib.post_processing import PostProcessor

from anomalib_mkd.category_post_processor import CategoryPostProcessor


def by_category(post_processor: Any) -> CategoryPostProcessor:
    """Return ours as it is, and one per category with the settings and global statistics of anomalib's own.

    Raises:
        TypeError: If it is another one, or does not normalise.
    """
    if isinstance(post_processor, CategoryPostProcessor):
        return post_processor
    if type(post_processor) is PostProcessor and post_processor.enable_normalization:
        result = CategoryPostProcessor()
        result.load_checkpoint_config(post_processor.checkpoint_config())
        result.load_state_dict(post_processor.state_dict())
        return result
    msg = (
        "Expected anomalib's PostProcessor or our SoftPostProcessor, with normalisation, for thresholds='category', "
        f"got {type(post_processor).__name__}. Set thresholds='global'."
    )
    raise TypeError(msg)
