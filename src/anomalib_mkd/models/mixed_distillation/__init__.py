# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mixed distillation."""

from .lightning_model import MixedDistillation

__all__ = ["MixedDistillation"]
