# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The models, registered with anomalib by whoever imports this package first: the hook or a user."""

from anomalib_mkd._register import register

from .dcam import Dcam
from .mixed_distillation import MixedDistillation
from .mkd import Mkd
from .mmrd import Mmrd

__all__ = ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]

register()
