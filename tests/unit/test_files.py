# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomalib_mkd.files import whole

if TYPE_CHECKING:
    from pathlib import Path


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
