# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of the first run: ``python -m anomalib_mkd.quickstart``."""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import jsonargparse
from jsonargparse.typing import NonNegativeInt, PositiveInt  # noqa: TC002  # jsonargparse resolves the signature

logger = logging.getLogger("anomalib_mkd.quickstart")

OURS = "anomalib_mkd.quickstart"  # loggers whose messages are shown
NEXT = """
Next, your own parts: make a folder with images of good parts in train/good, other good parts in test/good and defective
ones in test/<defect> (masks, if you have them, in ground_truth/<defect>), and run this again with --data FOLDER.
"""


def quickstart(
    data: str = "washer",
    model: Literal["MixedDistillation", "Dcam", "Mkd"] = "MixedDistillation",
    output: Path = Path("quickstart_results"),
    steps: PositiveInt = 300,
    batch_size: PositiveInt = 8,
    seed: NonNegativeInt = 0,
) -> None:
    """Train a model with the embedded teacher, test it, draw heat maps, export to OpenVINO and compare the predictions.

    Nothing is downloaded. Each run makes a new folder; if one is interrupted, simply start again.

    Args:
        data: "metal", "washer" or "fabric", which are drawn, or a folder in MVTec AD's layout: train/good, test/good,
            test/<defect> and, if there are masks, ground_truth/<defect>.
        model: Model to train. Mkd is included for reference: expect fewer defects found and coarser heat maps.
        output: Folder for results.
        steps: Training steps, rounded up to whole epochs.
        batch_size: Images per training step.
        seed: Seed of the training.
    """
    logger.info("[1/5] Loading anomalib and the images.")
    from anomalib_mkd.quickstart.run import open_data, run  # noqa: PLC0415  # slow, and --help does not need it

    warnings.simplefilter("ignore")  # again: some libraries set their own filters
    try:
        check_output(output)
        pictures = open_data(data, int(batch_size), int(seed))  # plain numbers: they are saved in the checkpoint
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    summary = run(pictures, model, output, int(steps), int(seed))
    logger.info("\n%s on %s:\n%s\n%s", model, data, summary, NEXT)


def check_output(output: Path) -> None:
    """Check that results can be written.

    Args:
        output: Folder for results; created if missing.

    Raises:
        OSError: If it is not writable.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        msg = f"Expected a writable folder as --output, got '{output}' ({error}). Choose another folder."
        raise type(error)(msg) from error


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: Arguments of the command line; the process's own if ``None``.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.name.startswith(OURS) or record.levelno >= logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    warnings.simplefilter("ignore")  # the libraries' warnings are for their callers
    jsonargparse.auto_cli(quickstart, as_positional=False, args=arguments, prog="anomalib_mkd.quickstart")


if __name__ == "__main__":
    main()
