# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Our commands ``check``, ``compare``, ``deploy`` and ``quickstart``, and anomalib's where the hook cannot run."""

import sys
from importlib import import_module

OURS = {
    "check": "anomalib_mkd.check.command",
    "compare": "anomalib_mkd.compare.command",
    "deploy": "anomalib_mkd.deploy.__main__",
    "quickstart": "anomalib_mkd.quickstart.__main__",
}
"""Command to the module whose ``main`` runs it; all are light, so that their first line comes at once."""
HELP = f"Of anomalib_mkd: {', '.join(OURS)} (each has --help). The other commands are anomalib's:\n"


def main() -> None:
    """Run our command, or else anomalib's: ``python -m anomalib_mkd train --model Mkd``."""
    command, *arguments = sys.argv[1:] or [""]
    if command in OURS:
        sys.exit(import_module(OURS[command]).main(arguments))
    if command in {"-h", "--help"}:
        print(HELP, flush=True)  # noqa: T201
    from anomalib.cli.cli import main as anomalib  # noqa: PLC0415

    import anomalib_mkd.models  # noqa: F401, PLC0415  (registers)

    anomalib()


if __name__ == "__main__":
    main()
