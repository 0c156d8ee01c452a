# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""``python -m anomalib_mkd compare`` with a fake runner: shares of the budget, resuming, bad input, exit codes."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from anomalib_mkd.compare import budget, session, trainings
from anomalib_mkd.compare.command import main
from anomalib_mkd.compare.data import list_files, open_data, validates_on_test
from anomalib_mkd.compare.recipes import FAST
from anomalib_mkd.compare.recommend import caution
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.compare.runs import RESULT, Contents, DataError, Job, export_of, folder_of, write_result
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MINUTE = 60.0


class Runner:
    """Takes the place of a model's process: time passes, and rows are found."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = {"MixedDistillation": 5 * MINUTE, "Patchcore": 2 * MINUTE, "Padim": MINUTE}
        self.fails: set[str] = set()
        self.lacks: dict[str, str] = {}
        self.dies_at = ""
        self.jobs: list[tuple[str, float]] = []

    def __call__(self, job: Job, limit: float, tick: Callable[[str], None]) -> Row:
        if job.recipe == self.dies_at:
            raise KeyboardInterrupt
        tick("training")
        self.jobs.append((job.recipe, limit))
        taken = self.takes.get(job.recipe, MINUTE)
        self.now += taken
        job.write()
        row = Row(job.recipe, image_auroc=0.9, training_seconds=taken / 20, latency=0.01, megabytes=1.0)
        row = dataclasses.replace(row, caught=1, bad=10, false_alarms=5, good=5)
        row = dataclasses.replace(row, notes=tuple(caution(row, ours=False)))
        if job.recipe in self.lacks:
            row = dataclasses.replace(row, **{self.lacks[job.recipe]: True})
        export = export_of(job.folder.parents[1], job.recipe, "f32")
        export.parent.mkdir(parents=True, exist_ok=True)
        export.touch()
        if job.recipe in self.fails:
            row = Row(job.recipe, reason="It broke.")
        write_result(job, row)
        return row


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    made = Runner()
    monkeypatch.setattr(trainings, "run", made)
    monkeypatch.setattr(session, "Budget", lambda total, models: budget.Budget(total, models, clock=lambda: made.now))

    def time_all(output: Path, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
        assert output.is_dir()
        return [dataclasses.replace(row, first_verdict=None if row.reason else 0.5) for row in rows], []

    monkeypatch.setattr(session, "time_all", time_all)

    def examine(file: Path, _: Path) -> Contents:  # starts no process
        data = open_data(file)
        return Contents(list_files(data), validates_on_test(data))

    monkeypatch.setattr(session, "examine", examine)
    return made


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    parts = draw_category(tmp_path / "parts", train=20)
    return [str(parts), "--output", str(tmp_path / "out")]


def test_shares_rows_and_files(
    words: list[str], runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    # 30 minutes: a third, then half of the 25 left, then the 23 left, then the 22 left
    assert runner.jobs == [
        ("MixedDistillation", 10 * MINUTE),
        ("Patchcore", 12.5 * MINUTE),
        ("Padim", 23 * MINUTE),
        ("Patchcore 10 %", 22 * MINUTE),
    ]
    out = capsys.readouterr().out
    assert out.startswith(f"Comparing models on {words[0]}\n")
    assert "Take " in out
    assert (
        f"Its exports, for images resized to its input: {tmp_path}/out/models/MixedDistillation/f32/weights/openvino\n"
        in out
    )
    before, after = out.split("Take MixedDistillation", 1)
    for text in ("Caught only 1 of 10 bad parts", "Called 5 of 5 good parts bad."):
        assert f"Patchcore: {text}" in before
        assert f"MixedDistillation: {text}" not in before  # said once, with the recommendation
        assert text in after
    assert "Comparing: " in out or "[1/4] MixedDistillation: " in out
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"compare.html", "compare.csv", "compare.md"}
    lines = (tmp_path / "out" / "compare.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["MixedDistillation", "Patchcore", "Padim", "Patchcore 10 %"]


def test_who_prefers_speed_sees_the_fast_preset(words: list[str], runner: Runner) -> None:
    assert main([*words, "--prefer", "speed"]) == 0
    assert [name for name, _ in runner.jobs][:2] == ["MixedDistillation", FAST]


def test_the_large_selection_waits_for_a_larger_budget(words: list[str], runner: Runner, tmp_path: Path) -> None:
    runner.takes["Patchcore"] = 20 * MINUTE  # a training of 1 minute: 10 for the large one, of 9 minutes left
    assert main([*words, "--models", "Patchcore", "--budget", "29m"]) == 0
    assert [name for name, _ in runner.jobs] == ["Patchcore"]
    assert "Not run: its training would take about 10 min 0 s" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize(("lack", "runs"), [("unfinished", True), ("stopped", False)])
def test_the_large_selection_needs_the_training_of_the_small_one_alone(
    words: list[str], runner: Runner, tmp_path: Path, lack: str, runs: bool
) -> None:
    runner.lacks["Patchcore"] = lack
    assert main([*words, "--models", "Patchcore"]) == 0
    assert [name for name, _ in runner.jobs] == ["Patchcore", "Patchcore 10 %"][: 1 + runs]
    page = (tmp_path / "out" / "compare.html").read_text()
    assert ("Not run: Patchcore with 1 % did not finish its training." in page) is not runs
    assert "* It ended before all was done: see below." in page


def test_a_failure_is_a_row_and_the_others_go_on(words: list[str], runner: Runner, tmp_path: Path) -> None:
    runner.fails = {"Patchcore"}
    assert main(words) == 0
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "It broke." in page
    assert "Not run: Patchcore with 1 % did not finish its training." in page
    runner.fails = {"MixedDistillation", "Patchcore", "Padim"}
    assert main([*words, "--seed", "1"]) == 1
    assert "No recommendation: no model finished." in (tmp_path / "out" / "compare.md").read_text()


def test_the_same_command_goes_on_after_an_interruption(
    words: list[str], runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.dies_at = "Padim"
    assert main(words) == 130
    assert "Finished models are kept" in capsys.readouterr().err
    runner.dies_at, runner.jobs = "", []
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "MixedDistillation: finished before, kept.\nPatchcore: finished before, kept.\n" in out
    assert [name for name, _ in runner.jobs] == ["Padim", "Patchcore 10 %"]
    runner.jobs = []
    assert main(words) == 0
    assert runner.jobs == []
    assert main([*words, "--seed", "1"]) == 0  # another result
    assert len(runner.jobs) == 4


def test_an_interrupted_command_leaves_no_page_of_another(words: list[str], runner: Runner, tmp_path: Path) -> None:
    assert main(words) == 0
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "resized to its input: models/MixedDistillation/f32/weights/openvino\n" in page
    runner.dies_at = "Padim"
    assert main([*words, "--seed", "1"]) == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data.yaml", "models"}


def test_exports_that_are_gone_are_not_named(words: list[str], runner: Runner, tmp_path: Path) -> None:
    assert main([*words, "--models", "Padim"]) == 0
    shutil.rmtree(folder_of(tmp_path / "out", "Padim") / "f32")
    runner.jobs = []
    assert main([*words, "--models", "Padim"]) == 0
    assert runner.jobs == []
    assert "Its exports" not in (tmp_path / "out" / "compare.md").read_text()
    assert "Its exports" not in (tmp_path / "out" / "compare.html").read_text()


@pytest.mark.usefixtures("runner")
def test_thresholds_from_test_images_are_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, *output = words
    claim, remark = (
        "No test label chooses anything but the model",
        "The thresholds come from test images and their labels",
    )
    assert main([*words, "--models", "Padim"]) == 0
    assert claim in (tmp_path / "out" / "compare.md").read_text()
    assert remark not in capsys.readouterr().out
    init = {"name": "parts", "root": folder, "normal_dir": "train/good", "normal_test_dir": "test/good"}
    init |= {"abnormal_dir": "test/dent", "val_split_mode": "same_as_test"}
    file = tmp_path / "data.yaml"
    file.write_text(json.dumps({"data": {"class_path": "anomalib.data.Folder", "init_args": init}}))
    assert main(["--data", str(file), "--models", "Padim", *output]) == 0
    assert remark in capsys.readouterr().out
    for name in ("compare.md", "compare.html"):
        text = (tmp_path / "out" / name).read_text()
        assert remark in text
        assert claim not in text


def test_results_in_the_folder_of_parts_are_no_parts(tmp_path: Path, runner: Runner) -> None:
    parts = tmp_path / "parts"
    for number, kind in enumerate(["good"] * 20 + ["bad"]):
        (parts / kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number, 0, 99)).save(parts / kind / f"{number}.png")
    words = [str(parts), "--models", "Padim", "--output", str(parts / "compare_results")]
    assert main(words) == 0
    Image.new("RGB", (64, 64)).save(parts / "compare_results" / "models" / "noise.png")
    data = (parts / "compare_results" / "data.yaml").read_text()
    runner.jobs = []
    assert main(words) == 0
    assert runner.jobs == []
    assert (parts / "compare_results" / "data.yaml").read_text() == data


def test_other_weights_and_a_larger_budget_train_again(
    words: list[str], runner: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"old")
    words += ["--models", "MixedDistillation", "Padim", "--weights", str(weights)]
    assert main(words) == 0
    result = folder_of(tmp_path / "out", "Padim") / RESULT
    content = json.loads(result.read_text())
    content["row"]["stopped"], content["seconds"] = True, 0.6 * 15 * MINUTE
    result.write_text(json.dumps(content))
    runner.jobs = []
    assert main(words) == 0
    assert runner.jobs == []
    capsys.readouterr()
    assert main([*words, "--budget", "40m"]) == 0  # the other one is finished, so that it has all the time
    assert runner.jobs == [("Padim", 40 * MINUTE)]
    assert "Padim: had too little time, trains again.\n" in capsys.readouterr().out
    weights.write_bytes(b"another")
    runner.jobs = []
    assert main(words) == 0
    assert [name for name, _ in runner.jobs] == ["MixedDistillation", "Padim"]


@pytest.mark.usefixtures("runner")
def test_bad_input_is_one_sentence(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *output = words
    empty = tmp_path / "empty"
    empty.mkdir()
    good = draw_category(tmp_path / "good", train=20, defects={})
    contents = {
        "broken": b"data: [",
        "utf16": "data: 1".encode("utf-16"),
        "long": b"data:\n  class_path: anomalib_mkd.data.Parts\n  init_args:\n    root: " + b"a" * 300,
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    got = "Expected a configuration of a datamodule in '{}.yaml', got {}".format
    for given, start in (
        ([*words, "--models", "Patchcor"], "Expected known --models, got 'Patchcor'. Close ones: Patchcore"),
        ([*words, "--budget", "2m"], "Expected a --budget of at least 3m, a minute for each of 3 models, got 2m."),
        ([*words, "--budget", "soon"], "Expected a --budget such as 30m, 1h30m or 90s, got 'soon'."),
        ([*words, "--weights", "gone.pt"], "Expected auto, imagenet, quickstart or a file as --weights, got 'gone.pt'"),
        ([str(tmp_path / "gone"), *output], "Expected a folder, got "),
        ([folder, "--output", f"{folder}/mine"], "Expected --output outside of the folder of parts, got "),
        ([str(empty), *output], "Expected a folder of parts to train on, got no folder of good parts in "),
        ([str(good), *output], "Expected bad parts to test on in "),
        (output, "Expected either FOLDER or --data FILE, got both or none."),
        ([*output, "--models", "Padim", folder], "Expected FOLDER before --models, got "),
        ([*words, "--seed", "-1"], "Expected a seed from 0 to 4294967295, got -1."),
        ([folder, "--data", "x.yaml", *output], "Expected either FOLDER or --data FILE, got both or none."),
        (["--data", str(tmp_path / "gone.yaml"), *output], "Expected a configuration as --data, got "),
        (["--data", str(tmp_path / "broken.yaml"), *output], got(tmp_path / "broken", "Problems parsing config: ")),
        (["--data", str(tmp_path / "utf16.yaml"), *output], got(tmp_path / "utf16", "bytes that are no UTF-8. ")),
        (["--data", str(tmp_path / "long.yaml"), *output], got(tmp_path / "long", "[Errno ")),
        (["--data", "a" * 300, *output], f"Expected to open '{'a' * 300}', got File name too long. "),
        (["b" * 300, *output], f"Expected to open '{Path('b' * 300).resolve()}', got File name too long. "),
    ):
        assert main(given) == 2, given
        error = capsys.readouterr().err
        assert error.startswith(start)
        assert error.count("\n") == 1


@pytest.mark.usefixtures("runner")
def test_a_full_disk_and_data_that_no_model_can_read(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: Exception) -> Callable[..., Row]:
        def run(*_: object) -> Row:
            raise error

        return run

    monkeypatch.setattr(trainings, "run", fail(OSError(errno.ENOSPC, "No space left on device")))
    assert main(words) == 1
    assert capsys.readouterr().err == (
        f"Expected to write into '{words[-1]}', got No space left on device. Free space there. Finished "
        "models are kept: run the same command to resume.\n"
    )
    monkeypatch.setattr(trainings, "run", fail(DataError("Expected other images.")))
    assert main(words) == 2
    assert capsys.readouterr().err == "Expected other images.\n"
