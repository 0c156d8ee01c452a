# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A user's folder is understood, or refused with what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from anomalib_mkd.data import Recipe, make_dataset
from anomalib_mkd.quickstart.own_data import check_layout


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe("metal", picture_size=64, train_images=5, test_good=1, per_defect=1)
    return make_dataset(tmp_path_factory.mktemp("own"), recipe)


@pytest.fixture
def own(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "own"))


def test_a_whole_folder_passes_with_masks_and_without(own: Path) -> None:
    check_layout(own)
    shutil.rmtree(own / "ground_truth")
    check_layout(own)


@pytest.mark.parametrize("part", ["train/good", "test/good", "test/dent"])
def test_an_empty_part_is_named(own: Path, part: str) -> None:
    shutil.rmtree(own / part)
    (own / part).mkdir()
    (own / part / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=rf"^Expected images of .* in '{own / part}', got none\. Put some"):
        check_layout(own)


def test_no_folder_of_bad_parts(own: Path) -> None:
    for defect in ("dent", "scratch", "stain"):
        shutil.rmtree(own / "test" / defect)
    with pytest.raises(FileNotFoundError, match=r"^Expected a folder per defect .*, got none\. Put"):
        check_layout(own)


def test_no_folder_at_all(own: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^Expected a folder, got '.*000.png', which is not one\. Set --data"):
        check_layout(own / "train" / "good" / "000.png")


def test_too_few_good_parts(own: Path) -> None:
    (own / "train" / "good" / "000.png").unlink()
    with pytest.raises(ValueError, match=r"^Expected 5 or more images in .*, got 4\. Add more there\.$"):
        check_layout(own)


def test_a_picture_that_is_none(own: Path) -> None:
    broken = own / "test" / "good" / "001.JPG"
    broken.touch()
    with pytest.raises(ValueError, match=rf"^Expected readable images, got '{broken}' .* Remove"):
        check_layout(own)
