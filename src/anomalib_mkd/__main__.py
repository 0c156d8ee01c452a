# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's command line where the start-up hook cannot run: ``python -m anomalib_mkd train --model Mkd``."""

from anomalib.cli.cli import main

import anomalib_mkd.models  # noqa: F401  (registers)

if __name__ == "__main__":
    main()
