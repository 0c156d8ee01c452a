# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Training inside anomalib: steps, schedule, optimisers, caches and checkpoints."""
