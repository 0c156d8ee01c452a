# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The configuration of each layout is read by anomalib's parser, and yields the images that were recognised."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from anomalib.data import AnomalibDataModule, Folder
from jsonargparse import ArgumentParser

from anomalib_mkd.check import check_folder, find_layout
from anomalib_mkd.check.configuration import configuration, require_folder, write_configuration
from anomalib_mkd.data import DepthFolder, MultiCategory, Parts, Recipe, make_dataset
from tests.category_folders import draw_category
from tests.depth_folders import draw_mvtec3d


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
    assert data.seed is not None


def sorted_by_name(root: Path) -> Path:
    move(
        draw_category(root, train=10, mask="{}.png"),
        ("train/good", "good"),
        ("test/good", "test/ok"),
        ("test/dent", "bad"),
    )
    return root


@pytest.mark.parametrize("name", ["12E5", "1.5e3"])
def test_names_that_look_like_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    root = sorted_by_name(Path(name))
    (root / "bad").rename(root / name)
    data = datamodule(root, tmp_path / "parts.yaml")
    assert (sizes(data), data.name) == ((8, 2, 2, 2), name)
    draw_category(tmp_path / "parts" / name, train=10)
    monkeypatch.chdir(tmp_path / "parts")
    assert sizes(datamodule(Path(name), tmp_path / "relative.yaml")) == (8, 2, 2, 2)


def test_the_folder_above_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sorted_by_name(tmp_path / "parts") / "good")
    assert datamodule(Path(".."), tmp_path / "parts.yaml").name == "parts"
    root = make_dataset(tmp_path, Recipe("metal", 0, 64, train_images=4, test_good=1, per_defect=1, layout="mvtec3d"))
    monkeypatch.chdir(root / "test")
    assert datamodule(Path(".."), tmp_path / "depth.yaml").category == root.name


def test_what_folder_refuses_or_reads_in_part_is_a_problem(tmp_path: Path) -> None:
    def problems(root: Path) -> list[str]:
        return [str(each) for each in check_folder(root).of("problem")]

    root = sorted_by_name(tmp_path / "parts")
    assert problems(root) == []
    shutil.copytree(root, tmp_path / "Prüfteile")
    (refused,) = problems(tmp_path / "Prüfteile")
    assert refused.startswith(
        f"4 folders with other letters than those of ASCII, which anomalib's Folder refuses ({tmp_path}"
    )
    with pytest.raises(ValueError, match="non-printable"):
        datamodule(tmp_path / "Prüfteile", tmp_path / "0.yaml")
    (root / "bad").rename(tmp_path / "day 1")
    (root / "bad").symlink_to(tmp_path / "day 1")
    assert problems(root) == []
    assert sizes(datamodule(root, tmp_path / "1.yaml"))[3] == 2
    draw_category(tmp_path / "other", train=10)
    (root / "bad" / "day 2").symlink_to(tmp_path / "other/test/good")
    linked = [text for text in problems(root) if "anomalib's Folder" in text]
    assert linked == [
        "2 images in linked folders, into which anomalib's Folder does not look (bad/day 2/000.jpg, bad/day 2/001.jpg)"
    ]
    assert sizes(datamodule(root, tmp_path / "2.yaml"))[3] == 2
    (root / "bad" / "day 2").unlink()
    shutil.copytree(tmp_path / "other/test/good", root / "good/.thumbnails")
    (beyond,) = problems(root)
    assert beyond.startswith(
        "2 images in folders within those of parts, which anomalib's Folder would read, too (good/.thum"
    )
    assert sum(sizes(datamodule(root, tmp_path / "3.yaml"))[:2]) == 12


def test_a_name_that_a_configuration_cannot_hold_is_a_problem(tmp_path: Path) -> None:
    root = draw_category(tmp_path / "teil\udcff", train=20)
    (found,) = check_folder(root).of("problem")
    assert re.fullmatch(r"the name '.*teil\\udcff', which is not UTF-8", str(found))
    with pytest.raises(SystemExit):
        datamodule(root, tmp_path / "parts.yaml")


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


def test_categories(tmp_path: Path) -> None:
    for name in ("01", "1e5", "bolt"):
        draw_category(tmp_path / "parts" / name, train=10)
    data = datamodule(tmp_path / "parts", tmp_path / "parts.yaml")
    assert (type(data), data.categories) == (MultiCategory, ["01", "1e5", "bolt"])
    assert sizes(data) == (24, 6, 6, 6)


def test_categories_with_depth(tmp_path: Path) -> None:
    for name in ("metal", "alloy"):
        draw_mvtec3d(tmp_path / "parts" / name)
    data = datamodule(tmp_path / "parts", tmp_path / "parts.yaml")
    assert {type(each) for each in data.datamodules.values()} == {DepthFolder}


def test_no_configuration(tmp_path: Path) -> None:
    assert configuration(find_layout(tmp_path)) is None


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "parts.yaml"
    write_configuration("data: 1\n", file)
    with pytest.raises(FileExistsError, match=r"^Expected a new file for --write-config, got '.*parts.yaml'"):
        write_configuration("data: 2\n", file)
    assert file.read_text() == "data: 1\n"
    write_configuration("data: 1\n", file)  # a folder that is checked again
    with pytest.raises(FileNotFoundError):
        write_configuration("data: 3\n", tmp_path / "gone" / "parts.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["parts.yaml"]
    require_folder(tmp_path / "other.yaml")
