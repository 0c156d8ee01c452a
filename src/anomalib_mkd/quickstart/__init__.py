# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The first run: train a model, look at heat maps, export to OpenVINO and check that its predictions stay the same.

``python -m anomalib_mkd.quickstart --help`` lists the options.
"""
