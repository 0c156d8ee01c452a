# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The version, here only; the build and the checkpoints read it."""

__version__ = "0.1.0"
