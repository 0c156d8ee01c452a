# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Errors of ours on anomalib's command line: one sentence instead of 170 lines of code with the sentence below them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

COMMAND = "anomalib"
VARIABLE = "ANOMALIB_MKD_TRACEBACK"
"""Variable of the environment that, if set, brings the code back."""


class Brief:
    """An ``excepthook`` that prints an error of ours as its sentence, and leaves any other to the hook before it.

    Args:
        before: That hook.
    """

    def __init__(self, before: Callable[[type[BaseException], BaseException, TracebackType | None], object]) -> None:
        self.before = before

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        """Print the error."""
        if sentence := _sentence(str(error), _raised_by(traceback)):
            print(f"{kind.__name__}: {sentence}\n({VARIABLE}=1 shows where.)", file=sys.stderr)  # noqa: T201
        else:
            self.before(kind, error, traceback)


def be_brief() -> None:
    """Print errors of ours briefly from now on, if this process is anomalib's command; no other program is touched."""
    if Path(sys.argv[0]).stem == COMMAND and not isinstance(sys.excepthook, Brief) and not os.environ.get(VARIABLE):
        sys.excepthook = Brief(sys.excepthook)


def _sentence(text: str, module: str) -> str:
    """Return our sentence in the text of an error that a module has raised; empty if there is none."""
    if module.startswith("jsonargparse."):  # it lists ours among the reasons why an argument fits no type
        reasons: list[str] = re.findall(r"^ *- (Expected .+, got .+)$", text, re.MULTILINE)
        return reasons[-1] if reasons else ""
    return text if module.startswith("anomalib_mkd.") and text.startswith("Expected ") else ""


def _raised_by(traceback: TracebackType | None) -> str:
    """Return the name of the module whose code raised an error."""
    name = ""
    while traceback is not None:
        name, traceback = traceback.tb_frame.f_globals.get("__name__", ""), traceback.tb_next
    return name
