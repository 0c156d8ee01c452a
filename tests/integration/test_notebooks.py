# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Notebooks call the package, define nothing, carry no outputs, and run from top to bottom."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
TINY = {"training_steps": 2, "train_images": 6}


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_and_no_definitions(notebook: Path) -> None:
    for cell in code_cells(notebook):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        kinds = {type(node) for node in ast.walk(ast.parse(cell["source"]))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # as in a kernel
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in code_cells(notebook):
        exec(compile(cell["source"], notebook.name, "exec"), names)  # noqa: S102
        if cell["metadata"].get("tags") == ["parameters"]:
            assert set(TINY) <= set(names)
            names |= TINY
    assert names["prediction"].anomaly_map.size == 128 * 128
