# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What anomalib's commands make of folders that lack something or have odd names: a page, or one clear sentence."""

from __future__ import annotations

import csv
import shutil
from html import escape
from pathlib import Path

import pytest
from anomalib.cli.cli import AnomalibCLI

import anomalib_mkd.models  # noqa: F401  # registers, as the hook does
from anomalib_mkd.data import Recipe, make_dataset
from anomalib_mkd.results.callback import PAGE, TABLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the command line turns on everything that the libraries have to say
]

MODEL = ["--model=MixedDistillation", "--model.weights=quickstart"]
RUN = Path("results") / "MixedDistillation"
ODD = "größer [1] \"neu\" & 'alt' <script>alert(1)<script> {{ 7 }}.png"
"""A name that shells, globs, HTML and templates read as something else."""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tiny parts in MVTec AD's layout, in the current folder."""
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path, Recipe("metal", image_size=64, train_images=8, test_good=2, per_defect=1))
    return (tmp_path / "metal").rename(tmp_path / "Prüfling [v2] & <b>")


def run(command: str, *words: str, data: Path | None = None) -> None:
    """Run a command, on a folder of parts if one is given."""
    of_data = ["--data=Parts", f"--data.root={data}", "--data.num_workers=0"] if data else []
    steps = ["--trainer.max_steps=2"] if command == "train" else []
    AnomalibCLI([command, *MODEL, *of_data, *steps, *words])


def left_by(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """The page and the rows of the newest run below a folder of results."""
    page = max(folder.rglob(PAGE), key=lambda path: path.stat().st_mtime)
    with page.with_name(TABLE).open(newline="", encoding="utf-8") as file:
        return page.read_text(encoding="utf-8"), list(csv.DictReader(file))


def test_only_good_pictures_with_odd_names(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train, test and predict; every name comes out as text, and has its heat map."""
    shutil.rmtree(parts / "test")
    shutil.rmtree(parts / "ground_truth")
    for path in list((parts / "train" / "good").iterdir()):
        path.rename(path.with_name(f"{path.stem} {ODD}"))
    run("train", data=parts)
    checkpoint = f"--ckpt_path={next(RUN.rglob('model.ckpt'))}"
    run("test", checkpoint, data=parts)
    new = shutil.copytree(parts / "train" / "good", "new <parts>")
    run("predict", f"--data={new}", checkpoint)
    printed = capsys.readouterr().out
    assert "good parts called bad" in printed
    assert "of 8 parts called bad" in printed
    pages = list(RUN.rglob(PAGE))
    assert len(pages) == 2  # the test's replaced the training's
    for path in pages:
        page, rows = left_by(path.parent)
        assert rows
        assert all(Path(row["file"]).is_file() for row in rows)
        assert "<script" not in page
        assert escape(ODD, quote=False) in page.replace("&#34;", '"').replace("&#39;", "'")
        assert len(list((path.parent / "images").rglob("*.png"))) == len(rows)


def test_bad_parts_without_masks(parts: Path) -> None:
    shutil.rmtree(parts / "ground_truth")
    run("train", data=parts)
    page, rows = left_by(RUN)
    assert {row["truth"] for row in rows} == {"good", "bad"}
    assert "no masks" in page


def test_test_pictures_of_bad_parts_only(parts: Path) -> None:
    """A fifth of the training's good parts is tested instead."""
    shutil.rmtree(parts / "test" / "good")
    run("train", data=parts)
    _, rows = left_by(RUN)
    assert [row["truth"] for row in rows].count("bad") == 3
    assert {Path(row["file"]).parent.name for row in rows if row["truth"] == "good"} == {"good"}


def test_no_good_pictures_to_learn_from(parts: Path) -> None:
    shutil.rmtree(parts / "train")
    with pytest.raises(
        FileNotFoundError, match=r"^Expected the folder train/good in .*, got none\. Set root to a folder"
    ):
        run("train", data=parts)
