# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Compare what can be done when the light has changed: the figures of docs/how_to/new_light.md.

usage: python scripts/new_light.py [washer|metal|fabric]

Draws 60 good training images in the old light, and 24 others of the same parts in a brighter and warmer one. Trains
MixedDistillation (embedded teacher, 300 steps of 8, seed 0) in the old light, and then applies each remedy. Tests have
12 good and 24 defective parts in either light. The model sets its threshold by good images set aside.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from anomalib.engine import Engine
from lightning.pytorch import seed_everything
from PIL import Image

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Parts, Recipe, make_dataset

GAMMA, WARMTH = 0.8, (1.08, 1.0, 0.9)


def relight(source: Path, target: Path) -> None:
    """Copy a category with its images, not its masks, in the new light.

    Args:
        source: The category's folder.
        target: Where to copy it.
    """
    for path in source.rglob("*.png"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if "ground_truth" in path.parts:
            shutil.copy(path, copy)
            continue
        pixels = np.asarray(Image.open(path)) / 255
        lit = np.clip(pixels**GAMMA * np.asarray(WARMTH), 0, 1)
        Image.fromarray((lit * 255).round().astype(np.uint8)).save(copy)


def main() -> None:
    """Draw, train and print a line for each remedy and each light."""
    with tempfile.TemporaryDirectory() as folder:
        compare((sys.argv[1:] or ["washer"])[0], Path(folder))


def compare(category: str, folder: Path) -> None:
    """Print the lines.

    Args:
        category: One of the drawn ones.
        folder: For images and runs.
    """
    old = make_dataset(folder / "old", Recipe(category))
    new, both = folder / "new" / category, folder / "both" / category
    relight(make_dataset(folder / "drawn", Recipe(category, seed=1, train_images=24)), new)
    shutil.copytree(new, both)
    for path in (old / "train" / "good").iterdir():
        shutil.copy(path, both / "train" / "good" / f"old_{path.name}")
    data = {path.parent.name: Parts(path, num_workers=0) for path in (old, new, both)}
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}

    def fit(model: MixedDistillation, light: str) -> str:
        engine = Engine(default_root_dir=folder / "run", **quiet)
        engine.fit(model=model, datamodule=data[light])
        return str(engine.best_model_path)

    def show(remedy: str, model: MixedDistillation) -> None:
        for light in ("old", "new"):
            batches = Engine(**quiet).predict(model=model, datamodule=data[light])
            items = [item for batch in batches for item in batch]
            score = np.array([float(item.pred_score) for item in items])
            called = np.array([bool(item.pred_label) for item in items])
            bad = np.array([Path(item.image_path).parent.name != "good" for item in items])
            auroc = 100 * (score[bad][:, None] > score[~bad]).mean()
            caught, alarms = f"{called[bad].sum()} of {bad.sum()}", f"{called[~bad].sum()} of {(~bad).sum()}"
            print(f"{remedy:24}{light} light  image AUROC {auroc:5.1f}  caught {caught}  good called bad {alarms}")

    seed_everything(0)
    model = MixedDistillation(weights="quickstart", visualizer=False)
    checkpoint = fit(model, "old")
    show("none", model)
    model = MixedDistillation.load_from_checkpoint(checkpoint)
    Engine(**quiet).validate(model=model, datamodule=Parts(new, val_split_ratio=0.9))  # nothing is trained
    show("new threshold", model)
    for remedy, light in (("60 steps on both", "both"), ("60 steps on new", "new")):
        seed_everything(0)
        model = MixedDistillation.load_from_checkpoint(checkpoint, training_steps=60, visualizer=False)
        fit(model, light)
        show(remedy, model)
    seed_everything(0)
    model = MixedDistillation(weights="quickstart", visualizer=False)
    fit(model, "both")
    show("300 steps anew on both", model)


if __name__ == "__main__":
    main()
