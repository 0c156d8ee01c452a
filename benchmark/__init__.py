# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Measurements: each number in the documentation comes from rows written here, and each table is generated from rows.

``python -m benchmark --help`` lists the commands.
"""
