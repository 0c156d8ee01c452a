# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Train and test one model on one data set, or on several as one, and write the metrics as rows.

Metrics are anomalib's, on raw scores and maps, without a post-processor. All normal training images are used for
training and there is no validation, so no test image influences any choice.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from lightning.pytorch import Callback, seed_everything

from anomalib_mkd.deploy.graph import core
from anomalib_mkd.training.precision import uses_bf16
from benchmark.outputs import OutputCollector, Outputs, by_category, measure, save_heat_maps
from benchmark.rows import INT8, JOINT, MEAN, Row, append_rows, commit, has_run
from benchmark.runs import Run, build_model, run_data, run_row, wanted_accelerator
from benchmark.variants import PREDICTED_OTHERWISE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from anomalib.data import AnomalibDataModule
    from anomalib.models.components import AnomalibModule
    from lightning.pytorch import LightningModule, Trainer

    from anomalib_mkd.data import DepthFolder, MultiCategory, Parts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """Extent of a training.

    Args:
        steps: Optimiser steps taken.
        epochs: Passes over the training images.
        seconds: Wall-clock time, including reading images and caching features.
        precision: ``f32``, or ``bf16-train`` if the student's passes ran in bf16. Inference is always f32.
        device: That it ran on.
    """

    steps: int
    epochs: float
    seconds: float
    precision: str
    device: torch.device


class StepLog(Callback):
    """Log the step and the loss ten times per training, for files that are read hours later.

    Args:
        name: Start of each line.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log after each tenth of the training."""
        del pl_module, batch, batch_idx
        total = int(trainer.estimated_stepping_batches)
        tenth = 10 * trainer.global_step // max(total, 1)
        if tenth != self.last:
            self.last = tenth
            loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
            logger.info("%s: step %d of %d, loss %.4f", self.name, trainer.global_step, total, float(loss))


def build_engine(work: Path, callbacks: Sequence[Callback], *, validates: bool = False, **limits: Any) -> Engine:
    """Build an engine that writes no checkpoints, and shows a progress bar only on a terminal."""
    return Engine(
        default_root_dir=work,
        accelerator=wanted_accelerator(),
        devices=1,
        logger=False,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        limit_val_batches=None if validates else 0,
        callbacks=[ModelCheckpoint(dirpath=work, save_top_k=0), *callbacks],
        **limits,
    )


def train(
    model: AnomalibModule, datamodule: AnomalibDataModule, run: Run, work: Path, callbacks: Sequence[Callback] = ()
) -> Trained:
    """Train one model.

    Args:
        model: Untrained.
        datamodule: Its data.
        run: Sets the number of steps: our models limit themselves, others get ``max_steps``.
        work: Folder for the engine's files.
        callbacks: Further callbacks.
    """
    limits: dict[str, Any] = {}
    if "training_steps" not in model.hparams and run.steps:
        limits = {"max_steps": run.steps, "max_epochs": -1}
    engine = build_engine(work, [StepLog(run.name), *callbacks], **limits)
    start = time.perf_counter()
    engine.fit(model=model, datamodule=datamodule)
    seconds = time.perf_counter() - start
    steps = engine.trainer.global_step
    return Trained(steps, steps / len(datamodule.train_dataloader()), seconds, train_precision(model), device_of(model))


def train_precision(model: AnomalibModule) -> str:
    """Return the name of a trained model's training precision in rows."""
    return "bf16-train" if uses_bf16(device_of(model), model.hparams.get("student_precision", "f32")) else "f32"


def device_of(model: AnomalibModule) -> torch.device:
    """Return the device of a model's last training or test, after which Lightning moves it to the CPU."""
    device: torch.device = model.trainer.strategy.root_device
    return device


def test_outputs(model: AnomalibModule, datamodule: AnomalibDataModule, work: Path) -> Outputs:
    """Return the raw results of a trained model on the whole test set.

    Args:
        model: Trained.
        datamodule: Its data.
        work: Folder for the engine's files.
    """
    collector = OutputCollector()
    build_engine(work, [collector]).test(model=model, datamodule=datamodule, verbose=False)
    return collector.outputs()


test_outputs.__test__ = False  # type: ignore[attr-defined]  # not a test, though pytest would collect the name


def int8_outputs(model: Any, datamodule: AnomalibDataModule, outputs: Outputs, work: Path) -> Outputs:
    """Return the raw results of the model's OpenVINO export in 8 bits on the same test set.

    Args:
        model: Trained.
        datamodule: Its data; training images calibrate the export.
        outputs: The results of the model itself, for the ground truth.
        work: Folder for the export.
    """
    file = model.to_openvino(work, compression_type=CompressionType.INT8_PTQ, datamodule=datamodule)
    dataset: Any = datamodule.test_data
    # loaders may have their own order: that of joined data goes category by category
    index = {str(path): number for number, path in enumerate(dataset.samples["image_path"])}
    return openvino_outputs(file, (model.raw_inputs(dataset[index[path]]) for path in outputs.paths), outputs)


def openvino_outputs(file: Path, inputs: Iterable[Sequence[torch.Tensor]], outputs: Outputs) -> Outputs:
    """Return the raw results of an OpenVINO model, compiled with default settings.

    Args:
        file: The model.
        inputs: The model's inputs for each image of the test set, ``(C, H, W)`` each.
        outputs: Results of another model on the same images in the same order, for the ground truth.
    """
    compiled = core().compile_model(file, "CPU")
    results = [compiled([value[None].numpy() for value in given]) for given in inputs]
    scores, maps = (
        torch.from_numpy(np.concatenate([r[name] for r in results])) for name in ("pred_score", "anomaly_map")
    )
    return dataclasses.replace(outputs, scores=scores.flatten(), maps=maps)


def outputs_otherwise(
    run: Run, model: AnomalibModule, datamodule: Parts | MultiCategory | DepthFolder, work: Path
) -> dict[str, Outputs]:
    """Return raw results of a trained default model for each variant that differs only in prediction, by name.

    Args:
        run: The run; only the default has such variants.
        model: Trained; unchanged afterwards.
        datamodule: Its data.
        work: Folder for the engine's files.
    """
    found = {}
    for variant, attributes in PREDICTED_OTHERWISE.get(run.model, {}).items() if run.variant == "default" else ():
        before = {path: operator.attrgetter(path)(model.model) for path in attributes}
        _assign(model.model, attributes)
        found[variant] = test_outputs(model, datamodule, work)
        _assign(model.model, before)
    return found


def _assign(model: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes of a model, or of its parts, by dotted names."""
    for path, value in attributes.items():
        *parts, name = path.split(".")
        setattr(functools.reduce(getattr, parts, model), name, value)


def run_rows(
    run: Run,
    trained: Trained,
    outputs: Mapping[str, Outputs],
    source: str,
    extra: Mapping[str, float] | None = None,
) -> list[Row]:
    """Build the rows of a run: of each category, and for joint data the unweighted mean over categories.

    A category without masks has no metric of pixels, and is not in its mean.

    Args:
        run: The run.
        trained: Extent of its training.
        outputs: Its raw results by category.
        source: Commit of the code.
        extra: Further values of the run as a whole by metric, for example times.
    """
    protocol = run.protocol if run.model == "Mkd" else "user"
    values = {
        (category, metric, subset): value
        for category, part in outputs.items()
        for (metric, subset), value in measure(part, protocol, by_type=run.model == "Mmrd").items()
    }
    if run.category == MEAN:
        for metric in dict.fromkeys(metric for _, metric, _ in values):
            of_each = [value for (_, name, subset), value in values.items() if (name, subset) == (metric, "all")]
            values[MEAN, metric, "all"] = statistics.fmean(of_each)
    values |= {(run.category, metric, "all"): value for metric, value in (extra or {}).items()}
    size = next(iter(outputs.values())).maps.shape[-1]
    return [
        run_row(
            run,
            metric,
            value,
            category=category,
            subset=subset,
            epochs=trained.epochs,
            image_size=size,
            precision=trained.precision,
            source=source,
            device=trained.device,
        )
        for (category, metric, subset), value in values.items()
    ]


def measure_run(
    run: Run,
    *,
    results: Path,
    data_root: Path,
    pictures: Path | None = None,
    source: str | None = None,
    int8: bool = False,
    otherwise: bool = True,
    build: Callable[[Run], AnomalibModule] = build_model,
) -> list[Row]:
    """Train, test and append the rows of one run, unless the file already has it.

    Args:
        run: The run.
        results: CSV file.
        data_root: Folder that contains ``run.data``.
        pictures: Folder for heat maps, with a folder per category of joint data; none are drawn if ``None``.
        source: Commit of the code; determined if ``None``.
        int8: Whether to also measure the export in 8 bits.
        otherwise: Whether to also measure a trained default as the variants that differ only in prediction.
        build: Builds the model.

    Returns:
        The new rows; none if the file already had the run.
    """
    wanted = {run.key, run.key._replace(int8=int8)}
    known = {key for key in wanted if has_run(results, key)}
    if known == wanted:
        logger.info("%s: already measured, skipped", run.name)
        return []
    source = source or commit()
    seed_everything(run.seed, verbose=False)
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        work = Path(folder)
        datamodule = run_data(data_root, run)
        model = build(run)
        trained = train(model, datamodule, run, work)
        start = time.perf_counter()
        outputs = test_outputs(model, datamodule, work)
        seconds = time.perf_counter() - start
        in_8_bits = int8_outputs(model, datamodule, outputs, work) if int8 else None
        others = outputs_otherwise(run, model, datamodule, work) if otherwise else {}
    extra = {"train_seconds": trained.seconds, "test_seconds": seconds}
    parts = by_category(outputs, datamodule)
    rows = run_rows(run, trained, parts, source, extra)
    if in_8_bits:
        rows += run_rows(run, dataclasses.replace(trained, precision=INT8), by_category(in_8_bits, datamodule), source)
    for variant, found in others.items():
        other = dataclasses.replace(run, variant=variant)
        if not has_run(results, other.key):
            rows += run_rows(other, trained, by_category(found, datamodule), source)
    rows = [row for row in rows if row.key not in known]
    append_rows(results, rows)
    if pictures is not None:
        for category, part in parts.items():
            save_heat_maps(part, pictures / run.name / (category if run.data in JOINT else ""))
    shown = [row for row in rows if (row.key, row.category, row.subset) == (run.key, run.category, "all")]
    summary = ", ".join(f"{row.metric} {row.value:.4f}" for row in shown)
    logger.info("%s: %d steps, %s", run.name, trained.steps, summary)
    return rows
