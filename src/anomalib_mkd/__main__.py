# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Our commands ``check FOLDER`` and ``compare FOLDER``, and anomalib's where the start-up hook cannot run."""

import sys


def main() -> None:
    """Run our command, or else anomalib's: ``python -m anomalib_mkd train --model Mkd``."""
    if sys.argv[1:2] == ["check"]:
        from anomalib_mkd.check.command import main as check  # noqa: PLC0415  # light: its first line comes at once

        sys.exit(check(sys.argv[2:]))
    if sys.argv[1:2] == ["compare"]:
        from anomalib_mkd.compare.command import main as compare  # noqa: PLC0415  # light, too

        sys.exit(compare(sys.argv[2:]))
    from anomalib.cli.cli import main as anomalib  # noqa: PLC0415

    import anomalib_mkd.models  # noqa: F401, PLC0415  (registers)

    anomalib()


if __name__ == "__main__":
    main()
