# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Comparing teacher and student: losses, anomaly maps and the base of the torch models."""
