# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which model for these parts and this computer? Several are trained, tested, exported and timed side by side.

``python -m anomalib_mkd compare --help`` lists the options.
"""
