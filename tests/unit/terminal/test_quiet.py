# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What is left out is what is listed, never an error, and a twin of a line only while the other one prints it."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import pytest
from anomalib.loggers import configure_logger
from lightning.fabric.utilities.warnings import PossibleUserWarning
from PIL import Image
from rich.logging import RichHandler

from anomalib_mkd import MixedDistillation
from anomalib_mkd.terminal import quiet as module
from anomalib_mkd.terminal.quiet import EXPORTERS, RANK_ZERO, quiet, quiet_exporters, say_once

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = {
    "anomalib.engine.engine": "Overriding num_sanity_val_steps from None with 0 for Dcam",
    "anomalib.metrics.threshold.f1_adaptive_threshold": "The validation set does not contain any anomalous images. As",
    RANK_ZERO[0]: (
        "The following callbacks returned in `LightningModule.configure_callbacks` will override existing callbacks "
        "passed to Trainer: Evaluator, RunProgress"
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_listed_record_is_dropped_but_not_as_an_error(name: str, caplog: pytest.LogCaptureFixture) -> None:
    quiet()
    logger = logging.getLogger(name)
    with caplog.at_level(logging.INFO, logger=name):
        logger.addHandler(caplog.handler)
        try:
            logger.warning(EXAMPLES[name])
            logger.info("Something else: %s", EXAMPLES[name])
            logger.error(EXAMPLES[name])
        finally:
            logger.removeHandler(caplog.handler)
    assert {(record.levelno, record.getMessage()[:14]) for record in caplog.records} == {
        (logging.INFO, "Something else"),
        (logging.ERROR, EXAMPLES[name][:14]),
    }


def test_replaced_callbacks_of_the_users_are_still_told(caplog: pytest.LogCaptureFixture) -> None:
    quiet()
    logger = logging.getLogger(RANK_ZERO[0])
    logger.addHandler(caplog.handler)
    try:
        logger.warning(EXAMPLES[RANK_ZERO[0]].replace(", RunProgress", ""))
    finally:
        logger.removeHandler(caplog.handler)
    assert "Evaluator" in caplog.text


def test_a_listed_warning_is_left_out_once_a_model_is_built() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MixedDistillation(weights="quickstart")
        warnings.warn("`max_epochs` was not set. Setting it to 1000 epochs. To", PossibleUserWarning, stacklevel=1)
        warnings.warn("Found 69 module(s) in eval mode at the start of training.", PossibleUserWarning, stacklevel=1)
        warnings.warn("The 'train_dataloader' does not have many workers", PossibleUserWarning, stacklevel=1)
        warnings.warn("Found 69 modules", PossibleUserWarning, stacklevel=1)
        warnings.warn("`max_epochs` was not set. Setting it to 1000 epochs.", UserWarning, stacklevel=1)
        warnings.warn("Image size (90 pixels) exceeds limit", Image.DecompressionBombWarning, stacklevel=1)
    assert [str(each.message)[:9] for each in caught] == ["Found 69 ", "`max_epoc"]


@pytest.fixture
def command_line() -> Iterator[list[logging.Handler]]:
    """Give the root logger the handlers of anomalib's command line, and take them away again."""
    root, lightning = logging.getLogger(), logging.getLogger("lightning.pytorch")
    before, theirs, level = list(root.handlers), list(lightning.handlers), root.level
    root.handlers = []
    configure_logger()
    yield root.handlers
    root.handlers, lightning.handlers = before, theirs
    root.setLevel(level)


@pytest.mark.parametrize("terminal", [True, False])
def test_one_of_two_equal_lines(
    terminal: bool, command_line: list[logging.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "get_console", lambda: type("Console", (), {"is_interactive": terminal}))
    say_once()
    say_once()
    record = logging.LogRecord("a", logging.ERROR, "", 1, "text", None, None)
    prints = {type(handler): bool(handler.filter(record)) for handler in command_line}
    assert (prints[logging.StreamHandler], prints[RichHandler]) == (not terminal, terminal)


def test_a_handler_of_the_users_is_not_touched(command_line: list[logging.Handler]) -> None:
    own = logging.StreamHandler()
    command_line.append(own)
    say_once()
    assert not own.filters
    command_line[:] = [own]
    say_once()
    assert not own.filters


def test_exporters_are_quiet_while_they_export() -> None:
    names = [logging.getLogger(name) for name in EXPORTERS]
    names[0].setLevel(logging.DEBUG)
    before = [logger.level for logger in names]
    try:
        with quiet_exporters():
            assert [logger.level for logger in names] == [logging.DEBUG, logging.WARNING, logging.WARNING]
        assert [logger.level for logger in names] == before
    finally:
        names[0].setLevel(logging.NOTSET)
