# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Exported models on the line: OpenVINO, NumPy and Pillow; neither torch nor anomalib."""

from anomalib_mkd.deploy.boxes import Box
from anomalib_mkd.deploy.inferencer import DepthInferencer, Inferencer
from anomalib_mkd.deploy.metadata import Metadata
from anomalib_mkd.deploy.prediction import Prediction

__all__ = ["Box", "DepthInferencer", "Inferencer", "Metadata", "Prediction"]
