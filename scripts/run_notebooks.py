# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Run notebooks from top to bottom and keep their outputs, without progress bars, warnings and log lines.

usage: pip install nbclient ipykernel; python scripts/run_notebooks.py [notebooks/NAME.ipynb ...]
"""

from __future__ import annotations

import base64
import hashlib
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from anomalib_mkd.files import whole

HERE = Path(__file__).resolve().parents[1] / "notebooks"
DIGEST = "code_sha256"
"""Metadata of a notebook: the code that made its outputs."""
PHOTOGRAPH = 60_000
"""Bytes of PNG above which a figure holds photographs."""


def digest(cells: list[Any]) -> str:
    """Return the checksum of a notebook's code.

    Args:
        cells: Of any kind, as in the file or as nbformat reads them.
    """
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256("\n\0".join(code).encode()).hexdigest()


def kept(outputs: list[Any]) -> list[Any]:
    """Return the outputs that a reader wants: what cells print and return, and figures, large ones as JPEG.

    Progress bars, warnings and log lines come on stderr, or as HTML that no cell returns.
    """
    found = [
        output
        for output in outputs
        if output.get("name") == "stdout"
        or output["output_type"] == "execute_result"
        or "image/png" in output.get("data", {})
    ]
    for output in found:
        data = output.get("data", {})
        figure = base64.b64decode(data.get("image/png", ""))
        if len(figure) > PHOTOGRAPH:
            small = BytesIO()
            Image.open(BytesIO(figure)).convert("RGB").save(small, "JPEG", quality=88, optimize=True)
            del data["image/png"]
            data["image/jpeg"] = base64.b64encode(small.getvalue()).decode()
    return found


def run(path: Path) -> None:
    """Run one notebook in an empty folder, and replace the file.

    Args:
        path: The notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails; the file stays as it was.
    """
    import nbformat  # noqa: PLC0415  # only to run them; the tests do without
    from nbclient import NotebookClient  # noqa: PLC0415

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=None, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of the clock
        if cell.cell_type == "code":
            cell.outputs = kept(cell.outputs)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        DIGEST: digest(notebook.cells),
    }
    with whole(path) as unfinished:
        nbformat.write(notebook, unfinished)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(HERE.glob("*.ipynb")):
        run(Path(name))
