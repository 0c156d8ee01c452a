# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of the comparison: ``python -m anomalib_mkd compare FOLDER``."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_mkd.check.words import shown
from anomalib_mkd.terminal.output import print_any_name
from anomalib_mkd.threads import sleep_if_busy

if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTION = """\
Train, test, export and time several models on the same parts, and recommend one. Writes compare.html, compare.csv and
compare.md. If stopped, run the same command again: it resumes and keeps finished models."""
CODES = "Exit code: 0 a model finished, 1 none did or the disk is full, 2 wrong command or folder, 130 interrupted."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments; the process's own after ``compare`` if ``None``.

    Returns:
        The exit code.
    """
    given = sys.argv[2:] if arguments is None else arguments
    options = parser().parse_args(given)
    print_any_name()
    sys.stdout.write(f"Comparing models on {shown(options.folder or options.data or 'nothing')}\n")
    sys.stdout.flush()  # before slow imports
    sleep_if_busy()
    from anomalib_mkd.compare.session import compare  # noqa: PLC0415

    try:
        return compare(options, shlex.join(["python", "-m", "anomalib_mkd", "compare", *given]))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        text = str(error)
        if isinstance(error.filename, str) and not Path(error.filename).is_relative_to(options.output):
            sys.stderr.write(
                f"Expected to open '{shown(error.filename)}', got {error.strerror}. Check its name and rights.\n"
            )
            return 2
        if not text.startswith("Expected"):
            text = f"Expected to write into '{shown(options.output)}', got {error.strerror or error}. Free space there."
        sys.stderr.write(f"{text} Finished models are kept: run the same command to resume.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Finished models are kept: run the same command to resume.\n")
        return 130


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    made = argparse.ArgumentParser("python -m anomalib_mkd compare", description=DESCRIPTION, epilog=CODES)
    made.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="the folder of parts")
    made.add_argument(
        "--data", type=Path, metavar="FILE", help="instead of FOLDER: a configuration, as `check --write-config` writes"
    )
    made.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="MixedDistillation, 'MixedDistillation fast', 'MixedDistillation accurate', Dcam, Mkd, Mmrd, Patchcore, "
        "Padim, Stfpm, ReverseDistillation, EfficientAd; default: MixedDistillation (Mmrd with depth; plus fast with "
        "--prefer speed), Patchcore, Padim. Patchcore keeps 1 %% of its patches, and 10 %% in another row if time is "
        "left",
    )
    made.add_argument("--budget", default="30m", help="for all trainings, tests and exports together (default: 30m)")
    made.add_argument(
        "--prefer",
        choices=("accuracy", "verdicts", "speed", "size"),
        default="accuracy",
        help="what counts most; verdicts: bad parts caught less good ones called bad, at the delivered threshold "
        "(default: accuracy)",
    )
    made.add_argument("--output", type=Path, default=Path("compare_results"), help="folder for results")
    made.add_argument("--seed", type=int, default=0, help="seed of the trainings (default: 0)")
    made.add_argument(
        "--weights",
        default="auto",
        help="pretrained networks: auto, imagenet, quickstart (this package's models only) or a file for ResNet-18",
    )
    return made
