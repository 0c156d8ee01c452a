# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Multi-modal reverse distillation: decoders restore a siamese teacher's features of colour and depth."""

from .inferencer import DepthTorchInferencer
from .lightning_model import Mmrd

__all__ = ["DepthTorchInferencer", "Mmrd"]
