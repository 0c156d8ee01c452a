# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Knowledge-distillation models for anomalib.

The names below are loaded on first use: the hook may import this package while anomalib itself is still being loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomalib_mkd._version import __version__ as __version__

if TYPE_CHECKING:
    from anomalib_mkd.models import Dcam, MixedDistillation, Mkd, Mmrd

__all__ = ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("anomalib_mkd.models"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
