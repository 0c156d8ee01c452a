# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Messages of other packages that mislead when one of our models runs, and why each is left out.

Nothing here hides an error, and a program that builds none of our models is not touched.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from lightning.fabric.utilities.warnings import PossibleUserWarning
from rich import get_console
from rich.logging import RichHandler

from anomalib_mkd.pictures import allow_large

if TYPE_CHECKING:
    from collections.abc import Iterator

RANK_ZERO = tuple(
    f"{name}.utilities.rank_zero" for name in ("lightning.pytorch", "lightning.fabric", "lightning_fabric")
)
"""Loggers of Lightning's messages: the one that was imported last gets them."""


class Record(NamedTuple):
    """A message in a log.

    Attributes:
        loggers: Names of the loggers that may write it.
        pattern: Start of its text.
        reason: Why it is left out.
    """

    loggers: tuple[str, ...]
    pattern: str
    reason: str


class Warned(NamedTuple):
    """A warning.

    Attributes:
        category: Its class.
        pattern: Start of its text.
        reason: Why it is left out.
    """

    category: type[Warning]
    pattern: str
    reason: str


RECORDS = (
    Record(
        ("anomalib.engine.engine",),
        r"Overriding num_sanity_val_steps from None with 0 for ",
        "The user set nothing: a default is replaced by the only one that works.",
    ),
    Record(
        ("anomalib.metrics.threshold.f1_adaptive_threshold",),
        r"The validation set does not contain any anomalous images\.",
        "It advises to add defects; a threshold from good parts is what docs/how_to/thresholds.md recommends.",
    ),
    Record(
        RANK_ZERO,
        r"The following callbacks returned in `LightningModule\.configure_callbacks` will override .*\bRunProgress\b",
        "A test that follows a training replaces the model's callbacks by the same ones; the user's are kept.",
    ),
    Record(
        ("timm.models._builder",),
        r"(Missing|Unexpected) keys \(",
        "Layers behind the teacher's last one may be missing or left over; networks/pretrained.py refuses others.",
    ),
    Record(
        ("timm.models._helpers",),
        r"Loaded  from checkpoint ",
        "It comes twice and names no part; networks/pretrained.py says which teacher was loaded.",
    ),
    Record(
        ("anomalib.callbacks.timer",),
        r"Testing took ",
        "The images a second below it count reading, metrics and pages, and look like the speed of the model.",
    ),
    Record(RANK_ZERO, r"\S+ Tip: For seamless cloud ", "An advertisement."),
)

WARNED = (
    Warned(
        PossibleUserWarning,
        r"`max_epochs` was not set\. Setting it to 1000 epochs\.",
        "Training ends after training_steps, as the next line of the log says.",
    ),
    Warned(
        PossibleUserWarning,
        r"Found \d+ module\(s\) in eval mode at the start of training\.",
        "They are the frozen teacher's, which must not train.",
    ),
    Warned(
        PossibleUserWarning,
        r"The '\w+' does not have many workers",
        "Workers would each read all images anew: the training's cache needs there to be none.",
    ),
    Warned(
        PossibleUserWarning,
        r"You're resuming from a checkpoint that ended before the epoch ended and your dataloader is not resumable\.",
        "The rest of the epoch is read in its own order: training/resume.py.",
    ),
    Warned(
        UserWarning,
        r"The dirpath has changed from ",
        "A test or a prediction writes elsewhere than its checkpoint's training did, and needs no list of checkpoints.",
    ),
    Warned(
        FutureWarning,
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        "Lightning's use of torch, which no user can change.",
    ),
    Warned(
        UserWarning,
        r"'pin_memory' argument is set as true but no accelerator is found",
        "A default of anomalib's, without effect on a computer without a GPU.",
    ),
)

EXPORTERS = ("onnx_ir", "onnxscript", "nncf")
"""Loggers that report each step of a conversion at level INFO: hundreds of lines. Warnings stay."""

HOST_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
"""Format of the plain handler that anomalib's command line installs beside rich's, so that all lines come twice."""


class _Drop(logging.Filter):
    """Drop one kind of record, unless it is an error."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self.pattern = re.compile(pattern)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not self.pattern.match(record.getMessage())


class _Other(logging.Filter):
    """Drop all records of a handler whose twin prints them."""

    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return False


_DROPS = tuple((loggers, _Drop(pattern)) for loggers, pattern, _ in RECORDS)
_OTHER = _Other()


def quiet() -> None:
    """Leave out :data:`RECORDS` and :data:`WARNED` from now on, and one of two equal log lines."""
    for loggers, drop in _DROPS:
        for name in loggers:
            logging.getLogger(name).addFilter(drop)
    for category, pattern, _ in WARNED:
        warnings.filterwarnings("ignore", pattern, category)
    allow_large()
    say_once()


def say_once() -> None:
    """Silence one of the two handlers that anomalib's command line installs on the root logger.

    A terminal keeps rich's lines, which a bar does not tear; a file keeps the plain ones, one for each message.
    """
    handlers = logging.getLogger().handlers
    rich = [handler for handler in handlers if type(handler) is RichHandler]
    plain = [
        handler
        for handler in handlers
        if type(handler) is logging.StreamHandler and getattr(handler.formatter, "_fmt", None) == HOST_FORMAT
    ]
    if rich and plain:
        for handler in plain if get_console().is_interactive else rich:
            handler.addFilter(_OTHER)


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Leave out what :data:`EXPORTERS` report below a warning, unless the user asked for details (``DEBUG``)."""
    loggers = [logging.getLogger(name) for name in EXPORTERS]
    before = [(logger, logger.level) for logger in loggers if logger.level in {logging.NOTSET, logging.INFO}]
    for logger, _ in before:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
