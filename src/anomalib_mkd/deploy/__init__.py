# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Inferencers for exports with two inputs."""

from anomalib_mkd.deploy.depth_inferencer import DepthOpenVINOInferencer, DepthTorchInferencer

__all__ = ["DepthOpenVINOInferencer", "DepthTorchInferencer"]
