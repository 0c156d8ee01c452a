# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Folders are recognised by their names, whatever these are."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS

from anomalib_mkd.check import find_layout
from anomalib_mkd.check.layout import FOREIGN
from anomalib_mkd.pictures import EXTENSIONS


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def roles(root: Path) -> dict[str, str]:
    return {group.name: group.role for group in find_layout(root).groups}


def test_images_are_what_anomalib_reads() -> None:
    assert EXTENSIONS == IMG_EXTENSIONS
    assert not set(EXTENSIONS) & set(FOREIGN)


def test_mvtec_layout(tmp_path: Path) -> None:
    files = ("train/good/0.png", "test/good/0.png", "test/a/cam 1/0.png", "ground_truth/a/cam 1/0_mask.png")
    make(tmp_path, *files, "validation/good/0.png", "test/lost.png", "readme.txt")
    assert find_layout(tmp_path).kind == "parts"
    assert roles(tmp_path) == {
        "train/good": "train",
        "test/good": "test",
        "test/a": "bad",
        "ground_truth/a": "mask",
        "test": "left out",
        "validation/good": "left out",
    }
    pairs = find_layout(tmp_path).mask_of
    assert pairs == {tmp_path / "test/a/cam 1/0.png": [tmp_path / "ground_truth/a/cam 1/0_mask.png"]}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["good/0.png", "bad/0.png"], {"good": "train", "bad": "bad"}),
        (["OK/0.png", "NG/a/0.png", "masks/0.png"], {"OK": "train", "NG/a": "bad", "masks": "mask"}),
        (["0.png", "1.png"], {".": "train"}),
        (["my images/0.png"], {"my images": "train"}),
        (
            ["train/0.png", "test/ok/0.png", "test/dent/0.png"],
            {"train": "train", "test/ok": "test", "test/dent": "bad"},
        ),
        (["train/ok/0.png", "test/0.png"], {"train/ok": "train", "test": "left out"}),
        (["good/old/0.png", "good/1.png", "dent/0.png"], {"good": "train", "dent": "bad"}),
        (["0.png", "good/0.png"], {".": "left out", "good": "train"}),
        (
            ["good/0.png", "bad/results/0.png", "results/Mkd/0.png", "compare_results/models/0.png"],
            {"good": "train", "bad/results": "bad"},
        ),
    ],
)
def test_other_layouts(tmp_path: Path, files: list[str], expected: dict[str, str]) -> None:
    make(tmp_path, *files)
    assert find_layout(tmp_path).kind == "folders"
    assert roles(tmp_path) == expected
    assert {path.name for path in find_layout(tmp_path).images("train")} == {
        Path(file).name for file in files if expected.get(str(Path(file).parent), "train") == "train"
    }


def test_depth_layout(tmp_path: Path) -> None:
    inner = ("train/good/rgb/0.png", "train/good/xyz/0.tiff", "validation/good/rgb/0.png", "test/good/gt/0.png")
    make(tmp_path, *inner, "test/a/rgb/0.png", "test/a/gt/0.png", "test/b/rgb/0.png", "test/b/gt/0.png")
    layout = find_layout(tmp_path)
    assert layout.kind == "depth"
    assert [path.parent for path in layout.images("validation")] == [tmp_path / "validation/good/rgb"]
    assert layout.mask_of == {
        tmp_path / f"test/{kind}/rgb/0.png": [tmp_path / f"test/{kind}/gt/0.png"] for kind in "ab"
    }


def test_categories(tmp_path: Path) -> None:
    make(tmp_path, "bolt/train/good/0.png", "nut/train/good/0.png", "notes/0.txt")
    layout = find_layout(tmp_path)
    assert (layout.kind, layout.categories) == ("categories", ("bolt", "nut"))


@pytest.mark.parametrize("files", [[], ["bad/0.png", "worse/0.png"], ["0.txt"], ["good/0.heic"], ["test/0.png"]])
def test_nothing_to_train_on(tmp_path: Path, files: list[str]) -> None:
    assert find_layout(make(tmp_path, *files)).kind == "nothing"


def test_files_that_are_no_images(tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.PNG", "train/good/._0.png", "train/good/0.heic", "train/good/x.db", ".hidden/0.png")
    (group,) = find_layout(tmp_path).groups
    found = [[path.name for path in kind] for kind in (group.images, group.hidden, group.foreign, group.others)]
    assert found == [["0.PNG"], ["._0.png"], ["0.heic"], ["x.db"]]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^Expected a folder, got '.*gone', which is not there\. Name"):
        find_layout(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"which is a file\."):
        find_layout(make(tmp_path, "0.png") / "0.png")


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = make(tmp_path / "parts", "train/good/0.png", "test/good/0.png", "test/dent/0.png")
    make(tmp_path / "elsewhere", "1.png", "deep/2.png", ".hidden/3.png")
    (root / "train/good/lot7").symlink_to(tmp_path / "elsewhere")
    (root / "train/good/round").symlink_to(root / "train")
    images = find_layout(root).images("train")
    assert [path.relative_to(root / "train/good").as_posix() for path in images] == [
        "0.png",
        "lot7/1.png",
        "lot7/deep/2.png",
    ]
