# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomalib_mkd import files
from anomalib_mkd.files import new_folder, whole, whole_folder


def test_file_is_replaced_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with whole(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.suffix == path.suffix, "libraries choose a format by it"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_half_way_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail(unfinished: Path) -> None:
        unfinished.write_text("half")
        raise error

    with pytest.raises(error), whole(path) as unfinished:
        fail(unfinished)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_error_says_what_went_wrong_first(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    with pytest.raises(NotADirectoryError, match=r"part\.table\.csv"), whole(folder / "table.csv") as unfinished:
        unfinished.write_text("new")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_nothing_is_left_of_a_folder_that_fails(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(unfinished: Path) -> None:
        (unfinished / "half.csv").write_text("half")
        raise error

    with pytest.raises(error), whole_folder(tmp_path / "version") as unfinished:
        fail(unfinished)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_process_stays(tmp_path: Path) -> None:
    path = tmp_path / "version"

    def be_late(unfinished: Path) -> None:
        (unfinished / "table.csv").write_text("late")
        path.mkdir()
        (path / "table.csv").write_text("faster")

    with pytest.raises(OSError, match="version"), whole_folder(path) as unfinished:
        be_late(unfinished)
    assert (path / "table.csv").read_text() == "faster"
    assert list(tmp_path.iterdir()) == [path]


def ended() -> int:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        pass
    return process.pid


def test_what_killed_processes_left_of_a_folder_is_deleted(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "[1]") as unfinished:
        name, here = unfinished.name, files._here()
    assert re.fullmatch(rf"\.{os.getpid()}@{here}-[0-9a-f]{{8}}\.part\.\[1\]", name)
    (tmp_path / "[1]").rmdir()
    killed = name.replace(str(os.getpid()), str(ended()))
    stay = {name, name.replace(str(os.getpid()), str(os.getppid()))}
    stay |= {killed.replace(here, "01234567"), killed.replace("[1]", "1")}
    for each in (*stay, killed):
        (tmp_path / each).mkdir()
        (tmp_path / each / "half.csv").write_text("half")
    with whole_folder(tmp_path / "[1]") as unfinished:
        assert list(unfinished.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"[1]", *stay}


@pytest.mark.parametrize(("node", "link"), [("other", None), (None, "pid:[1]")])
def test_the_folder_of_another_container_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str | None, link: str | None
) -> None:
    """Each numbers its processes on its own, and may have the name of its computer."""
    with monkeypatch.context() as there:
        there.setattr(os, "getpid", ended)
        if node:
            there.setattr(platform, "node", lambda: node)
        if link:
            there.setattr(Path, "readlink", lambda _: Path(link))
        folder = new_folder(tmp_path, ".staged-")
    new_folder(tmp_path, ".staged-")
    assert folder.is_dir()


def test_two_containers_of_one_name_write_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with whole(tmp_path / "table.csv") as one, whole(tmp_path / "table.csv") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "table.csv").read_text() == "one"


def test_windows_is_not_asked_by_a_signal_that_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "getpid", ended)
    monkeypatch.setattr(os, "kill", lambda process, _: asked.append(process))
    monkeypatch.setattr(sys, "platform", "win32")
    left, _ = new_folder(tmp_path, "."), new_folder(tmp_path, ".")
    monkeypatch.undo()
    assert (asked, left.is_dir()) == ([], True)


@pytest.mark.parametrize("error", [PermissionError(), OSError("anything")])
def test_a_process_that_cannot_be_asked_counts_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "kill", fail)
    left, _ = new_folder(tmp_path, "."), new_folder(tmp_path, ".")
    assert left.is_dir()
