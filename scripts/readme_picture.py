# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Draw docs/images/results.png: parts, heat maps and verdicts of MixedDistillation on the quick start's images.

usage: python scripts/readme_picture.py

Trains one model for each drawn category (embedded teacher, 500 steps of 8, seed 0) and shows test images 003 of one
kind of defect and of the good parts, whatever the model makes of them. Text is grey and the background transparent, for
pages that are light or dark.
"""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from anomalib.engine import Engine
from lightning.pytorch import seed_everything
from matplotlib import pyplot as plt
from PIL import Image

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Quickstart
from anomalib_mkd.files import whole

TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "results.png"
SHOWN = {"washer": "scratch", "metal": "dent", "fabric": "stain"}
"""Category to kind of defect."""
FILE = "003.png"
GREY = "#808a94"
COLOURS = {True: "#c62828", False: "#2e7d32"}
"""Colour of a verdict."""


def predictions(category: Any, folder: Path) -> dict[str, Any]:
    """Train on a category and predict its test images.

    Args:
        category: One of the drawn ones.
        folder: For images and run.

    Returns:
        Kind of defect, or ``"good"``, to the predicted item of the image ``FILE``.
    """
    seed_everything(0)
    data = Quickstart(folder / "images", category, train_batch_size=8)
    model = MixedDistillation(weights="quickstart", training_steps=500, visualizer=False)
    engine = Engine(accelerator="cpu", logger=False, default_root_dir=folder / "run")
    engine.fit(model=model, datamodule=data)
    items: list[Any] = [item for batch in engine.predict(model=model, datamodule=data) or [] for item in batch]
    paths = {Path(item.image_path): item for item in items}
    return {path.parent.name: item for path, item in paths.items() if path.name == FILE}


def draw(found: dict[str, dict[str, Any]]) -> bytes:
    """Draw two columns for each category, a defective part and a good one, as PNG.

    Args:
        found: Category to :func:`predictions`.
    """
    items = [(category, kind, of[kind]) for category, of in found.items() for kind in (SHOWN[category], "good")]
    figure, grid = plt.subplots(2, len(items), figsize=(12, 4.6), layout="constrained")
    for column, (category, kind, item) in zip(grid.T, items, strict=True):
        column[0].imshow(Image.open(item.image_path))
        column[0].set_title(f"{category}: {kind}", color=GREY, fontsize=13)
        column[1].imshow(item.anomaly_map.squeeze(), cmap="inferno", vmin=0, vmax=1)  # one scale for all
        bad = bool(item.pred_label)
        text = f"{'bad' if bad else 'good'}  {float(item.pred_score):.2f}"
        style = {"facecolor": COLOURS[bad], "edgecolor": "none", "boxstyle": "round,pad=0.35"}
        column[1].set_xlabel(text, color="white", fontsize=13, weight="bold", labelpad=10, bbox=style)
        for axes in column:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for axes, name in zip(grid[:, 0], ("part", "heat map"), strict=True):
        axes.set_ylabel(name, color=GREY, fontsize=13)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=70, bbox_inches="tight", transparent=True, pil_kwargs={"optimize": True})
    return drawn.getvalue()


def main() -> None:
    """Train, draw, and replace the figure."""
    with tempfile.TemporaryDirectory() as folder:
        picture = draw({category: predictions(category, Path(folder)) for category in SHOWN})
    TARGET.parent.mkdir(exist_ok=True)
    with whole(TARGET) as unfinished:
        unfinished.write_bytes(picture)
    print(f"Wrote {TARGET.name}, {len(picture) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
