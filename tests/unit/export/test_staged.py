# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Exports: complete under their final name, or not there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomalib_mkd.export.staged import PREFIX, staged
from anomalib_mkd.files import new_folder


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_files_move_to_the_root_and_replace_older_ones(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there"
    for text in ("old", "new"):
        with staged(root) as folder:
            (folder / "weights").mkdir()
            (folder / "weights" / "model.bin").write_text(text)
    assert files(tmp_path) == {"not/there/weights/model.bin": "new"}
    assert not list(root.glob(".staged*"))


def half_an_export(root: Path) -> None:
    with staged(root) as folder:
        (folder / "model.bin").write_text("half")
        raise RuntimeError


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("old")
    with pytest.raises(RuntimeError):
        half_an_export(tmp_path)
    assert files(tmp_path) == {"model.bin": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_folders_place_is_refused_by_name(tmp_path: Path, below: str) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    root = taken / below
    with (
        pytest.raises(OSError, match=rf"Expected a writable folder.*'{root}'.*Choose another export_root"),
        staged(root),
    ):
        pass
    assert files(tmp_path) == {"taken": "a file"}


def test_what_a_killed_export_left_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        pass
    running = new_folder(tmp_path, PREFIX)
    with monkeypatch.context() as its:
        its.setattr(os, "getpid", lambda: ended.pid)
        killed = new_folder(tmp_path, PREFIX)
    for folder in (killed, running):
        (folder / "model.bin").write_text("half")
    with staged(tmp_path) as folder:
        (folder / "model.bin").write_text("whole")
    assert files(tmp_path) == {"model.bin": "whole", f"{running.name}/model.bin": "half"}


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=rf"Expected room for the export in '{tmp_path}', got a full disk .*Free space"),
        staged(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not files(tmp_path)


def test_a_folder_that_stays_neither_fails_an_export_nor_hides_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps a deleted file that is open as ``.nfs...``, and its folder with it."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(os, "rmdir", fail)
    with staged(tmp_path) as folder:
        (folder / "model.bin").write_text("whole")
    assert files(tmp_path) == {"model.bin": "whole"}
    with pytest.raises(RuntimeError):
        half_an_export(tmp_path)
