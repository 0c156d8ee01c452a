# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Raw scores of every image after a training that held out a fifth of the good ones, to compare rules of thresholds.

A rule may read the images that were learnt or held out, never those of the test. It is chosen on the data sets of
:data:`benchmark.rows.CHOOSING` and reported on all others.
"""

from __future__ import annotations

import csv
import logging
import tempfile
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import seed_everything

from anomalib_mkd.data import Parts
from anomalib_mkd.files import whole
from anomalib_mkd.functional import evenly_spaced, mean_of_largest
from anomalib_mkd.thresholds import LEARNT, PEAK_SHARE, as_varied, pooled, threshold_from_good
from benchmark.accuracy import test_outputs, train
from benchmark.runs import Run, build_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomalib_mkd.data import DepthFolder
    from benchmark.outputs import Outputs

logger = logging.getLogger(__name__)

QUANTILES = (0.99, 0.995, 0.999, 0.9999)
"""Of all pixels of held-out maps: candidates for the threshold of pixels."""

FACTORS = (0.7, 0.85, 1.0, 1.2, 1.5)
"""Times the median over held-out images of the highest pixel: further candidates."""

LEVELS = (
    "highest_score",
    "delivered",
    *(f"q{100 * share:g}" for share in QUANTILES),
    *(f"peak{each:g}" for each in FACTORS),
)
"""All candidates; the first one is anomalib's, which takes the threshold of scores if there are no masks."""

COLUMNS = ("run", "data", "seed", "steps", "split", "bad", "score", "peak", "mask")


def measure_scores(run: Run, *, file: Path, data_root: Path, keep: Path | None = None) -> None:
    """Train one model and append a row per image, unless the file already has the run.

    Args:
        run: The run, of a model with one map per photo.
        file: CSV file.
        data_root: Folder that contains ``run.data``.
        keep: Folder for the model's weights, from which a later call goes on; ``None`` keeps none.
    """
    if file.is_file() and run.name in {row["run"] for row in csv.DictReader(file.open(encoding="utf-8"))}:
        logger.info("%s: already measured, skipped", run.name)
        return
    seed_everything(run.seed, verbose=False)
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        data = parts(data_root, run)
        model: Any = build_model(run)
        kept = keep and keep / f"{run.name}.pt"
        if kept and kept.is_file():
            model.model.teacher.prepare()
            model.load_state_dict(torch.load(kept, weights_only=True))
        else:
            train(model, data, run, Path(folder))
        splits = {name: outputs_of(model, data, name, Path(folder)) for name in ("train", "held_out", "test")}
        rows = picture_rows(run, splits)
        if kept and not kept.is_file():
            with whole(_folder(kept.parent) / kept.name) as unfinished:
                torch.save(model.state_dict(), unfinished)
    append(file, rows)
    logger.info("%s: %d rows", run.name, len(rows))


def parts(data_root: Path, run: Run) -> Parts:
    """Return the data of a run, with every fifth good training image, drawn by its seed, held out."""
    data = Parts(data_root, run.data, train_batch_size=run.batch_size, eval_batch_size=8, num_workers=0, seed=run.seed)
    data.setup()
    return data


def dataset_of(data: Parts | DepthFolder, split: str) -> Any:
    """Return the images of a split: ``train``, ``held_out`` or ``test``."""
    return {"train": data.train_data, "held_out": data.val_data, "test": data.test_data}[split]


def outputs_of(model: Any, data: Parts | DepthFolder, split: str, work: Path) -> Outputs:
    """Return raw scores and maps of a split, in its order."""
    chosen = copy(data)
    chosen.test_data = dataset_of(data, split)
    chosen.setup = lambda stage=None: None  # type: ignore[method-assign]  # noqa: ARG005  # it would read the test again
    return test_outputs(model, chosen, work)


def picture_rows(run: Run, splits: Mapping[str, Outputs]) -> list[dict[str, Any]]:
    """Build a row per image: its score and, for the test, the pixels above each candidate, and those of defects."""
    levels = candidates(splits["held_out"], splits["train"])
    rows = []
    for split, outputs in splits.items():
        for score, bad, map_, mask in zip(outputs.scores, outputs.labels, outputs.maps, outputs.masks, strict=True):
            row: dict[str, Any] = {
                "run": run.name,
                "data": run.data,
                "seed": run.seed,
                "steps": run.steps,
                "split": split,
                "bad": int(bad),
                "score": f"{float(score):.6g}",
                "peak": f"{float(map_.max()):.6g}",
                "mask": int(mask.sum()),
            }
            for name, level in levels.items():
                above = map_[0] > level
                row |= {name: int(above.sum()), f"{name}_hit": int((above & mask).sum())} if split == "test" else {}
            rows.append(row)
    return rows


def candidates(held_out: Outputs, learnt: Outputs) -> dict[str, float]:
    """Return the candidates for the threshold of pixels by name, from good images alone."""
    kept = evenly_spaced(len(learnt.maps), LEARNT)
    own, known = (mean_of_largest(maps, PEAK_SHARE).numpy() for maps in (held_out.maps, learnt.maps[kept]))
    peak = held_out.maps.flatten(1).amax(dim=1).median()
    quantiles = np.quantile(held_out.maps.numpy().ravel(), QUANTILES)
    levels = threshold_from_good(pooled(own, as_varied(known, own))), *quantiles, *(peak * factor for factor in FACTORS)
    return dict(zip(LEVELS, map(float, (held_out.scores.max(), *levels)), strict=True))


def append(file: Path, rows: list[dict[str, Any]]) -> None:
    """Append the rows of a run to a CSV file, all or none, with a header if it is new."""
    header = [*COLUMNS, *(name + end for name in LEVELS for end in ("", "_hit"))]
    _folder(file.parent)
    before = file.read_text(encoding="utf-8") if file.is_file() else ",".join(header) + "\n"
    with whole(file) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as stream:
        stream.write(before)
        csv.DictWriter(stream, header, lineterminator="\n").writerows(rows)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
