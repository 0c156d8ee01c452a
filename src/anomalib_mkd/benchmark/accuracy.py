# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Train and test one model on one data set, or on several as one, and write the metrics as rows.

Metrics are anomalib's, on raw scores and maps: no post-processor stands between, since clamping would make ties. All
normal training images train; nothing is validated, so no test image takes part in any choice.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from PIL import Image
from torch import Tensor

from anomalib_mkd.benchmark.rows import (
    INT8,
    JOINT,
    MEAN,
    Row,
    append_rows,
    commit,
    has_run,
    machine,
    read_rows,
    versions,
)
from anomalib_mkd.benchmark.variants import BASELINES, JUDGED_OTHERWISE, NAMED, variant_arguments
from anomalib_mkd.components.precision import uses_bf16
from anomalib_mkd.data import DepthFolder, MultiCategory, MVTecFolder, Recipe, make_dataset

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule
    from anomalib.models.components import AnomalibModule

logger = logging.getLogger(__name__)

ACCELERATOR = "ANOMALIB_MKD_ACCELERATOR"
"""Environment variable with Lightning's name of what to train on; the CPU without it, for what users have."""
RGB_FOLDER = "rgb"
"""Where MVTec 3D-AD's layout has its photos."""
FALSE_ALARMS = 0.05
"""Share of normal images above the threshold at which a recall is reported."""

RESNET18 = "resnet18.tv_in1k"
RESNET18_FILE = "resnet18_tv_in1k_layers1-3_f16.safetensors"

PAPER: dict[str, Any] = {
    "learning_rate": 1e-3,
    "schedule": "constant",
    "value_weight": 0.5,  # Salehi et al. 2021, authors' config for MVTec AD
    "map_scaling": "per_image_p99",
    "opening": True,
    "sigma": 4.0,
    "student_precision": "f32",
}
"""What the paper's protocol changes; a plain VGG gets ``detach_teacher=False`` too, as in the authors' code."""


@dataclass(frozen=True)
class Run:
    """What is trained and tested once.

    Args:
        model: ``Mkd``, ``MixedDistillation``, ``Dcam``, ``Mmrd``, ``Stfpm`` or ``Patchcore``.
        variant: Name of the preset.
        data: Folder under the data root, for example ``mvtec/bottle``, or a name in ``JOINT``, or ``drawn3d/metal``
            for drawn parts with depth.
        seed: Seed of everything.
        weights: Teacher weights: a timm name, or ``quickstart``.
        protocol: ``user``, ``paper`` or ``painted``.
        steps: Training steps; ``None`` = the model's own number.
        batch_size: Training batch.
        arguments: Arguments of the model beyond those of the variant.
    """

    model: str
    variant: str
    data: str
    seed: int
    weights: str
    protocol: str = "user"
    steps: int | None = None
    batch_size: int = 16
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Readable name that tells this run from any other."""
        steps = "auto" if self.steps is None else str(self.steps)
        return (
            f"{self.model}-{self.variant}-{self.protocol}-{self.weights}-{self.data.replace('/', '_')}"
            f"-s{self.seed}-b{self.batch_size}-n{steps}"
        ).lower()


@dataclass(frozen=True)
class Trained:
    """How far a training went.

    Args:
        steps: Optimiser steps taken.
        epochs: Passes over the training images.
        seconds: Wall-clock time, with the reading of images and the caching of features.
        precision: ``f32``, or ``bf16-train`` where the student's passes ran in bf16. Inference is always f32.
    """

    steps: int
    epochs: float
    seconds: float
    precision: str = "f32"


@dataclass(frozen=True)
class Outputs:
    """Raw results for a test set of N images.

    Args:
        scores: Image scores, ``(N,)``.
        labels: True = defective, ``(N,)``.
        maps: Anomaly maps, ``(N, 1, H, W)``.
        masks: True = defective pixel, ``(N, H, W)``.
        paths: Image files, N of them.
    """

    scores: Tensor
    labels: Tensor
    maps: Tensor
    masks: Tensor
    paths: list[str]

    def select(self, chosen: Tensor) -> Outputs:
        """The images where ``chosen`` ``(N,)`` is true."""
        paths = [path for path, keep in zip(self.paths, chosen.tolist(), strict=True) if keep]
        return Outputs(self.scores[chosen], self.labels[chosen], self.maps[chosen], self.masks[chosen], paths)

    @property
    def subsets(self) -> list[str]:
        """Defect type of each image (its folder's name, or with depth beside it that of the folder above)."""
        folders = [Path(path).parent for path in self.paths]
        return [folder.parent.name if folder.name == RGB_FOLDER else folder.name for folder in folders]


def folder_data(root: Path | str, data: str, batch_size: int, seed: int, workers: int = 0) -> MVTecFolder:
    """The data module of a data set in MVTec layout, without validation images.

    Args:
        root: Data root.
        data: Folder under it, with ``train/good``, ``test/<type>`` and ``ground_truth/<type>``.
        batch_size: Training batch.
        seed: Seed of anomalib's splits (none is made here).
        workers: Loader processes.

    Raises:
        FileNotFoundError: If a needed folder is missing.
        ValueError: If an image does not get its own mask.
    """
    datamodule = MVTecFolder(
        root,
        data,
        train_batch_size=batch_size,
        eval_batch_size=8,
        num_workers=workers,
        val_split_mode="none",
        seed=seed,
    )
    for part in ("test/good", "ground_truth"):
        if not (Path(root) / data / part).is_dir():
            msg = f"Expected the folder {part} in {Path(root) / data}, got none. Name a data set that has it."
            raise FileNotFoundError(msg)
    datamodule.setup()
    return datamodule


def depth_data(root: Path | str, data: str, batch_size: int) -> DepthFolder:
    """The data module of a data set in MVTec 3D-AD's layout.

    Every point keeps its height above the plane: by the rule for parts on a table, a bare table has no plane to remove,
    and would come as raw distances, other than every picture with something on it.

    Args:
        root: Data root.
        data: Folder under it.
        batch_size: Training batch.
    """
    datamodule = DepthFolder(
        root, data, train_batch_size=batch_size, eval_batch_size=8, num_workers=0, removal_distance=0.0
    )
    datamodule.setup()
    return datamodule


def draw_depth_data(root: Path, data: str) -> None:
    """Draw parts with depth; their defects show in colour, in depth, or in both.

    Args:
        root: Data root.
        data: ``drawn3d/<category>``.
    """
    folder, category = data.split("/")
    recipe = Recipe(category, picture_size=256, train_images=60, test_good=20, per_defect=20, layout="mvtec3d")
    make_dataset(root / folder, recipe)


def run_data(root: Path | str, run: Run) -> MVTecFolder | MultiCategory | DepthFolder:
    """The data module of a run; arguments and errors as for :func:`folder_data`."""
    if (Path(root) / run.data / "train" / "good" / RGB_FOLDER).is_dir():
        return depth_data(root, run.data, run.batch_size)
    if run.data not in JOINT:
        return folder_data(root, run.data, run.batch_size, run.seed)
    parts = [folder_data(root, name, run.batch_size, run.seed) for name in JOINT[run.data]]
    names = [name.rsplit("/", 1)[-1] for name in JOINT[run.data]]
    return MultiCategory(
        datamodules=parts, categories=names, train_batch_size=run.batch_size, eval_batch_size=8, num_workers=0
    )


def model_arguments(run: Run, shared: Path) -> dict[str, Any]:
    """Arguments of the model's constructor for a run.

    Args:
        run: The run.
        shared: Folder with ``weights/``.

    Raises:
        ValueError: If the variant is unknown, or the model cannot have these weights.
    """
    if run.model in BASELINES:
        variant, fixed = BASELINES[run.model]
        if run.variant != variant or run.weights == "quickstart":
            msg = (
                f"Expected variant {variant!r} and a timm backbone for {run.model}, got {run.variant!r} and "
                f"{run.weights!r}. anomalib's models know neither our variants nor our embedded teacher."
            )
            raise ValueError(msg)
        return {"backbone": run.weights, **fixed, **run.arguments}
    arguments: dict[str, Any] = {"backbone": run.weights}
    if run.variant == "random_teacher":
        arguments["pre_trained"] = False
    elif run.weights == RESNET18:
        arguments["weights"] = str(shared / "weights" / RESNET18_FILE)
    if run.model in NAMED and run.protocol != "painted":  # there, a candidate brings its arguments
        arguments |= variant_arguments(run.model, run.variant)
    elif run.protocol == "paper":
        arguments |= PAPER
        if not run.weights.startswith("resnet"):
            arguments["detach_teacher"] = False
    if run.steps is not None:
        arguments["training_steps"] = run.steps
    return arguments | dict(run.arguments)


def build_model(run: Run, shared: Path) -> AnomalibModule:
    """The untrained model of a run, without post-processor, evaluator and visualizer.

    Args:
        run: The run.
        shared: Folder with ``weights/``.

    Raises:
        ValueError: If the model is unknown.
    """
    off: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}
    package = "anomalib.models" if run.model in BASELINES else "anomalib_mkd"
    models = {"Mkd", *NAMED, *BASELINES}
    if run.model not in models:
        msg = f"Expected a model out of {sorted(models)}, got {run.model!r}. Correct --models."
        raise ValueError(msg)
    model: AnomalibModule = getattr(import_module(package), run.model)(**model_arguments(run, shared), **off)
    return model


class StepLog(Callback):
    """Log the step and the loss ten times per training, where no progress bar can be seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = -1

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log if another tenth is done."""
        del pl_module, batch, batch_idx
        total = int(trainer.estimated_stepping_batches)
        tenth = 10 * trainer.global_step // max(total, 1)
        if tenth != self.last:
            self.last = tenth
            loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
            logger.info("%s: step %d of %d, loss %.4f", self.name, trainer.global_step, total, float(loss))


class OutputCollector(Callback):
    """Keep scores, maps and truth of every test batch."""

    def __init__(self) -> None:
        self.batches: list[Outputs] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Store one batch."""
        del trainer, pl_module, outputs, batch_idx, dataloader_idx
        size = batch.anomaly_map.shape[-2:]
        count = len(batch.image_path)
        self.batches.append(
            Outputs(
                batch.pred_score.detach().cpu().float().reshape(count),
                batch.gt_label.detach().cpu().bool().reshape(count),
                batch.anomaly_map.detach().cpu().float().reshape(count, 1, *size),
                batch.gt_mask.detach().cpu().bool().reshape(count, *size),
                [str(path) for path in batch.image_path],
            ),
        )

    def outputs(self) -> Outputs:
        """All batches as one."""
        return Outputs(
            torch.cat([batch.scores for batch in self.batches]),
            torch.cat([batch.labels for batch in self.batches]),
            torch.cat([batch.maps for batch in self.batches]),
            torch.cat([batch.masks for batch in self.batches]),
            [path for batch in self.batches for path in batch.paths],
        )


def _engine(work: Path, callbacks: Sequence[Callback], **limits: Any) -> Engine:
    """An engine that writes no checkpoint, validates nothing and draws a bar only on a terminal."""
    return Engine(
        default_root_dir=work,
        accelerator=os.environ.get(ACCELERATOR, "cpu"),
        devices=1,
        logger=False,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        limit_val_batches=0,
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
        run: Gives the steps: our models limit themselves, others get ``max_steps``.
        work: Folder for the engine's files.
        callbacks: Further callbacks.
    """
    limits: dict[str, Any] = {}
    if "training_steps" not in model.hparams and run.steps is not None:
        limits = {"max_steps": run.steps, "max_epochs": -1}
    engine = _engine(work, [StepLog(run.run_id), *callbacks], **limits)
    start = time.perf_counter()
    engine.fit(model=model, datamodule=datamodule)
    seconds = time.perf_counter() - start
    steps = engine.trainer.global_step
    return Trained(steps, steps / len(datamodule.train_dataloader()), seconds, train_precision(model))


def train_precision(model: AnomalibModule) -> str:
    """How a row names the precision that a model trains in."""
    return "bf16-train" if uses_bf16(model.device, model.hparams.get("student_precision", "f32")) else "f32"


def test_outputs(model: AnomalibModule, datamodule: AnomalibDataModule, work: Path) -> Outputs:
    """Raw results of a trained model on the whole test set.

    Args:
        model: Trained.
        datamodule: Its data.
        work: Folder for the engine's files.
    """
    collector = OutputCollector()
    _engine(work, [collector]).test(model=model, datamodule=datamodule, verbose=False)
    return collector.outputs()


test_outputs.__test__ = False  # type: ignore[attr-defined]  # not a test, though pytest would collect the name


def int8_outputs(model: Any, datamodule: AnomalibDataModule, outputs: Outputs, work: Path) -> Outputs:
    """Raw results of the same test set by the model's OpenVINO export in 8 bits.

    Args:
        model: Trained.
        datamodule: Its data; training images calibrate.
        outputs: The results of the model itself, for the truth.
        work: Folder for the export.
    """
    file = model.to_openvino(work, compression_type=CompressionType.INT8_PTQ, datamodule=datamodule)
    compiled = openvino.Core().compile_model(file, "CPU")
    results = [compiled(batch.image.numpy()) for batch in datamodule.test_dataloader()]
    scores, maps = (
        torch.from_numpy(np.concatenate([r[name] for r in results])) for name in ("pred_score", "anomaly_map")
    )
    return dataclasses.replace(outputs, scores=scores.flatten(), maps=maps)


def outputs_otherwise(
    run: Run, model: AnomalibModule, datamodule: MVTecFolder | MultiCategory | DepthFolder, work: Path
) -> dict[str, Outputs]:
    """Raw results of a trained default for the variants that only judge otherwise, by their names.

    Args:
        run: The run; none but the default has such variants.
        model: Trained; left as it was.
        datamodule: Its data.
        work: Folder for the engine's files.
    """
    found = {}
    for variant, (path, value) in JUDGED_OTHERWISE.get(run.model, {}).items() if run.variant == "default" else ():
        *parts, name = path.split(".")
        owner = functools.reduce(getattr, parts, model.model)
        before = getattr(owner, name)
        setattr(owner, name, value)
        found[variant] = test_outputs(model, datamodule, work)
        setattr(owner, name, before)
    return found


def measure(outputs: Outputs, protocol: str = "user", *, by_type: bool = False) -> dict[tuple[str, str], float]:
    """Metrics of a test set.

    Args:
        outputs: Raw results.
        protocol: ``paper`` takes defective images only into the pixel AUROC.
        by_type: Whether a defect type gets all metrics, and the recall at 5 % false alarms.

    Returns:
        Value by (metric, subset): image AUROC, pixel AUROC and AUPRO (limit 0.3) of ``all``, and the image AUROC of
        each defect type against all normal images.
    """

    def compute(metric: AUROC | AUPRO, outputs: Outputs) -> float:
        batch: Any = SimpleNamespace(
            scores=_to_unit_range(outputs.scores),
            labels=outputs.labels,
            maps=_to_unit_range(outputs.maps.squeeze(1)),
            masks=outputs.masks.int(),
        )
        metric.update(batch)
        return float(metric.compute())

    pixels = outputs.select(outputs.labels) if protocol == "paper" else outputs
    values = {
        ("image_AUROC", "all"): compute(AUROC(fields=["scores", "labels"]), outputs),
        ("pixel_AUROC", "all"): compute(AUROC(fields=["maps", "masks"]), pixels),
        ("AUPRO", "all"): compute(AUPRO(fields=["maps", "masks"], fpr_limit=0.3), outputs),
    }
    subsets = outputs.subsets
    defective = dict(zip(subsets, outputs.labels.tolist(), strict=True))
    for name in sorted(name for name, is_defect in defective.items() if is_defect):
        chosen = torch.tensor([subset == name for subset in subsets]) | ~outputs.labels
        part = outputs.select(chosen)
        values["image_AUROC", name] = compute(AUROC(fields=["scores", "labels"]), part)
        if by_type:
            values["pixel_AUROC", name] = compute(AUROC(fields=["maps", "masks"]), part)
            values["AUPRO", name] = compute(AUPRO(fields=["maps", "masks"], fpr_limit=0.3), part)
            threshold = torch.quantile(part.scores[~part.labels], 1 - FALSE_ALARMS)
            values["recall", name] = float((part.scores[part.labels] > threshold).float().mean())
    return values


def _to_unit_range(values: Tensor) -> Tensor:
    """Stretch to 0..1, in order: torchmetrics takes numbers outside for logits, and its sigmoid ties large ones."""
    low, high = values.aminmax()
    return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)


def by_category(outputs: Outputs, datamodule: MVTecFolder | MultiCategory | DepthFolder) -> dict[str, Outputs]:
    """Raw results of each category.

    Args:
        outputs: Those of the whole test set.
        datamodule: Where the test set comes from.
    """
    if not isinstance(datamodule, MultiCategory):
        return {datamodule.category.rsplit("/", 1)[-1]: outputs}
    owners = datamodule.categories_of(SimpleNamespace(image_path=outputs.paths))
    return {name: outputs.select(torch.tensor([owner == name for owner in owners])) for name in datamodule.categories}


def run_rows(
    run: Run,
    trained: Trained,
    outputs: Mapping[str, Outputs],
    threads: int,
    source: str,
    extra: Mapping[str, float] | None = None,
) -> list[Row]:
    """Rows of a run: of each category, and of joint data the mean over categories, whatever their sizes.

    Args:
        run: The run.
        trained: How far its training went.
        outputs: Its raw results by category.
        threads: Threads used.
        source: Commit of the code.
        extra: Further values of the run as a whole by metric, for example times.
    """
    protocol = run.protocol if run.model == "Mkd" else "user"
    values = {
        (category, metric, subset): value
        for category, part in outputs.items()
        for (metric, subset), value in measure(part, protocol, by_type=run.model == "Mmrd").items()
    }
    whole = MEAN if run.data in JOINT else next(iter(outputs))
    if whole == MEAN:
        for metric in dict.fromkeys(metric for _, metric, _ in values):
            values[MEAN, metric, "all"] = statistics.fmean(values[category, metric, "all"] for category in outputs)
    values |= {(whole, metric, "all"): value for metric, value in (extra or {}).items()}
    return [
        Row(
            run_id=run.run_id,
            model=run.model,
            variant=run.variant,
            data=run.data,
            category=category,
            subset=subset,
            seed=run.seed,
            metric=metric,
            value=value,
            epochs=trained.epochs,
            image_size=next(iter(outputs.values())).maps.shape[-1],
            precision=trained.precision,
            weights=run.weights,
            protocol=run.protocol,
            machine=machine(threads),
            versions=versions(),
            commit=source,
        )
        for (category, metric, subset), value in values.items()
    ]


def save_heat_maps(outputs: Outputs, folder: Path, count: int = 4) -> list[Path]:
    """Pictures to look at: image, heat map and true mask side by side.

    One scale serves all pictures: from 0 to the larger of the 99.9th percentile over normal images and the median peak
    of the defective ones.

    Args:
        outputs: Raw results.
        folder: Where to write; created with a ``.gitignore`` of its own.
        count: Defective images shown; one normal image joins them.

    Returns:
        The files written.
    """
    from matplotlib import colormaps  # noqa: PLC0415  # slow to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    defective = torch.nonzero(outputs.labels).flatten().tolist()
    normal = torch.nonzero(~outputs.labels).flatten().tolist()
    places = np.linspace(0, len(defective) - 1, min(count, len(defective))).astype(int)
    chosen = [*(defective[place] for place in places), *normal[:1]]
    tops = [float(outputs.maps[defective].amax((1, 2, 3)).median())] if defective else [0.0]
    if normal:
        tops.append(float(np.quantile(outputs.maps[normal].numpy(), 0.999)))
    top = max(*tops, 1e-12)
    files = []
    for index in chosen:
        size = (outputs.maps.shape[-1], outputs.maps.shape[-2])
        image = np.asarray(Image.open(outputs.paths[index]).convert("RGB").resize(size))
        level = (outputs.maps[index, 0].numpy() / top).clip(0, 1)
        heat = (colormaps["inferno"](level)[..., :3] * 255).astype(np.uint8)
        mask = np.repeat(outputs.masks[index].numpy()[..., None], 3, axis=2).astype(np.uint8) * 255
        file = folder / f"{outputs.subsets[index]}_{Path(outputs.paths[index]).stem}.png"
        Image.fromarray(np.concatenate([image, heat, mask], axis=1)).save(file)
        files.append(file)
    return files


def measure_run(
    run: Run,
    *,
    results: Path,
    shared: Path,
    data_root: Path,
    pictures: Path | None = None,
    source: str | None = None,
    int8: bool = False,
    build: Callable[[Run, Path], AnomalibModule] = build_model,
) -> list[Row]:
    """Train, test and append the rows of one run, unless the file has it.

    Args:
        run: The run.
        results: CSV file.
        shared: Folder with ``weights/``.
        data_root: Folder that ``run.data`` lies under.
        pictures: Folder for heat maps, a folder per category of joint data; none are drawn if ``None``.
        source: Commit of the code; found if ``None``.
        int8: Also measure the export in 8 bits, under a ``run_id`` with ``-int8``.
        build: Makes the model.

    Returns:
        The new rows; none if the run was there.
    """
    int8_id = f"{run.run_id}{INT8}"
    known = {name for name in (run.run_id, int8_id) if has_run(results, name)}
    if known >= ({run.run_id, int8_id} if int8 else {run.run_id}):
        logger.info("%s: there, skipped", run.run_id)
        return []
    source = source or commit()
    seed_everything(run.seed, verbose=False)
    work = Path(tempfile.mkdtemp(prefix="anomalib_mkd_"))
    try:
        datamodule = run_data(data_root, run)
        model = build(run, shared)
        trained = train(model, datamodule, run, work)
        start = time.perf_counter()
        outputs = test_outputs(model, datamodule, work)
        seconds = time.perf_counter() - start
        in_8_bits = int8_outputs(model, datamodule, outputs, work) if int8 else None
        otherwise = outputs_otherwise(run, model, datamodule, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    extra = {"train_seconds": trained.seconds, "test_seconds": seconds}
    parts = by_category(outputs, datamodule)
    rows = run_rows(run, trained, parts, torch.get_num_threads(), source, extra)
    if in_8_bits:
        reached = dataclasses.replace(trained, precision="int8")
        quantized = run_rows(run, reached, by_category(in_8_bits, datamodule), torch.get_num_threads(), source)
        rows += [dataclasses.replace(row, run_id=int8_id) for row in quantized]
    for variant, found in otherwise.items():
        other = dataclasses.replace(run, variant=variant)
        if not has_run(results, other.run_id):
            rows += run_rows(other, trained, by_category(found, datamodule), torch.get_num_threads(), source)
    rows = [row for row in rows if row.run_id not in known]
    append_rows(results, rows)
    if pictures is not None:
        for category, part in parts.items():
            save_heat_maps(part, pictures / run.run_id / (category if run.data in JOINT else ""))
    whole = MEAN if run.data in JOINT else next(iter(parts))
    shown = [row for row in rows if (row.run_id, row.category, row.subset) == (run.run_id, whole, "all")]
    summary = ", ".join(f"{row.metric} {row.value:.4f}" for row in shown)
    logger.info("%s: %d steps, %s", run.run_id, trained.steps, summary)
    return rows


def plan(
    models: Sequence[str],
    weights: Sequence[str],
    variants: Sequence[str],
    data: Sequence[str],
    seeds: Sequence[int],
    steps: int | None,
    batch_size: int,
) -> list[Run]:
    """All runs that the arguments span; the first seed of everything comes first.

    Args:
        models: Class names.
        weights: Teacher weights.
        variants: Presets of our models; those of anomalib have one each.
        data: Folders under the data root, or names in ``JOINT``.
        seeds: Seeds.
        steps: Training steps; ``None`` = the model's own (Stfpm: 100; Patchcore always takes one pass).
        batch_size: Training batch.
    """
    runs: list[Run] = []
    for seed in seeds:
        for model in models:
            for weight in weights:
                if model in BASELINES and weight == "quickstart":
                    continue
                for variant in (BASELINES[model][0],) if model in BASELINES else variants:
                    protocol = "paper" if variant == "paper" else "user"
                    count = {"Stfpm": steps or 100, "Patchcore": None}.get(model, steps)
                    runs += [Run(model, variant, name, seed, weight, protocol, count, batch_size) for name in data]
    return runs


class Snapshots(Callback):
    """Keep the weights at evenly spaced steps of the last half of a training.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.steps: set[int] = set()
        self.states: dict[int, dict[str, Tensor]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the steps, now that the length of the training is known."""
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
    """Evenly spaced step numbers over the last half of a training, the last step included.

    Args:
        steps: Length of the training.
        count: How many.

    Example:
        >>> late_steps(300, 6)
        [175, 200, 225, 250, 275, 300]
    """
    return [steps - (count - 1 - index) * (steps // 2 // count) for index in range(count)]


def measure_stability(
    run: Run,
    *,
    results: Path,
    shared: Path,
    data_root: Path,
    checkpoints: int = 6,
    source: str | None = None,
    build: Callable[[Run, Path], AnomalibModule] = build_model,
) -> None:
    """Single late checkpoints at a constant learning rate, beside the delivered weights of the user's recipe.

    The test figures are reported only; nothing is chosen by them.

    Args:
        run: The run with the user's recipe; needs ``steps``.
        results: CSV file.
        shared: Folder with ``weights/``.
        data_root: Folder that ``run.data`` lies under.
        checkpoints: Number of late checkpoints.
        source: Commit of the code; found if ``None``.
        build: Makes the model.

    Raises:
        ValueError: If ``run.steps`` is missing.
    """
    if run.steps is None:
        msg = "Expected a number of steps for the stability runs, got None. Pass --steps."
        raise ValueError(msg)
    source = source or commit()
    measure_run(run, results=results, shared=shared, data_root=data_root, source=source, build=build)
    constant = dataclasses.replace(run, variant="constant_step", arguments={**run.arguments, "schedule": "constant"})
    before, after = constant.run_id.split("constant_step")
    if any(
        row.run_id.startswith(f"{before}constant_step") and row.run_id.endswith(after) for row in read_rows(results)
    ):
        logger.info("%s: there, skipped", constant.run_id)
        return
    seed_everything(run.seed, verbose=False)
    work = Path(tempfile.mkdtemp(prefix="anomalib_mkd_"))
    try:
        datamodule = run_data(data_root, run)
        model = build(constant, shared)
        snapshots = Snapshots(checkpoints)
        trained = train(model, datamodule, constant, work, [snapshots])
        per_epoch = trained.steps / trained.epochs
        rows: list[Row] = []
        for step, state in sorted(snapshots.states.items()):
            model.model.load_state_dict(state)
            single = dataclasses.replace(constant, variant=f"constant_step{step}")
            outputs = test_outputs(model, datamodule, work)
            reached = dataclasses.replace(trained, steps=step, epochs=step / per_epoch)
            rows += run_rows(single, reached, by_category(outputs, datamodule), torch.get_num_threads(), source)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    append_rows(results, rows)
    logger.info("%s: %d checkpoints tested", constant.run_id, len(snapshots.states))
