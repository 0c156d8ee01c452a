# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Register the models of ``anomalib_mkd`` with anomalib once a program imports it.

``anomalib_mkd_autoload.pth`` (from Python 3.15 on, its twin ``.start``) runs ``install()`` whenever Python starts, so
this file does as little as possible: it puts one finder on ``sys.meta_path`` that waits for ``anomalib.models``. No
network, no file access, standard library only. ``ANOMALIB_MKD_AUTOLOAD=0`` disables it.
"""

import os
import sys

HOST = "anomalib.models"
SWITCH = "ANOMALIB_MKD_AUTOLOAD"


class AutoloadFinder:
    """Find ``anomalib.models`` as Python would, and register our models after its import."""

    busy = False

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Return the real spec of ``anomalib.models``, and ``None`` for every other module."""
        if name != HOST or cls.busy:
            return None
        import importlib.util  # noqa: PLC0415  (only when anomalib is imported)

        cls.busy = True  # the search below calls this finder again
        try:
            spec = importlib.util.find_spec(name)
        finally:
            cls.busy = False
        if spec is not None:
            _register_after(spec.loader)
        return spec


def _register_after(loader):
    """Override ``exec_module`` on this one instance, so that other code still sees the host's own loader."""
    run = loader.exec_module

    def exec_module(module):
        is_host = module.__name__ == HOST  # a zip importer uses one loader for many modules
        if is_host:
            vars(loader).pop("exec_module", None)  # already removed if another plug-in does the same
        run(module)  # an error of the host propagates; the finder stays for the next attempt
        if is_host and AutoloadFinder in sys.meta_path:
            sys.meta_path.remove(AutoloadFinder)
            _register()

    loader.exec_module = exec_module


def _register():
    """Import our models, which register themselves; a failure of ours must not break the host."""
    try:
        import anomalib_mkd.models  # noqa: F401, PLC0415  (slow: only once anomalib is loaded)
    except Exception as error:  # noqa: BLE001
        import warnings  # noqa: PLC0415

        msg = f"anomalib_mkd could not register its models: {error!r}. anomalib itself works; {SWITCH}=0 hides this."
        warnings.warn(msg, RuntimeWarning, stacklevel=2)


def install():
    """Wait for anomalib, or register at once if it is already loaded. Calling it again changes nothing."""
    if os.environ.get(SWITCH) == "0":
        return
    if HOST in sys.modules:
        _register()
    elif AutoloadFinder not in sys.meta_path:
        sys.meta_path.insert(0, AutoloadFinder)


install()
