# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The threads that torch computes with."""

import logging
import os

import torch

from anomalib_mkd.threads import allowed_cores

logger = logging.getLogger(__name__)

COUNT = "OMP_NUM_THREADS"
"""OpenMP's variable: the user's choice."""


def limit_threads() -> None:
    """Let torch compute with as many threads as this process may keep busy, unless the user has chosen.

    On two cores with a quota of one, a step of two threads takes 1.2 to 1.3 times as long as of one
    (``benchmark/time_quota.py``); with more cores, others report far more.
    """
    allowed, count = allowed_cores(), torch.get_num_threads()
    if allowed < count and COUNT not in os.environ:
        torch.set_num_threads(allowed)
        logger.info("Computing with %d threads instead of %d: all that this container's quota allows.", allowed, count)
