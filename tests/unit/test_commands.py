# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""All our commands start the same way."""

from __future__ import annotations

import sys

import pytest

from anomalib_mkd.__main__ import OURS, main


def test_the_help_of_all_names_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalib_mkd", "--help"])
    monkeypatch.setattr("anomalib.cli.cli.main", lambda: None)  # it would change the log of all later tests
    main()
    assert "check, compare, deploy, quickstart" in capsys.readouterr().out


@pytest.mark.parametrize("command", OURS)
def test_every_command_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalib_mkd", command, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert f"anomalib_mkd {command}" in capsys.readouterr().out.replace("anomalib_mkd.", "anomalib_mkd ")
