# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The commands on exported models."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from anomalib_mkd.deploy import Inferencer, serving
from anomalib_mkd.deploy import __main__ as deploy_main
from anomalib_mkd.deploy.__main__ import main
from anomalib_mkd.deploy.metadata import read
from anomalib_mkd.thresholds import Fitted, Scale, threshold_from_good
from tests.exports import METADATA, picture, write_export

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = [60, 70, 80, 90, 100, 110]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Uniform images, whose right half is darker."""
    (tmp_path / "good" / "deep").mkdir(parents=True)
    for level in LEVELS:
        array = np.full((20, 30, 3), level, np.uint8)
        array[:, 15:] = level // 2
        Image.fromarray(array).save(tmp_path / "good" / "deep" / f"{level}.png")
    (tmp_path / "good" / "notes.txt").write_text("not an image")
    (tmp_path / "good" / "._60.png").write_bytes(b"of macOS")
    (tmp_path / "good" / ".Trash").mkdir()
    Image.new("RGB", (30, 20), "white").save(tmp_path / "good" / ".Trash" / "0.png")
    return tmp_path / "good"


def run(*arguments: Any, code: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == code


def test_the_threshold_is_shown(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = export.with_suffix(".json").read_bytes()
    run("threshold", export)
    assert capsys.readouterr().out == "now: threshold 0.5, for 1 % false alarms; 0 of 20 good images lie above\n"
    assert export.with_suffix(".json").read_bytes() == before


def test_the_threshold_moves_and_both_inferencers_follow(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from anomalib.deploy import OpenVINOInferencer  # seconds

    run("threshold", export, "--false-alarms", 0.2)
    before, after = capsys.readouterr().out.splitlines()
    expected = threshold_from_good(METADATA.good_scores, 0.2)
    assert before.startswith("before: threshold 0.5, for 1 % false alarms")
    assert after.startswith(f"after: threshold {expected:.6g}, for 20 % false alarms; ")
    assert read(export).image.threshold == expected
    part = picture()
    score = Inferencer(export).predict(part).score
    assert score == pytest.approx(read(export).image.scaled(0.2))
    assert OpenVINOInferencer(export, "CPU").predict(part).pred_score.item() == pytest.approx(score)


def test_a_threshold_is_a_score_of_the_model(export: Path) -> None:
    array = np.full((4, 4, 3), 0.55)
    score = Inferencer(export).predict(array).score
    run("threshold", export, "--threshold", score)
    assert Inferencer(export).predict(array).score == pytest.approx(0.5)
    assert read(export).false_alarms is None


def test_good_pictures_set_the_thresholds(export: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("threshold", export, "--good", good, "--false-alarms", 0.05)
    found = read(export)
    np.testing.assert_allclose(found.good_scores, np.array(LEVELS) / 255, rtol=1e-5)
    assert found.image.threshold == pytest.approx(threshold_from_good(found.good_scores, 0.05))
    assert found.pixel.threshold == pytest.approx(found.image.threshold, rel=1e-4)  # maps are of one level
    assert "0 of 6 good images lie above" in capsys.readouterr().out.splitlines()[1]


def test_every_kind_of_file_that_trains_sets_thresholds(export: Path, good: Path) -> None:
    for file in sorted(good.glob("deep/*.png")):
        Image.open(file).save(file.with_suffix(".ppm"))
        file.unlink()
    run("threshold", export, "--good", good)
    np.testing.assert_allclose(read(export).good_scores, np.array(LEVELS) / 255, rtol=1e-5)


def test_good_pictures_are_measured_in_the_new_region(
    export: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 15:] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for _ in range(2):  # also in place of another region
        run("threshold", export, "--good", good, "--region", tmp_path / "mask.png", "--smallest-area", 4)
        found = read(export)
        np.testing.assert_allclose(found.good_scores, np.array([level // 2 for level in LEVELS]) / 255, rtol=1e-4)
        assert found.pixel.threshold == pytest.approx(found.image.raw(0.5), rel=0.5)
        np.testing.assert_array_equal(found.region.mask, mask)
        assert found.smallest_area == 4
        assert capsys.readouterr().out.splitlines()[-1] == "region: 50 % of the image"
    run("threshold", export, "--region", tmp_path / "mask.png", code=1)  # the threshold is that of the old region


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *((["--false-alarms", share], "Expected false_alarms >= 1e-9 and < 0.5") for share in ("0", "1", "2", "nan")),
        (["--threshold", "1"], "Expected threshold > 0 and < 1"),
        (["--threshold", "0.5", "--false-alarms", "0.1"], "Expected one rule"),
        (["--smallest-area", "-1"], "Expected smallest_area >= 0"),
        (["--region", "missing.png"], "missing.png"),
        (["--good", "missing"], "Expected folders that can be listed, got [Errno 2]"),
    ],
)
def test_senseless_wishes_are_one_sentence(
    export: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = {file.name: file.read_bytes() for file in export.parent.iterdir()}
    run("threshold", export, *words, code=1)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {file.name: file.read_bytes() for file in export.parent.iterdir()} == before


def test_one_good_picture_is_too_few(export: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level in LEVELS[1:]:
        (good / "deep" / f"{level}.png").unlink()
    run("threshold", export, "--good", good, code=1)
    assert "Expected the scores of at least 5 good parts, got 1" in capsys.readouterr().err
    shutil.rmtree(good)
    good.mkdir()
    run("threshold", export, "--good", good, code=1)
    assert "got none. Name a folder of good ones" in capsys.readouterr().err


def test_pictures_are_predicted(export: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(picture(spot=(slice(5, 10), slice(10, 30)))).save(good / "bad.png")
    run("predict", export, good / "bad.png", good / "deep" / "60.png", good / "notes.txt", code=1)
    found = capsys.readouterr()
    rows = [line.split(",") for line in found.out.splitlines()[1:]]
    assert [row[1] for row in rows] == ["bad", "good", "error"]
    assert rows[0][2:] == ["0.9167", "10 5 30 10"]
    assert "Expected a readable image" in found.err


def test_a_server_gets_versions_and_one_configuration(export: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    run("serve", export, served, "--name", "left")
    run("serve", export, served)
    run("threshold", export, "--false-alarms", 0.2)
    run("serve", export, served)
    content = json.loads((served / "config.json").read_text())
    entries = {entry["config"]["name"]: entry["config"] for entry in content["model_config_list"]}
    assert {*entries} == {"left", "MixedDistillation"}
    own = served / "MixedDistillation"
    assert entries["MixedDistillation"]["base_path"] == str(own)
    assert entries["MixedDistillation"]["plugin_config"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert sorted(folder.name for folder in own.iterdir()) == ["1", "2"]
    assert [read(own / version / "model.xml").false_alarms for version in "12"] == [0.01, 0.2]


def test_what_a_server_does_not_apply_is_refused(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "config.json").write_text("{}")
    run("serve", export, tmp_path / "served", code=1)
    assert "Expected the configuration of a model server" in capsys.readouterr().err
    run("serve", export, tmp_path / "other", "--name", "../part", code=1)
    assert "Expected a name of one folder, got '../part'" in capsys.readouterr().err
    run("serve", export, tmp_path / "other", "--name", "config.json", code=1)
    assert "Expected a name that no file has there, got 'config.json'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["config.json"]
    (tmp_path / "odd" / "config.json").mkdir(parents=True)
    run("serve", export, tmp_path / "odd", code=1)
    assert "Expected the configuration of a model server" in capsys.readouterr().err
    run("threshold", export, "--smallest-area", 3)
    run("serve", export, tmp_path / "other", code=1)
    assert "Expected a model without region and smallest area" in capsys.readouterr().err


def test_a_category_is_moved_alone(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = tuple(np.linspace(0.1, 0.2, 20).tolist())
    own = Fitted(Scale(0.3, 0.1), Scale(0.6, 0.4), scores)
    path = write_export(tmp_path, categories={"dark": own, "light": own})
    run("threshold", path, "--category", "dark", "--false-alarms", 0.2)
    assert "0 of 20 good images lie above" in capsys.readouterr().out
    after = read(path)
    assert after.categories["dark"].image.threshold == threshold_from_good(scores, 0.2)
    assert (after.image, after.categories["light"]) == (own.image, own)  # the common one is the highest
    run("threshold", path, "--category", "dark")
    assert "for 20 % false alarms" in capsys.readouterr().out
    run("threshold", path, "--category", "light", "--good", good)
    assert read(path).categories["light"].good_scores == pytest.approx([level / 255 for level in LEVELS], abs=1e-5)
    run("predict", path, "--category", "dark", good / "deep" / "110.png")
    assert ",bad," in capsys.readouterr().out
    run("threshold", path, "--category", "dark", "--smallest-area", 3, code=1)
    assert "Expected no --smallest-area with --category, got one" in capsys.readouterr().err
    run("threshold", path, "--smallest-area", 3)
    assert read(path).smallest_area == 3


@pytest.mark.parametrize("words", [[], ["--category", "dark"], ["--category", "dark", "--good", "missing"]])
def test_a_region_of_one_of_several_categories_goes_to_the_inferencer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    path = write_export(tmp_path, categories={"dark": DARK, "light": LIGHT})
    run("threshold", path, "--region", "mask.png", *words, code=1)
    assert "Expected no --region for a model of several categories, got one. Give it to Inf" in capsys.readouterr().err
    mask = np.ones((20, 30), np.uint8)
    assert Inferencer(path, category="dark", region=mask).predict(np.zeros((20, 30, 3))).score < 0.5


DARK = Fitted(Scale(0.3, 0.1), Scale(0.6, 0.4), tuple(np.linspace(0.1, 0.2, 20).tolist()))
LIGHT = Fitted(METADATA.image, METADATA.pixel, METADATA.good_scores)


def test_the_common_threshold_is_named_where_no_category_is_given(
    tmp_path: Path, good: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_export(tmp_path, categories={"dark": DARK, "light": LIGHT})
    for command in (("predict", path, good / "deep" / "110.png"), ("serve", path, tmp_path / "served")):
        caplog.clear()
        run(*command, "--category", "dark")
        assert not caplog.text
        run(*command)
        assert "the common threshold 0.5 applies" in caplog.text
        assert "is lower ('dark' 0.3, 'light' 0.5). Choose one with category=NAME or --category NAME." in caplog.text


def test_a_server_gets_the_thresholds_of_a_category(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_export(tmp_path, categories={"dark": DARK, "light": LIGHT})
    for name in ("dark", "light"):
        run("serve", path, tmp_path / "served", "--category", name)
    served = tmp_path / "served" / "dark" / "1"
    assert sorted(file.name for file in served.iterdir()) == ["model.bin", "model.json", "model.xml"]
    assert (tmp_path / "served" / "light" / "1").is_dir()
    assert read(served / "model.xml") == read(path).of_category("dark")
    part = good / "deep" / "110.png"
    found = Inferencer(served / "model.xml").predict(part)  # as the graph says
    assert found.score == Inferencer(path, category="dark").predict(part).score > 0.5
    run("serve", path, tmp_path / "served", "--category", "blue", code=1)
    assert "Expected a category of the model, got 'blue'" in capsys.readouterr().err
    assert sorted(folder.name for folder in (tmp_path / "served").iterdir()) == ["config.json", "dark", "light"]


def draw(file: Path, level: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), level, np.uint8)).save(file)


@pytest.mark.parametrize(
    ("other", "given", "named"),
    [
        ("ground_truth/dent/0.png", "", "ground_truth"),
        ("train/good/0.png", "", "train"),
        ("bottle/test/dent/0.png", "", "test"),
        ("test/dent/0.png", "test", "dent"),
        ("Good/0.png", "", "bad"),
        ("ground_truth/dent/0.png", "ground_truth", "ground_truth"),
        ("ground_truth/dent/0.png", "ground_truth/dent", "ground_truth"),
    ],
)
def test_a_data_set_is_no_folder_of_good_pictures(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str, given: str, named: str
) -> None:
    folder = tmp_path / "data"
    draw(folder / other, 200)
    for level in LEVELS:
        draw(folder / given / {"bad": "bad", "dent": "good"}.get(named, "more") / f"{level}.png", level)
    before = export.read_bytes()
    run("threshold", export, "--good", folder / given, code=1)
    error = capsys.readouterr().err
    assert f"Expected only good images in {folder / given}, got the folder '{named}' of a data set" in error
    assert "has not learnt, such as test/good." in error
    assert export.read_bytes() == before


def test_good_pictures_above_the_old_threshold_are_named(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in (100, 120, 140, 150, 160, 170):  # the threshold is at 127
        draw(tmp_path / "new" / f"{level}.png", level)
    run("threshold", export, "--good", tmp_path / "new")
    assert capsys.readouterr().err == (
        "4 of the 6 good images lie above the old threshold: the light has changed, or these parts are bad. "
        "Look at them.\n"
    )
    run("threshold", export, "--good", tmp_path / "new")
    assert not capsys.readouterr().err


def test_copies_are_no_evidence(export: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good / "more").mkdir()
    for level in LEVELS[:3]:
        shutil.copy(good / "deep" / f"{level}.png", good / "more" / f"copy of {level}.png")
    run("threshold", export, "--good", good)
    assert capsys.readouterr().out.startswith("3 of 9 images are copies of others and do not count\nbefore: ")
    assert len(read(export).good_scores) == len(LEVELS)
    for level in LEVELS[4:]:
        (good / "deep" / f"{level}.png").unlink()
    run("threshold", export, "--good", good, code=1)
    found = capsys.readouterr()
    assert found.out == "3 of 7 images are copies of others and do not count\n"
    assert "Expected the scores of at least 5 good parts, got 4" in found.err


def test_the_common_threshold_is_not_moved_alone(
    tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_export(tmp_path, categories={"dark": DARK, "light": LIGHT})
    before = path.read_bytes()
    for option, value in (("--good", good), ("--threshold", 0.6)):
        run("threshold", path, option, value, code=1)
        error = capsys.readouterr().err
        assert f"Expected --category with {option}, one of 'dark', 'light', got none" in error
        assert path.read_bytes() == before
    run("threshold", path)
    assert capsys.readouterr().out.splitlines() == [
        "now: threshold 0.5, for 1 % false alarms; 0 of 20 good images lie above",
        "category 'dark': threshold 0.3, for 1 % false alarms; 0 of 20 good images lie above",
        "category 'light': threshold 0.5, for 1 % false alarms; 0 of 20 good images lie above",
    ]
    run("threshold", path, "--category", "dark", "--threshold", 0.9)
    raised = DARK.image.raw(0.9)
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"after: threshold {raised:.6g}; 0 of 20 good images lie above",
        f"common: threshold {raised:.6g}; 0 of 20 good images lie above",
        f"category 'dark': threshold {raised:.6g}; 0 of 20 good images lie above",
        "category 'light': threshold 0.5, for 1 % false alarms; 0 of 20 good images lie above",
    ]
    after = read(path)
    assert after.image.threshold == raised
    assert after.pixel == METADATA.pixel
    assert (after.of_category("dark").false_alarms, after.of_category("light").false_alarms) == (None, 0.01)


def test_what_is_not_written_is_not_said(
    export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        msg = "No space left on device"
        raise OSError(msg)

    monkeypatch.setattr(deploy_main, "write", full)
    run("threshold", export, "--false-alarms", 0.2, code=1)
    found = capsys.readouterr()
    assert found.out.startswith("before: ")
    assert "after" not in found.out
    assert found.err == "No space left on device\n"


def test_a_folder_that_may_not_be_listed_is_not_skipped(
    export: Path, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (good / "shut").mkdir()
    scan = os.scandir

    def scanned(path: Any) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scanned)
    run("threshold", export, "--good", good, code=1)
    assert capsys.readouterr().err == (
        f"Expected folders that can be listed, got [Errno 13] Permission denied: '{good / 'shut'}'. Check the name "
        "and permissions of the folder, or leave it out.\n"
    )


def test_a_name_is_no_formula_in_a_table(
    export: Path, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(good / "deep" / "60.png", good / "=1.png")
    monkeypatch.chdir(good)
    run("predict", export, "=1.png", "deep/70.png", "@2.png", code=1)
    rows = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == ["./=1.png", "deep/70.png", "./@2.png"]


@pytest.mark.parametrize("words", [[], ["--category", "dark"]])
@pytest.mark.parametrize("versions", [0, 1])
def test_a_full_disk_leaves_no_part_of_a_version(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    versions: int,
) -> None:
    path, served = write_export(tmp_path, categories={"dark": DARK, "light": LIGHT}), tmp_path / "served"
    for _ in range(versions):
        run("serve", path, served, "--name", "dark", *words)
    before = sorted(served.rglob("*"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(serving.shutil, "copy2", full)
    monkeypatch.setattr(serving, "write", full)
    run("serve", path, served, "--name", "dark", *words, code=1)
    error = capsys.readouterr().err
    assert f"Expected to write a version into {served / 'dark'}, got [Errno 28] No space left" in error
    assert sorted(served.rglob("*")) == before
