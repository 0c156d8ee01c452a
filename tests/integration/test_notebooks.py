# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Notebooks call the package, define nothing, run from top to bottom, and show what their code printed."""

from __future__ import annotations

import ast
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from scripts.run_notebooks import DIGEST, digest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
TINY = {"training_steps": 2, "train_images": 10, "pre_trained": False}
LARGEST = 1_000_000


def read(notebook: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return found


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [
        cell | {"source": "".join(cell["source"])} for cell in read(notebook)["cells"] if cell["cell_type"] == "code"
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_definitions(notebook: Path) -> None:
    for cell in code_cells(notebook):
        kinds = {type(node) for node in ast.walk(ast.parse(cell["source"]))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_of_this_code(notebook: Path) -> None:
    found = read(notebook)
    assert found["metadata"][DIGEST] == digest(found["cells"])  # else: python scripts/run_notebooks.py
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    assert any({"image/png", "image/jpeg"} & set(output.get("data", {})) for output in outputs)
    assert tempfile.gettempdir() not in notebook.read_text(encoding="utf-8")
    assert notebook.stat().st_size < LARGEST


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as in a kernel
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(mpl.rcParams, "backend", "agg")
    names: dict[str, Any] = {}
    shortened = False
    for cell in code_cells(notebook):
        exec(compile(cell["source"], notebook.name, "exec"), names)  # noqa: S102
        if cell["metadata"].get("tags") == ["parameters"]:
            shortened = "training_steps" in names
            names |= {name: value for name, value in TINY.items() if name in names}
    plt.close("all")
    assert shortened
