# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Multiresolution knowledge distillation."""

from .lightning_model import Mkd

__all__ = ["Mkd"]
