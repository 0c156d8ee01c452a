# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The link ``latest`` after failures, tests before any training, and two trainings at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anomalib.utils.path import create_versioned_dir

from anomalib_mkd.results.latest import forget_failed_run, number_run, remember_run

if TYPE_CHECKING:
    import pytest


def test_a_failed_training_gives_the_link_back(tmp_path: Path) -> None:
    first = create_versioned_dir(tmp_path)
    (first / "model.ckpt").touch()
    failed = create_versioned_dir(tmp_path)
    forget_failed_run(failed)
    assert (tmp_path / "latest").resolve() == first


def test_a_training_that_outlives_a_failed_one_is_the_latest(tmp_path: Path) -> None:
    first, failed = create_versioned_dir(tmp_path), create_versioned_dir(tmp_path)
    forget_failed_run(failed)  # while the first has no checkpoint yet
    assert not (tmp_path / "latest").is_symlink()
    remember_run(first)
    assert (tmp_path / "latest").resolve() == first
    remember_run(failed)
    assert (tmp_path / "latest").resolve() == first


def test_a_test_before_any_training_does_not_stop_the_next(tmp_path: Path) -> None:
    """anomalib's tests write into the folder that ``latest`` means, and its trainings replace the link."""
    folder = tmp_path / "latest"
    folder.mkdir()
    (folder / "report.html").touch()
    number_run(folder)
    assert folder.resolve() == tmp_path / "v0"
    assert (folder / "report.html").is_file()
    number_run(folder)  # a link already
    assert create_versioned_dir(tmp_path) == tmp_path / "v1"
    assert (tmp_path / "v0" / "report.html").is_file()


def test_a_folder_behind_a_link_is_numbered_too(tmp_path: Path) -> None:
    (tmp_path / "disk" / "latest").mkdir(parents=True)
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    number_run(tmp_path / "results" / "latest")
    assert (tmp_path / "disk" / "latest").resolve() == tmp_path / "disk" / "v0"


def refuse(*_: object, **__: object) -> None:
    msg = "A required privilege is not held by the client"
    raise OSError(msg)


def test_a_run_ends_well_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "latest"
    monkeypatch.setattr(Path, "symlink_to", refuse)
    for name in ("v0", "v1"):  # a second test finds no link either
        folder.mkdir()
        (folder / "report.html").write_text(name)
        number_run(folder)
    assert [(tmp_path / name / "report.html").read_text() for name in ("v0", "v1")] == ["v0", "v1"]
    assert [record.getMessage() for record in caplog.records] == [
        f"There is no link {folder} (A required privilege is not held by the client). The run is in {tmp_path / name}."
        for name in ("v0", "v1")
    ]
    remember_run(tmp_path / "v0")


def test_the_error_of_a_failed_training_is_not_hidden_by_that_of_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (create_versioned_dir(tmp_path) / "model.ckpt").touch()
    failed = create_versioned_dir(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    forget_failed_run(failed)
    assert {path.name for path in tmp_path.iterdir()} == {"v0", "v1"}
