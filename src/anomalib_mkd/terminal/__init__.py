# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a user sees while a command runs: one bar, and only messages that hold for our models."""
