# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Single late checkpoints at a constant learning rate, compared with the final weights of the user's recipe."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from benchmark.accuracy import measure_run, run_rows, test_outputs, train
from benchmark.outputs import by_category
from benchmark.rows import Row, append_rows, commit, read_rows
from benchmark.runs import Run, build_model, run_data
from benchmark.variants import CONSTANT

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomalib.models.components import AnomalibModule
    from torch import Tensor

logger = logging.getLogger(__name__)


class Snapshots(Callback):
    """Keep the weights at evenly spaced steps of the last half of a training.

    Args:
        count: Number of steps.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.steps: set[int] = set()
        self.states: dict[int, dict[str, Tensor]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the steps, now that the length of the training is known."""
        del pl_module
        self.steps = set(late_steps(int(trainer.estimated_stepping_batches), self.count))

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: AnomalibModule,  # type: ignore[override]  # the only kind that runs here
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Copy the weights if this step is one of them."""
        del outputs, batch, batch_idx
        if trainer.global_step in self.steps and trainer.global_step not in self.states:
            state = pl_module.model.state_dict()
            self.states[trainer.global_step] = {name: value.detach().clone() for name, value in state.items()}


def late_steps(steps: int, count: int) -> list[int]:
    """Return evenly spaced step numbers over the last half of a training, including the last step.

    Args:
        steps: Length of the training.
        count: Number of steps to return.

    Example:
        >>> late_steps(300, 6)
        [175, 200, 225, 250, 275, 300]
    """
    return [steps - (count - 1 - index) * (steps // 2 // count) for index in range(count)]


def measure_stability(
    run: Run,
    *,
    results: Path,
    data_root: Path,
    checkpoints: int = 6,
    source: str | None = None,
    build: Callable[[Run], AnomalibModule] = build_model,
) -> None:
    """Measure single late checkpoints at a constant learning rate, and the final weights of the user's recipe.

    The test figures are only reported; nothing is chosen by them.

    Args:
        run: The run with the user's recipe.
        results: CSV file.
        data_root: Folder that contains ``run.data``.
        checkpoints: Number of late checkpoints.
        source: Commit of the code; determined if ``None``.
        build: Builds the model.
    """
    source = source or commit()
    measure_run(run, results=results, data_root=data_root, source=source, otherwise=False, build=build)
    constant = dataclasses.replace(run, variant=CONSTANT, arguments={**run.arguments, "schedule": "constant"})

    tested = [row for row in read_rows(results) if row.variant.startswith(CONSTANT)]
    if any(row.key == dataclasses.replace(constant, variant=row.variant).key for row in tested):
        logger.info("%s: already measured, skipped", constant.name)
        return
    seed_everything(run.seed, verbose=False)
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        work = Path(folder)
        datamodule = run_data(data_root, run)
        model = build(constant)
        snapshots = Snapshots(checkpoints)
        trained = train(model, datamodule, constant, work, [snapshots])
        per_epoch = trained.steps / trained.epochs
        rows: list[Row] = []
        for step, state in sorted(snapshots.states.items()):
            model.model.load_state_dict(state)
            single = dataclasses.replace(constant, variant=f"{CONSTANT}{step}")
            outputs = test_outputs(model, datamodule, work)
            reached = dataclasses.replace(trained, steps=step, epochs=step / per_epoch)
            rows += run_rows(single, reached, by_category(outputs, datamodule), source)
    append_rows(results, rows)
    logger.info("%s: %d checkpoints tested", constant.name, len(snapshots.states))
