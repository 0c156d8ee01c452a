# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""``python -m anomalib_mkd check`` says what is there, and its exit code says whether that can be trained on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from anomalib_mkd.check.command import main
from anomalib_mkd.data import Recipe, make_dataset
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    return draw_category(tmp_path / "parts", train=20)


def test_what_is_printed(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(parts)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [f"Checking {parts}", "Recognised: MVTec AD's layout, for the datamodule Parts."]
    assert lines[3:7] == [
        "folder images used as format size channels masks",
        "train/good 20 good, training JPEG 64 x 64 colour, 8 bits",
        "test/good 2 good, test JPEG 64 x 64 colour, 8 bits",
        "test/dent 2 bad, test JPEG 64 x 64 colour, 8 bits 2",
    ]
    assert f"root: {parts}" in lines
    assert lines[-3:] == ["anomalib train --model MixedDistillation --config FILE", "", "Ready to train."]


def test_only_photos_are_called_ready_where_depth_is_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe("metal", image_size=64, train_images=20, test_good=2, per_defect=1, layout="mvtec3d")
    assert main([str(make_dataset(tmp_path, recipe))]) == 0
    assert "\nThe photos are ready to train" in capsys.readouterr().out


def test_exit_codes(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (parts / "train" / "good" / "x.jpg").touch()
    assert main([str(parts)]) == 1
    out = capsys.readouterr().out
    assert (
        "\nproblem: 1 file that cannot be read. Replace or remove what is damaged.\n    train/good/x.jpg: empty\n"
        in out
    )
    assert out.endswith("Not ready to train: 1 problem.\n")
    assert main([str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.startswith("Expected a folder, got ")
    for words in ([], [str(parts), "--unknown"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2


def test_a_configuration_is_written_once(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my parts.yaml"
    assert main([str(parts), "--write-config", str(file)]) == 0
    assert f"--config '{file}'" in capsys.readouterr().out
    before = file.read_text()
    assert "anomalib_mkd.data.Parts" in before
    assert main([str(parts), "--write-config", str(file)]) == 0  # after a repair, say
    file.write_text(f"{before}# mine\n")
    capsys.readouterr()
    assert main([str(parts), "--write-config", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("Expected a new file for --write-config, got ")
    assert "Ready to train." in printed.out
    assert file.read_text() == f"{before}# mine\n"
    assert main([str(parts), "--write-config", str(tmp_path / "gone" / "x.yaml")]) == 2
    assert capsys.readouterr().err.startswith(f"Expected a folder for --write-config, got '{tmp_path / 'gone'}'")


def test_a_folder_of_folders_of_parts_has_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bolt", "nut"):
        draw_category(tmp_path / "all" / name)
    assert main([str(tmp_path / "all"), "--write-config", str(tmp_path / "all.yaml")]) == 1
    assert "compare takes it as --data FILE" in capsys.readouterr().out
    assert "anomalib_mkd.data.MultiCategory" in (tmp_path / "all.yaml").read_text()


def test_no_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--write-config", str(tmp_path / "x.yaml")]) == 1
    assert f"Not written, as there are no good parts: {tmp_path / 'x.yaml'}" in capsys.readouterr().out


@pytest.mark.parametrize("rename", [True, False])
def test_json(parts: Path, rename: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if rename:
        shutil.rmtree(parts / "train")
    assert main([str(parts), "--json"]) == rename
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"folder", "layout", "folders", "findings", "configuration"}
    assert found["layout"] == ("nothing" if rename else "parts")
    assert [each["level"] for each in found["findings"]] == (["problem"] if rename else [])


def test_large_images_are_no_attack(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(next(parts.rglob("*.png"))) as image:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", image.width * image.height - 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main([str(parts)]) == 0
    assert not caught


def test_names_are_printed_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a [red]'b' <script>\x1b[31m"
    folder = draw_category(tmp_path / name, train=20, defects={"[bold]x": 1})
    (folder / "train" / "good" / f"{name}.jpg").touch()
    assert main([str(folder)]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "test/[bold]x" in out
    assert out.count("a [red]'b' <script>\\x1b[31m") >= 2


def test_many_files_are_counted(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(9):
        (parts / "train" / "good" / f"x{index}.jpg").touch()
    main([str(parts)])
    assert "x4.jpg: empty\n    and 4 more\n" in capsys.readouterr().out


def test_it_loads_nothing_heavy(parts: Path) -> None:
    """In a process of its own, as a user starts it; the first line comes before anything is read."""
    code = (
        "import runpy, sys; sys.argv[0] = 'anomalib_mkd'\ntry: runpy.run_module('anomalib_mkd', run_name='__main__')\n"
    )
    code += "finally: print(*sorted({'torch', 'anomalib', 'lightning', 'pandas', 'cv2'} & set(sys.modules)), 'loaded')"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, "check", str(parts)], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert lines[0] == f"Checking {parts}"
    assert lines[-1].strip() == "loaded"


def test_help_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: python -m anomalib_mkd check")
    for words in ("FOLDER", "--write-config FILE", "--json", "Exit code: 0"):
        assert words in out
