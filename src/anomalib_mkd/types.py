# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The data type that the parts of a model exchange.

Legend for every shape in this package: ``N`` images in a batch, ``C`` channels, ``H`` and ``W`` pixels; with an index
``C_l``, ``H_l``, ``W_l`` of level ``l``.
"""

from typing import TypeAlias

from torch import Tensor, nn

Pyramid: TypeAlias = dict[str, Tensor]
"""Layer name to features ``(N, C_l, H_l, W_l)``, shallow to deep."""
BatchNorm: TypeAlias = nn.modules.batchnorm._BatchNorm  # noqa: SLF001
"""A BatchNorm, also one that Lightning has replaced by its kin of several processes."""
