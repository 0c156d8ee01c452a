# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The models; the first import of this package, by the hook or a user, registers them with anomalib."""

from anomalib_mkd._register import register

from .dcam import Dcam
from .mixed_distillation import MixedDistillation
from .mkd import Mkd
from .mmrd import Mmrd

__all__ = ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]

register()
