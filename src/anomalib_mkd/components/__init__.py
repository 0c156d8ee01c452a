# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The parts that the models share."""

# First of all: importing anomalib fires the hook, which imports our models and with them every module of this package.
# Later, from within one of these modules, it would meet that module half loaded.
import anomalib.models  # noqa: F401
