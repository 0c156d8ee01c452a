# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Measuring: every number of the documentation is a row written here and a table generated from rows.

``python -m benchmark --help`` lists the commands.
"""
