# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Start-up cost of the hook for a program that never imports anomalib: ``python -m benchmark.time_startup``.

Reads the installed hook's line of ``-X importtime``, best of many starts. A measurement, not a test: on a busy machine
even the best start may be slow. The tests assert instead that the hook loads no module but itself.
"""

import re
import subprocess
import sys

STARTS = 100
BUDGET_MS = 1.0


def startup_ms() -> float:
    """Return the milliseconds that one start of Python spends on the hook."""
    report = subprocess.run([sys.executable, "-X", "importtime", "-c", ""], capture_output=True, text=True, check=True)
    line = re.search(r"(\d+) \|\s+_anomalib_mkd_autoload$", report.stderr, flags=re.MULTILINE)
    if line is None:
        msg = "Expected the hook to run at start-up, got no sign of it. Install the package, without `-S`."
        raise RuntimeError(msg)
    return int(line[1]) / 1000


def main() -> None:
    """Print the best start, and fail if it is over the budget."""
    best = min(startup_ms() for _ in range(STARTS))
    print(f"{best:.2f} ms, best of {STARTS} starts; budget {BUDGET_MS} ms")
    sys.exit(best > BUDGET_MS)


if __name__ == "__main__":
    main()
