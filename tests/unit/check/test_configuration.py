# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The configuration of each layout is read by anomalib's parser, and yields the images that were recognised."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from anomalib.data import AnomalibDataModule, Folder
from jsonargparse import ArgumentParser

from anomalib_mkd.check import find_layout
from anomalib_mkd.check.configuration import configuration, require_new, write_configuration
from anomalib_mkd.data import DepthFolder, Parts, Recipe, make_dataset
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from pathlib import Path


def datamodule(root: Path, file: Path) -> Any:
    """What anomalib's command line makes of the configuration."""
    text = configuration(find_layout(root))
    assert text is not None
    write_configuration(text, file)
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    data = parser.instantiate_classes(parser.parse_args([f"--config={file}", "--data.num_workers=0"])).data
    data.setup()
    return data


def sizes(data: Any) -> tuple[int, int, int, int]:
    """Images to train and validate on, good and bad ones to test on."""
    labels = list(data.test_data.samples.label_index)
    return len(data.train_data), len(data.val_data), labels.count(0), labels.count(1)


def test_parts(tmp_path: Path) -> None:
    root = draw_category(tmp_path / "it's: #1", train=10)
    data = datamodule(root, tmp_path / "parts.yaml")
    assert type(data) is Parts
    assert (sizes(data), data.task) == ((8, 2, 2, 2), "segmentation")


def move(root: Path, *moves: tuple[str, str]) -> None:
    for source, target in moves:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / source, root / target)
    for name in ("train", "test", "ground_truth"):
        if (root / name).is_dir() and not any(path.is_file() for path in (root / name).rglob("*")):
            shutil.rmtree(root / name)


@pytest.mark.parametrize(
    ("moves", "expected", "task"),
    [
        ([("train/good", "ok"), ("test/good", "test/ok"), ("test/dent", "bad")], (8, 2, 2, 2), "segmentation"),
        ([("train/good", "good"), ("test/dent", "a"), ("test/good", "b")], (7, 1, 2, 4), "classification"),
        ([("train/good", "images"), ("test", "../x"), ("ground_truth", "../y")], (7, 1, 2, 0), "classification"),
    ],
)
def test_folders(tmp_path: Path, moves: list[tuple[str, str]], expected: tuple[int, int, int, int], task: str) -> None:
    root = draw_category(tmp_path / "parts", train=10, mask="{}.png")
    move(root, *moves)
    data = datamodule(root, tmp_path / "parts.yaml")
    assert type(data) is Folder
    assert (sizes(data), data.task) == (expected, task)


def test_images_alone(tmp_path: Path) -> None:
    draw_category(tmp_path / "x", train=10)
    data = datamodule(tmp_path / "x" / "train" / "good", tmp_path / "parts.yaml")
    assert sizes(data) == (7, 1, 2, 0)


def test_masks_that_folder_would_pair_wrongly(tmp_path: Path) -> None:
    """``a`` sorts before ``a_b``, but ``a_mask`` after ``a_b_mask``."""
    root = draw_category(tmp_path / "parts", train=10)
    for home, ending in (("test/dent", ".jpg"), ("ground_truth/dent", "_mask.png")):
        (root / home / f"000{ending}").rename(root / home / f"a{ending}")
        (root / home / f"001{ending}").rename(root / home / f"a_b{ending}")
    move(root, ("train/good", "good"), ("test/dent", "bad"), ("ground_truth/dent", "masks"))
    assert "mask_dir" not in str(configuration(find_layout(root)))


def test_depth(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, Recipe("metal", 0, 64, train_images=4, test_good=1, per_defect=1, layout="mvtec3d"))
    data = datamodule(root, tmp_path / "parts.yaml")
    assert type(data) is DepthFolder
    assert sizes(data) == (4, 1, 1, 3)


def test_no_configuration(tmp_path: Path) -> None:
    assert configuration(find_layout(tmp_path)) is None


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "parts.yaml"
    write_configuration("data: 1\n", file)
    with pytest.raises(FileExistsError, match=r"^Expected a new file for --write-config, got '.*parts.yaml'"):
        write_configuration("data: 2\n", file)
    assert file.read_text() == "data: 1\n"
    with pytest.raises(FileNotFoundError):
        write_configuration("data: 3\n", tmp_path / "gone" / "parts.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["parts.yaml"]
    require_new(tmp_path / "other.yaml")
