# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a user sees of the first run: help, errors, and (slowly) the whole of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd.data import Recipe, make_dataset
from anomalib_mkd.quickstart.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


def refusal(*arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return str(end.value)


def test_help_is_quick_and_names_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal("--help") == "0"
    text = " ".join(capsys.readouterr().out.split())
    assert '"metal", "washer" or "fabric", which are drawn, or a folder in MVTec AD\'s layout' in text
    code = "import sys, anomalib_mkd.quickstart.__main__; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_output_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for output in (file, file / "below"):
        message = refusal("--output", output)
        assert message.startswith(f"Expected a writable folder as --output, got '{output}'")
        assert message.endswith("Choose another folder.")


def test_data_that_is_not_there(tmp_path: Path) -> None:
    message = refusal("--output", tmp_path, "--data", tmp_path / "nothing")
    assert message.startswith("Expected fabric, metal, washer or a folder as --data, got '")
    assert message.endswith("nothing', which does not exist. Set --data to one of them.")


def test_data_of_another_layout(tmp_path: Path) -> None:
    message = refusal("--output", tmp_path / "results", "--data", tmp_path)
    assert message.startswith(f"Expected a folder of parts to train on, got no folder of good parts in '{tmp_path}")


def test_a_folder_named_like_the_drawn_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metal").mkdir()
    message = refusal("--output", "out", "--data", "metal")
    assert message.endswith("got 'metal', which is both. Name the folder ./metal.")


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    message = refusal("--output", tmp_path, "--weights", "nothing")
    assert message.startswith("Expected auto, imagenet, quickstart or a file as --weights, got 'nothing'")


@pytest.mark.parametrize("argument", ["--steps", "--batch_size"])
def test_numbers_out_of_range(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(argument, "0") == "2"
    assert f"{argument.removeprefix('--')}" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_run_on_an_own_folder(tmp_path: Path) -> None:
    """Started twice, the second time without masks; on the screen are our own words and nobody else's."""
    own = make_dataset(tmp_path, Recipe("metal", image_size=64, train_images=6, test_good=2, per_defect=1))
    own = own.rename(tmp_path / "metal_parts")
    command = [sys.executable, "-m", "anomalib_mkd.quickstart", "--data", own.name, "--steps", "2"]
    results = tmp_path / "quickstart_results" / "MixedDistillation" / "Parts" / own.name
    for run, masks in (("v0", True), ("v1", False)):
        if not masks:
            (own / "ground_truth").rename(tmp_path / "away")
        done = subprocess.run(  # noqa: S603
            command,
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        lines = done.stdout.splitlines()
        stages = [line[:5] for line in lines if line.startswith("[")]
        assert list(dict.fromkeys(stages)) == [f"[{stage}/5]" for stage in range(1, 6)]
        assert lines[0] == "[1/5] Loading anomalib and the images."
        assert "      Teacher: the embedded one. ImageNet's resnet18.tv_in1k is not cached" in done.stdout
        assert len(lines) < 50
        starts = {line[2:22].strip() for line in lines if line.startswith("  ")}
        assert {
            "report",
            "predictions",
            "image AUROC",
            "at the threshold",
            "training",
            "torch",
            "OpenVINO",
            "same predictions",
            "machine",
            "heat maps",
        } <= starts
        assert ({"pixel AUROC", "AUPRO"} <= starts) == masks
        assert "Not ready to be used:" in done.stdout
        assert "- Only 6 good images for training and threshold." in done.stdout
        assert "Next" not in done.stdout
        assert "Warning" not in done.stdout
        assert len(list((results / run / "images").rglob("*.png"))) == 5  # three bad parts and two good ones
        assert f"heat maps           {results.relative_to(tmp_path) / run / 'images'} (" in done.stdout
        shown = results.relative_to(tmp_path) / run / "weights" / "openvino" / "model.xml"
        assert f"OpenVINO model      {shown} (" in done.stdout
        assert (tmp_path / shown).exists()
        for file in ("report.html", "predictions.csv", "weights/lightning/model.ckpt"):
            assert (results / run / file).is_file()
