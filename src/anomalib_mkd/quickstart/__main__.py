# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of the first run: ``python -m anomalib_mkd.quickstart``."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Literal

import jsonargparse
from jsonargparse.typing import NonNegativeInt, PositiveInt  # noqa: TC002  # jsonargparse resolves the signature

from anomalib_mkd.check.options import check_output
from anomalib_mkd.threads import sleep_if_busy

logger = logging.getLogger("anomalib_mkd.quickstart")

OURS = "anomalib_mkd.quickstart"  # loggers whose messages are shown
EXPECT = {"Mkd": "Mkd is here for reference: expect it to find fewer defects, and heat maps as coarse as blobs."}
"""What to expect of a model that is not one to start with."""
NEXT = """
Next, your own parts: make a folder with images of good parts in train/good, other good parts in test/good and defective
ones in test/<defect> (masks, if you have them, in ground_truth/<defect>), and run this again with --data FOLDER."""
NEXT_OWN = """
Next: look at the report, set the threshold (docs/how_to/thresholds.md), and run the OpenVINO model
(docs/how_to/deploy.md)."""


def quickstart(
    data: str = "washer",
    model: Literal["MixedDistillation", "Dcam", "Mkd"] = "MixedDistillation",
    weights: str = "auto",
    output: Path = Path("quickstart_results"),
    steps: PositiveInt | None = None,
    batch_size: PositiveInt = 8,
    seed: NonNegativeInt = 0,
) -> None:
    """Train a model, test it, draw heat maps, export to OpenVINO and compare the predictions.

    Each run makes a new folder; if one is interrupted, simply start again.

    Args:
        data: "metal", "washer" or "fabric", which are drawn, or a folder in MVTec AD's layout: train/good, test/good,
            test/<defect> and, if there are masks, ground_truth/<defect>.
        model: Model to train. Mkd is included for reference: expect fewer defects found and coarser heat maps.
        weights: Weights of the teacher: "imagenet" (downloaded once), "quickstart" (embedded in this package) or a file
            for the model's default teacher. "auto" takes ImageNet's if they are cached or, but for Mkd's,
            the hub answers within five seconds, else the embedded ones.
        output: Folder for results.
        steps: Training steps, rounded up to whole epochs. Default: 300; 500 with the embedded teacher, whose steps take
            a third of the time.
        batch_size: Images per training step.
        seed: Seed of the training.
    """
    logger.info("[1/5] Loading anomalib and the images.")
    sleep_if_busy()
    from anomalib_mkd.quickstart.run import open_data, run, teacher_of  # noqa: PLC0415  # slow; --help does without
    from anomalib_mkd.quickstart.weights import choose_weights  # noqa: PLC0415

    warnings.simplefilter("ignore")  # again: some libraries set their own filters
    try:
        check_output(output, Path(data) if Path(data).is_dir() else None)
        choice = choose_weights(weights, teacher_of(model))
        logger.info("      %s", choice.sentence)
        if model in EXPECT:
            logger.info("      %s", EXPECT[model])
        pictures = open_data(data, int(batch_size), int(seed))  # plain numbers: they are saved in the checkpoint
        result = run(pictures, model, choice, output, int(steps or choice.steps), int(seed))
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    logger.info("\n%s on %s:\n%s", model, data, result.summary)
    if result.advice:
        logger.info("\nNot ready to be used:\n%s", "\n".join(f"- {text}" for text in result.advice))
    else:
        logger.info("%s", NEXT_OWN if Path(data).is_dir() else NEXT)


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
