# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation with attention during training only."""

from .lightning_model import Dcam

__all__ = ["Dcam"]
