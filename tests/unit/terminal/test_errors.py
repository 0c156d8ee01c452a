# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One sentence on anomalib's command line, and everything elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentParser

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Parts
from anomalib_mkd.terminal.errors import VARIABLE, Brief, be_brief

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def printed(run: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[str, list[Any]]:
    """What the hook prints of an error, and the errors that it leaves to the one before it."""
    left: list[Any] = []
    try:
        run()
    except Exception as error:  # noqa: BLE001
        Brief(lambda *given: left.append(given))(type(error), error, error.__traceback__)
    return capsys.readouterr().err, left


def test_an_error_of_ours_is_its_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, left = printed(Parts(tmp_path / "nowhere").setup, capsys)
    first, second = text.splitlines()
    assert first.startswith("FileNotFoundError: Expected a folder of parts, got root='")
    assert first.endswith("nowhere', which is not there. Check its path.")
    assert VARIABLE in second
    assert not left


def test_an_option_out_of_range_is_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Jsonargparse puts it into a text of its own."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=AnomalibModule | None)
    given = {"class_path": "anomalib_mkd.MixedDistillation", "init_args": {"pre_trained": False, "sigma": -1}}

    def build() -> None:
        parser.instantiate_classes(parser.parse_object({"model": given}))

    text, left = printed(build, capsys)
    assert text.startswith("ValueError: Expected sigma >= 0 and <= 256, got -1.0. Set sigma within that range.\n(")
    assert not left


def test_another_error_keeps_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Even one that begins as ours do."""

    def wrong_types() -> None:
        msg = "Expected all tensors to be on one device"
        raise RuntimeError(msg)

    for run in (wrong_types, lambda: torch.zeros(2) @ torch.zeros(3)):
        text, left = printed(run, capsys)
        assert not text
        assert len(left) == 1


def test_only_anomalibs_command_is_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", before := sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    be_brief()
    assert sys.excepthook is before
    monkeypatch.setattr(sys, "argv", ["/usr/bin/anomalib", "train"])
    monkeypatch.setenv(VARIABLE, "1")
    be_brief()
    assert sys.excepthook is before
    monkeypatch.delenv(VARIABLE)
    for _ in range(2):
        MixedDistillation(weights="quickstart")
    hook: Any = sys.excepthook
    assert isinstance(hook, Brief)
    assert hook.before is before
