# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Many short trainings, and whether one of them collapsed: judged on held-out normal images, without any label."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib_mkd.training.divergence import DivergedError, DivergenceGuard
from lightning.pytorch import seed_everything

from anomalib_mkd.data import MVTecFolder
from anomalib_mkd.quickstart.machine import machine
from benchmark.accuracy import train, train_precision
from benchmark.rows import Row, append_rows, commit, has_run, versions
from benchmark.runs import Run, build_model
from benchmark.selection import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomalib.models.components import AnomalibModule

logger = logging.getLogger(__name__)

METRIC = "collapsed"


class HeldOutGuard(DivergenceGuard):
    """Looks for the signs of a diverged student on the validation images, and remembers them."""

    def __init__(self) -> None:
        super().__init__("warn")
        self.found: list[str] = []

    def signs(self, step: int, module: Any, batch: Any) -> list[str]:
        """Describe what looks diverged, on other images than those given."""
        del batch
        held_out = next(module.normal_batches(dataset=module.trainer.datamodule.val_data))
        signs = super().signs(step, module, held_out)
        self.found += signs
        return signs


def measure_short_run(
    run: Run,
    *,
    results: Path,
    shared: Path,
    data_root: Path,
    source: str | None = None,
    build: Callable[[Run, Path], AnomalibModule] = build_model,
) -> list[Row]:
    """Train on four fifths of the normal training images, and append one row, unless the file has it.

    Args:
        run: The run, with the number of its steps; its model is one that is judged level by level.
        results: CSV file.
        shared: Folder with ``weights/``.
        data_root: Folder that ``run.data`` lies under.
        source: Commit of the code; found if ``None``.
        build: Makes the model.

    Returns:
        The row ``collapsed``: 1 where the loss was no number or the guard saw a sign on the other fifth, else 0. None
        if the run was there.
    """
    if has_run(results, run.run_id):
        logger.info("%s: there, skipped", run.run_id)
        return []
    source = source or commit()
    seed_everything(run.seed, verbose=False)
    datamodule = MVTecFolder(
        data_root,
        run.data,
        train_batch_size=run.batch_size,
        num_workers=0,
        val_split_mode="from_train",
        val_split_ratio=HELD_OUT,
        seed=run.seed,
    )
    model, guard = build(run, shared), HeldOutGuard()
    work = Path(tempfile.mkdtemp(prefix="anomalib_mkd_"))
    try:
        train(model, datamodule, run, work, [guard])
    except DivergedError as error:
        guard.found.append(str(error))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sample: Any = datamodule.train_data[0]  # resized as the model asked for
    row = Row(
        run_id=run.run_id,
        model=run.model,
        variant=run.variant,
        data=run.data,
        category=run.data.rsplit("/", 1)[-1],
        subset="all",
        seed=run.seed,
        metric=METRIC,
        value=float(bool(guard.found)),
        epochs=(run.steps or 0) / len(datamodule.train_dataloader()),
        image_size=sample.image.shape[-1],
        precision=train_precision(model),
        weights=run.weights,
        protocol=run.protocol,
        machine=machine(torch.get_num_threads()),
        versions=versions(),
        commit=source,
    )
    append_rows(results, [row])
    logger.info("%s: %s", run.run_id, "; ".join(guard.found) or "no sign of a collapse")
    return [row]
