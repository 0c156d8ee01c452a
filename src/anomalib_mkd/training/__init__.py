# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Training inside anomalib: steps, schedule, optimisers, caches and checkpoints."""

import anomalib.models  # noqa: F401  # before a module of ours is half loaded, which the start-up hook's import needs whole
