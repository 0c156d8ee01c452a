# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A whole comparison of drawn parts, offline: trained, tested, exported and timed as a user's, and gone on with."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from safetensors.torch import save_file

from anomalib_mkd.data import Recipe, make_dataset

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ANOMALIB_MKD_LONG" not in os.environ, reason="runs for six minutes: set ANOMALIB_MKD_LONG=1"),
]

WIDE = 3.0
"""Megabytes that the embedded teacher and its student stay below in 8 bits."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A cache with random weights in the place of ImageNet's, and no network."""
    repository = tmp_path / "hf" / "hub" / "models--timm--resnet18.tv_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    torch.manual_seed(1)
    save_file(timm.create_model("resnet18").state_dict(), snapshot / "model.safetensors")
    return os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def test_ours_beside_padim(tmp_path: Path, environment: dict[str, str]) -> None:
    parts = make_dataset(tmp_path, Recipe("metal", image_size=64, train_images=20, test_good=4, per_defect=2))
    command = [sys.executable, "-m", "anomalib_mkd", "compare", str(parts), "--output", str(tmp_path / "out")]
    command += ["--models", "MixedDistillation", "Padim", "--weights", "quickstart", "--budget", "60m"]

    def compare() -> list[str]:
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ended.stderr == ""
        return ended.stdout.splitlines()

    lines = compare()
    assert lines[0] == f"Comparing models on {parts}"
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert [*rows] == ["MixedDistillation", "Padim"]
    for name, row in rows.items():
        assert row["reason"] == ""
        empty = [column for column, value in row.items() if value == ""]
        assert empty == ["reason"], name
        assert 0 < float(row["latency"]) < float(row["first_verdict"])
        assert (row["bad"], row["good"], row["pictures"]) == ("6", "4", "16")
        assert float(row["peak_megabytes"]) > 300
    ours = rows["MixedDistillation"]
    assert float(ours["image_auroc"]) > 0.9
    assert float(ours["int8_megabytes"]) < WIDE < float(ours["megabytes"])
    assert float(ours["aupro"]) > 0.8

    (tmp_path / "out" / "models" / "Padim" / "result.json").unlink()  # as if killed before its end
    lines = compare()
    assert "MixedDistillation: finished before, kept." in lines
    assert "Padim: no finished result for these data and settings, starts again." in lines
