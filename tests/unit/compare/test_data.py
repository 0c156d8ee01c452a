# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The datamodule of a configuration is opened, and its files are listed, wherever they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from anomalib_mkd.check.configuration import configuration
from anomalib_mkd.check.layout import find_layout
from anomalib_mkd.compare import data as module
from anomalib_mkd.compare.data import list_files, open_data, validates_on_test
from anomalib_mkd.compare.runs import DataError
from anomalib_mkd.data import Parts
from tests.category_folders import draw_category
from tests.depth_folders import draw_mvtec3d


def test_data_of_a_configuration(tmp_path: Path) -> None:
    parts = draw_category(tmp_path / "parts", train=10)
    file = tmp_path / "data.yaml"
    file.write_text(str(configuration(find_layout(parts))))
    data = open_data(file, batch_size=1)
    assert (data.train_batch_size, data.num_workers, len(data.train_data)) == (1, 0, 8)
    assert open_data(file).train_batch_size == 8


def test_several_categories_as_one(tmp_path: Path) -> None:
    for name in ("bottle", "screw"):
        draw_category(tmp_path / name, train=10)
    file = tmp_path / "data.yaml"
    arguments = {"root": str(tmp_path), "categories": ["bottle", "screw"], "train_batch_size": 4}
    content = {"data": {"class_path": "anomalib_mkd.data.MultiCategory", "init_args": arguments}}
    file.write_text(json.dumps(content))  # JSON is YAML, too
    data = open_data(file)
    assert (data.train_batch_size, len(data.train_data), len(data.test_data)) == (4, 16, 8)


@pytest.mark.parametrize(
    "content",
    [b"", b"data: [", b"data:\n  class_path: Nothing\n", b"model: 1\n", b"- 1", b"1", b"\xff\xfed\x00", b"\x00"],
)
def test_what_is_no_configuration(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"^Expected a configuration of a datamodule in '.*', got .+ Write one with: "):
        open_data(file)


def test_whatever_a_datamodule_raises_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def setup(*_: object) -> None:
        {}["label"]

    monkeypatch.setattr(Parts, "setup", setup)
    file = written(tmp_path / "data.yaml", "anomalib_mkd.data.Parts", root="parts")
    with pytest.raises(DataError, match=r"^Expected a configuration of a datamodule in '.*', got KeyError: 'label'\. "):
        open_data(file)


def written(file: Path, class_path: str, **arguments: Any) -> Path:
    file.write_text(json.dumps({"data": {"class_path": class_path, "init_args": arguments}}))
    return file


def test_files_behind_links_count(tmp_path: Path) -> None:
    parts = draw_category(tmp_path / "parts", train=10)
    (parts / "test" / "dent").rename(tmp_path / "day2")
    (parts / "test" / "dent").symlink_to(tmp_path / "day2")
    file = tmp_path / "data.yaml"
    file.write_text(str(configuration(find_layout(parts))))
    before = list_files(open_data(file))
    assert len(before) == 16  # two masks
    Image.new("RGB", (64, 64), "red").save(tmp_path / "day2" / "000.jpg")
    assert [old[0] for old, new in zip(before, list_files(open_data(file)), strict=True) if old != new] == [
        str(parts / "test" / "dent" / "000.jpg")
    ]


def test_files_below_a_default_root_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_category(tmp_path / "datasets" / "MVTecAD" / "bottle", train=10, suffix=".png")
    file = written(tmp_path / "data.yaml", "anomalib.data.MVTecAD", category="bottle")
    before = list_files(open_data(file))
    assert len(before) == 16
    Image.new("RGB", (64, 64), "red").save(tmp_path / "datasets/MVTecAD/bottle/test/good/000.png")
    assert list_files(open_data(file)) != before


def test_what_lies_beside_a_folder_with_depth_does_not_count(tmp_path: Path) -> None:
    home = draw_mvtec3d(tmp_path / "table_top")
    file = tmp_path / "data.yaml"
    file.write_text(str(configuration(find_layout(home))))
    before = list_files(open_data(file))
    for output in (tmp_path / "cmp", home / "compare_results"):
        output.mkdir()
        Image.new("RGB", (8, 8)).save(output / "noise.png")
    assert list_files(open_data(file)) == before
    assert {Path(path).parent.name for path, _, _ in before} == {"rgb", "xyz", "gt"}


def test_several_categories_and_made_up_defects(tmp_path: Path) -> None:
    for name in ("bottle", "screw"):
        draw_category(tmp_path / name, train=10)
    file = written(
        tmp_path / "data.yaml",
        "anomalib_mkd.data.MultiCategory",
        datamodule="Folder",
        root=str(tmp_path),
        categories=["bottle", "screw"],
        val_split_mode="synthetic",
        options={"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/dent"},
    )
    assert list_files(open_data(file)) == list_files(open_data(file))
    assert len(list_files(open_data(file))) == 28


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("modes", [("from_train", "from_dir"), ("from_test", "from_dir"), ("synthetic", "synthetic")])
def test_all_models_see_the_same_images(tmp_path: Path, modes: tuple[str, str], *, several: bool) -> None:
    """A split without a seed is made once, and alike in every process, whatever random numbers a model draws."""
    draw_category(tmp_path / "bottle", train=10, good=4)
    split = {"val_split_mode": modes[0], "test_split_mode": modes[1]}
    folders = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/dent"}
    if several:
        name, arguments = "anomalib_mkd.data.MultiCategory", {"datamodule": "Folder", "categories": ["bottle"]}
        arguments |= {"root": str(tmp_path), "options": folders}
    else:
        name, arguments = "anomalib.data.Folder", {"name": "b", "root": str(tmp_path / "bottle"), **folders}
    file = written(tmp_path / "data.yaml", name, **arguments, **split)

    def seen(drawn: int) -> list[tuple[bytes, ...]]:
        torch.rand(drawn)
        data = open_data(file, seed=7)
        torch.rand(drawn)
        data.setup("fit")
        subsets = (data.train_data, data.val_data, data.test_data)
        return [tuple(Path(path).read_bytes() for path in subset.samples.image_path) for subset in subsets]

    assert seen(1) == seen(2)


@pytest.mark.parametrize(
    ("mode", "shared"),
    [("same_as_test", True), ("from_test", False), ("from_train", False), ("synthetic", False), ("none", False)],
)
def test_whether_test_images_set_thresholds(mode: str, shared: bool, tmp_path: Path) -> None:
    for name in ("bottle", "screw"):
        draw_category(tmp_path / name, train=10)
    own = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/dent"}
    file = written(
        tmp_path / "one.yaml",
        "anomalib.data.Folder",
        name="b",
        root=str(tmp_path / "bottle"),
        val_split_mode=mode,
        **own,
    )
    assert validates_on_test(open_data(file)) is shared
    parts = [
        {"class_path": "anomalib_mkd.data.Parts", "init_args": {"root": str(tmp_path / "screw")}},
        {"class_path": "anomalib.data.Folder", "init_args": {**json.loads(file.read_text())["data"]["init_args"]}},
    ]
    file = written(tmp_path / "two.yaml", "anomalib_mkd.data.MultiCategory", datamodules=parts)
    assert validates_on_test(open_data(file)) is shared


def test_the_process_prints_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module.main(str(tmp_path / "gone.yaml"))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"].startswith("Expected a configuration of a ")
    parts = draw_category(tmp_path / "parts", train=10)
    file = tmp_path / "data.yaml"
    file.write_text(str(configuration(find_layout(parts))))
    module.main(str(file))
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["files"]) == 16
