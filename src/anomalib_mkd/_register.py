# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The names that we add to anomalib, and how.

Changes to the host: one attribute and one entry in ``__all__`` per name, and two entries in the set
``anomalib.models.ALLOWED_MODULES``, which allow its configs to import from our package and from nowhere else.
"""

import warnings
from importlib import import_module

#: Host module -> our module and the names to add. To publish another model or datamodule, add its name here.
PUBLISHED = {
    "anomalib.models": ("anomalib_mkd.models", ("Dcam", "MixedDistillation", "Mkd", "Mmrd")),
    "anomalib.data": ("anomalib_mkd.data", ("DepthFolder", "MultiCategory", "Parts", "Quickstart")),
}


def host_reads_entry_points() -> bool:
    """Return whether anomalib discovers our models through the entry points of group ``anomalib.models``.

    No version does so yet. Once one does, check for it here and change nothing else: the hook then registers nothing,
    and can be removed together with support for older versions.
    """
    return False


def register() -> None:
    """Make our models and datamodules known to the host; called as the last statement of ``anomalib_mkd.models``."""
    if host_reads_entry_points():
        return
    for host_name, (our_name, names) in PUBLISHED.items():
        host, ours = import_module(host_name), import_module(our_name)
        for name in names:
            published = getattr(ours, name)
            if getattr(host, name, published) is not published:
                msg = f"{host_name} has its own {name}, which is kept. Import ours as {our_name}.{name}."
                warnings.warn(msg, RuntimeWarning, stacklevel=2)
                continue
            setattr(host, name, published)
            if name not in host.__all__:
                host.__all__.append(name)
    allowed: set[str] = getattr(import_module("anomalib.models"), "ALLOWED_MODULES", set())
    allowed.update({"anomalib_mkd", "anomalib_mkd.models"})
