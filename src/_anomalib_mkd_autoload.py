# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Tell anomalib about the models of ``anomalib_mkd`` once a program imports anomalib.

``anomalib_mkd_autoload.pth`` (from Python 3.15 on its twin ``.start``) runs ``install()`` whenever Python starts, so
this file does next to nothing: it puts one finder on ``sys.meta_path`` that waits for ``anomalib.models``. No network,
no file access, standard library only. ``ANOMALIB_MKD_AUTOLOAD=0`` switches it off.
"""

import os
import sys

HOST = "anomalib.models"
SWITCH = "ANOMALIB_MKD_AUTOLOAD"


class AutoloadFinder:
    """Find ``anomalib.models`` as Python would, and register our models when it has been imported."""

    busy = False

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Return the true spec of ``anomalib.models``, and ``None`` for every other module."""
        if name != HOST or cls.busy:
            return None
        import importlib.util  # noqa: PLC0415  (not before anomalib is wanted)

        cls.busy = True  # the search below asks this finder again
        try:
            spec = importlib.util.find_spec(name)
        finally:
            cls.busy = False
        if spec is not None:
            _register_after(spec.loader)
        return spec


def _register_after(loader):
    """Shadow ``exec_module`` on this one loader, which stays the host's own for everybody who looks at it."""
    run = loader.exec_module

    def exec_module(module):
        is_host = module.__name__ == HOST  # a zip importer is one loader for many modules
        if is_host:
            vars(loader).pop("exec_module", None)  # gone already if a second plugin works like this one
        run(module)  # an error of the host passes through; the finder stays for the next attempt
        if is_host and AutoloadFinder in sys.meta_path:
            sys.meta_path.remove(AutoloadFinder)
            _register()

    loader.exec_module = exec_module


def _register():
    """Import our models, which register themselves; a failure of ours must not become the host's."""
    try:
        import anomalib_mkd.models  # noqa: F401, PLC0415  (heavy: only once anomalib is there)
    except Exception as error:  # noqa: BLE001
        import warnings  # noqa: PLC0415

        msg = f"anomalib_mkd could not register its models: {error!r}. anomalib itself works. {SWITCH}=0 hides this."
        warnings.warn(msg, RuntimeWarning, stacklevel=2)


def install():
    """Wait for anomalib, or register at once if it is loaded. Calling it again changes nothing."""
    if os.environ.get(SWITCH) == "0":
        return
    if HOST in sys.modules:
        _register()
    elif AutoloadFinder not in sys.meta_path:
        sys.meta_path.insert(0, AutoloadFinder)


install()
