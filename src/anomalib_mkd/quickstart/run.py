# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The stages of the first run, each using the part of anomalib that users will use themselves."""

from __future__ import annotations

import inspect
import logging
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC, Evaluator
from lightning.pytorch import seed_everything

from anomalib_mkd import models
from anomalib_mkd.check import check_layout
from anomalib_mkd.data import Parts, Quickstart
from anomalib_mkd.data.reading import image_of
from anomalib_mkd.data.synthetic import CATEGORIES
from anomalib_mkd.deploy.graph import EXACT
from anomalib_mkd.quickstart.progress import Plan, Stages
from anomalib_mkd.results.callback import PAGE, TABLE, Results
from anomalib_mkd.results.machine import machine
from anomalib_mkd.results.verdicts import sentence
from anomalib_mkd.terminal.bar import Bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomalib.data import AnomalibDataModule
    from anomalib.models.components import AnomalibModule

    from anomalib_mkd.quickstart.weights import Choice

logger = logging.getLogger(__name__)

COMPARED = 100  # maximum number of test images on which to compare OpenVINO with the checkpoint
SCORE_TOLERANCE = 1e-3  # of scores in 0..1
# Of maps in 0..1, mean over pixels: rounding can change which pixel was a pool's maximum, and then a spot of the map
# changes; so does another order of summation in torch itself.
MAP_TOLERANCE = 2e-3


def open_data(data: str, batch_size: int, seed: int) -> AnomalibDataModule:
    """Open or draw the images. One in five of the good training images sets the threshold.

    Args:
        data: Category of the embedded data, or a folder in MVTec AD's layout.
        batch_size: Images per training step.
        seed: Seed for selecting the training images that set the threshold.

    Raises:
        OSError: If there is no such category or folder, the folder lacks a part, or the images cannot be written.
        ValueError: If images or masks cannot be used.
    """
    pictures: AnomalibDataModule
    if data in CATEGORIES and Path(data).is_dir():
        msg = f"Expected the parts that are drawn or a folder, got '{data}', which is both. Name the folder ./{data}."
        raise ValueError(msg)
    if data in CATEGORIES:
        pictures = Quickstart(category=data, train_batch_size=batch_size, seed=seed)  # type: ignore[arg-type]
    elif Path(data).exists():
        folder = Path(data).resolve()
        for warning in check_layout(folder):
            logger.warning("%s", warning)
        pictures = Parts(folder, train_batch_size=batch_size, num_workers=0, seed=seed)
    else:
        names = ", ".join(CATEGORIES)
        msg = f"Expected {names} or a folder as --data, got '{data}', which does not exist. Set --data to one of them."
        raise FileNotFoundError(msg)
    pictures.prepare_data()
    pictures.setup()
    return pictures


def teacher_of(name: str) -> str:
    """Return the default teacher of a model, by timm's name.

    Args:
        name: Class of the model.
    """
    backbone: str = inspect.signature(getattr(models, name)).parameters["backbone"].default
    return backbone


def evaluator() -> Evaluator:
    """Build the test metrics; pixel metrics are skipped if the images have no masks."""
    pixels = ["anomaly_map", "gt_mask"]
    return Evaluator(
        test_metrics=[
            AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
            AUROC(fields=pixels, prefix="pixel_", strict=False),
            AUPRO(fields=pixels, prefix="pixel_", strict=False),
        ]
    )


def metric_lines(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Format names and values of the metrics for the summary.

    Args:
        values: What a test with :func:`evaluator` returns.
    """
    names = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_AUPRO": "AUPRO"}
    lines = [(name, f"{100 * values[key]:.1f} %") for key, name in names.items() if key in values]
    return lines if "pixel_AUPRO" in values else [*lines, ("pixel AUROC, AUPRO", "no masks, so not measured")]


@dataclass(frozen=True)
class Agreement:
    """Difference between OpenVINO's predictions and the checkpoint's, and the time of each.

    Attributes:
        pictures: Number of images compared.
        score: Largest difference of scores, which lie in 0..1.
        anomaly_map: Largest mean difference of maps, which lie in 0..1.
        torch_ms: Median milliseconds per image in torch, one image at a time.
        openvino_ms: The same in OpenVINO.
    """

    pictures: int
    score: float
    anomaly_map: float
    torch_ms: float
    openvino_ms: float

    def __str__(self) -> str:
        """Summarise the differences."""
        return f"scores within {self.score:.0e}, maps within {self.anomaly_map:.0e} of 0..1"


def compare(model: AnomalibModule, inferencer: OpenVINOInferencer, paths: Sequence[str]) -> Agreement:
    """Predict on images with both, and compare the predictions.

    Args:
        model: The checkpoint.
        inferencer: Its export.
        paths: Paths of the images.

    Raises:
        RuntimeError: If the predictions differ.
    """
    scores, maps, torch_times, openvino_times = [], [], [], []
    for path in (paths[0], *paths):  # the first one warms up
        picture = image_of(path)[None]
        start = time.perf_counter()
        with torch.inference_mode():
            ours = model(picture)
        middle = time.perf_counter()
        theirs = inferencer.predict(picture)
        end = time.perf_counter()
        scores.append(_mean_difference(ours.pred_score, theirs.pred_score))
        maps.append(_mean_difference(ours.anomaly_map, theirs.anomaly_map))
        torch_times.append(1000 * (middle - start))
        openvino_times.append(1000 * (end - middle))
    if not (max(scores) <= SCORE_TOLERANCE and max(maps) <= MAP_TOLERANCE):  # NaN does not agree
        msg = (
            f"Expected OpenVINO to predict as the checkpoint does, to {SCORE_TOLERANCE} in scores and {MAP_TOLERANCE} "
            f"in maps, got differences of {max(scores):.2g} and {max(maps):.2g}. Please report this with the line "
            f"'{machine()}'."
        )
        raise RuntimeError(msg)
    return Agreement(
        len(paths),
        max(scores),
        max(maps),
        statistics.median(torch_times[1:]),
        statistics.median(openvino_times[1:]),
    )


def _mean_difference(ours: torch.Tensor, theirs: Any) -> float:
    """Compute the mean absolute difference of a prediction in torch from one in NumPy."""
    return float((ours.flatten() - torch.as_tensor(theirs).flatten()).abs().mean())


def run(data: AnomalibDataModule, name: str, choice: Choice, output: Path, steps: int, seed: int) -> Result:
    """Train, test, export and compare.

    Args:
        data: The images.
        name: Class of the model.
        choice: Weights of the teacher.
        output: Folder in which anomalib makes a new folder per run.
        steps: Training steps, rounded up to whole epochs.
        seed: Seed of the student's initial weights and of the order of the images.

    Raises:
        OSError: If the teacher's weights cannot be read.
        RuntimeError: If they cannot be had or do not fit, or if OpenVINO predicts differently.
    """
    seed_everything(seed, verbose=False)
    model_class = getattr(models, name)
    model = model_class(weights=choice.weights, training_steps=steps)
    model.model.teacher.prepare()  # before the bar: weights may be missing
    steps_per_epoch = len(data.train_dataloader())
    paths = list(data.test_data.samples.image_path)
    good = [*data.train_data.samples.image_path, *data.val_data.samples.image_path]
    plan = Plan(
        steps=math.ceil(steps / steps_per_epoch) * steps_per_epoch,
        batch_size=data.train_batch_size,
        good=len(good),
        tests=len(paths),
        compared=min(len(paths), COMPARED),
    )
    bar = Bar("[2/5] Training", plan.total, "% of the run")
    try:
        engine = Engine(
            default_root_dir=output,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Stages(plan, bar)],
        )
        engine.fit(model=model, datamodule=data)
        # not before: AUPRO's limit in a checkpoint would keep other models from loading it
        model.evaluator = evaluator()
        (values,) = engine.test(model=model, datamodule=data, verbose=False)
        trainer: Any = engine.trainer
        results = next(each for each in trainer.callbacks if isinstance(each, Results))
        checkpoint = Path(str(engine.best_model_path))

        bar.update(plan.until_export, title="[4/5] Exporting to OpenVINO")
        exported = engine.export(model=model, export_type=ExportType.OPENVINO, ckpt_path=checkpoint)
        assert exported is not None  # noqa: S101  # for the type checker: it is None only for other kinds

        bar.update(plan.until_comparison, title="[5/5] Comparing OpenVINO with the checkpoint")
        inferencer = OpenVINOInferencer(exported, device="CPU", config=EXACT)
        agreement = compare(model_class.load_from_checkpoint(checkpoint).eval(), inferencer, paths[:COMPARED])
        bar.update(plan.total)
    finally:
        bar.close()

    folder = checkpoint.parents[2]
    lines = [
        ("report", str(_shown(folder / PAGE))),
        ("heat maps", f"{_shown(folder / 'images')} (one scale for all)"),
        ("at the threshold", sentence(results.predictions)),
        *metric_lines(values),
        ("training", f"{results.training_seconds or 0:.0f} s, {plan.steps} steps of {data.train_batch_size} images"),
        ("torch", f"{agreement.torch_ms:.1f} ms per image"),
        ("OpenVINO", f"{agreement.openvino_ms:.1f} ms per image"),
        ("same predictions", f"on {agreement.pictures} images: {agreement}"),
        ("machine", machine(torch.get_num_threads())),
        ("predictions", str(_shown(folder / TABLE))),
        ("checkpoint", f"{_shown(checkpoint)} ({_megabytes(checkpoint)})"),
        ("OpenVINO model", f"{_shown(exported)} ({_megabytes(exported, exported.with_suffix('.bin'))})"),
    ]
    summary = "\n".join(f"  {name:20}{text}" for name, text in lines)
    return Result(summary, results.advice)


class Result(NamedTuple):
    """What a run found.

    Attributes:
        summary: Figures and files.
        advice: What to do about a result that no one would use; empty if there is no fault.
    """

    summary: str
    advice: list[str]


def _shown(path: Path) -> Path:
    """Leave out the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _megabytes(*files: Path) -> str:
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
