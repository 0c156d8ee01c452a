# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""From a checkpoint to ONNX and OpenVINO."""
