# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One model in a process of its own: trained, tested and exported. So a crash costs one row, and memory is its own.

``python -m anomalib_mkd.compare.worker JOB`` is started by :mod:`anomalib_mkd.compare.runs`.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import sys
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import anomalib.models
import torch
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from anomalib.models.components import TimmFeatureExtractor
from lightning.pytorch.callbacks import Timer

import anomalib_mkd.models  # noqa: F401  # registers
from anomalib_mkd.check.options import TEACHERS
from anomalib_mkd.compare.data import open_data
from anomalib_mkd.compare.measures import Collector, aurocs, export_outputs, mean, megabytes, peak_megabytes
from anomalib_mkd.compare.recipes import RECIPES, RESNET18, Recipe
from anomalib_mkd.compare.recommend import caution
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.compare.runs import DataError, Job, remove_exports, write_result
from anomalib_mkd.networks.backbone import QUICKSTART
from anomalib_mkd.networks.pretrained import pretrained_state
from anomalib_mkd.quickstart.weights import choose_weights
from anomalib_mkd.results.predictions import thresholds
from anomalib_mkd.results.verdicts import alternatives
from anomalib_mkd.training.threads import limit_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anomalib.data import AnomalibDataModule
    from torch import Tensor

TAPS = ("layer1", "layer2", "layer3")
"""Layers that a model of anomalib may read."""
NOTED_LOSS = 0.05
"""Image AUROC that 8 bits may lose without a note."""


def build(recipe: Recipe, weights: str) -> tuple[Any, str]:
    """Build the untrained model.

    Args:
        recipe: Its recipe.
        weights: ``auto``, ``imagenet``, ``quickstart`` or a file; anomalib's models have no embedded teacher.

    Returns:
        The model, and which pretrained network it uses.

    Raises:
        OSError: If weights cannot be read.
        RuntimeError: If they cannot be had or do not fit.
    """
    owner = getattr(anomalib.models, recipe.model)
    parameters = inspect.signature(owner).parameters
    common = {"visualizer": False, "evaluator": False}
    if recipe.ours:
        backbone = parameters["backbone"].default
        choice = choose_weights(weights, backbone)
        if side := recipe.image_size:
            if choice.weights == QUICKSTART:
                msg = (
                    f"Expected ImageNet's ResNet-18 for images of {side} px, got the embedded teacher, which has a "
                    "size of its own. Set --weights to a file for ResNet-18."
                )
                raise ValueError(msg)
            common["pre_processor"] = owner.configure_pre_processor((side, side))
        model = owner(weights=choice.weights, **recipe.arguments, **common)
        model.model.teacher.prepare()
        return model, choice.sentence
    if "backbone" not in recipe.arguments:
        return owner(**recipe.arguments, **common), "Teacher: the model's own."
    file = None if weights in TEACHERS else weights
    state = pretrained_state(RESNET18, TAPS, file)
    ready = {"pre_trained": False} if "pre_trained" in parameters else {}
    model = owner(**recipe.arguments, **ready, **common)
    for part in model.modules():
        if isinstance(part, TimmFeatureExtractor) and not part.requires_grad:
            part.feature_extractor.load_state_dict(state, strict=False)  # some read fewer layers
    return model, f"Backbone: {RESNET18} from {file or 'ImageNet'}."


def work(job: Job) -> Row:
    """Train, test and export one model.

    Raises:
        DataError: If the data cannot be used, by this model or any other.
        Exception: If the model fails.
    """
    recipe = RECIPES[job.recipe]
    limit_threads()
    job.say("reading")
    data = open_data(job.data, recipe.batch_size, job.seed)
    model, teacher = build(recipe, job.weights)
    used = time.time() - job.started  # importing and reading
    timer, collector = Timer(timedelta(seconds=max(1.0, job.seconds - used))), Collector()
    engine = Engine(
        default_root_dir=job.folder / "run",
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[timer, collector],
        **recipe.trainer,
    )
    job.say("training")
    start = time.perf_counter()
    engine.fit(model=model, datamodule=data)
    stopped, steps = engine.trainer.should_stop, engine.trainer.global_step
    if thresholds(model.post_processor)[0] is None and data.val_data is not None:
        engine.validate(model=model, datamodule=data, verbose=False)
    seconds = time.perf_counter() - start
    notes = [teacher]
    if stopped:
        notes.append(f"The budget ended its training early, after {seconds:.0f} s: a longer one may find more.")
    row = Row(
        recipe.name,
        pictures=len(data.train_data),
        training_seconds=seconds,
        steps=steps,
        stopped=stopped,
        peak_megabytes=peak_megabytes(),
    )
    job.say("testing")
    engine.test(model=model, datamodule=data, verbose=False)
    row = dataclasses.replace(row, **collector.figures())
    notes += by_category(collector.image_aurocs())
    others = alternatives(collector.predictions, getattr(model.post_processor, "thresholds_by_share", {}))

    def noted(*new: str) -> Row:
        return dataclasses.replace(row, notes=(*notes, *new, *caution(row, ours=recipe.ours, others=others)))

    def ended(stage: str) -> Row:
        """Return the row that is kept if the process ends here."""
        return dataclasses.replace(noted(f"Not {stage}: its process ended before that."), unfinished=True)

    write_result(job, ended("exported"), goes_on=True)
    remove_exports(job)  # those of a shorter training, as of now
    job.say("exporting")
    path = export(model, recipe, job.folder / "f32")
    row = dataclasses.replace(row, megabytes=megabytes(path))
    write_result(job, ended("in 8 bits"), goes_on=True)
    job.say("exporting in 8 bits")
    try:
        path = export(model, recipe, job.folder / "int8", quantized_data(job, recipe, data))
        items = [data.test_data[index] for index in range(len(data.test_data))]
        scores, bad = export_outputs(path, map(inputs_for(model), items))
        labels = torch.tensor([bool(item.gt_label) for item in items])
        categories = getattr(data.test_data, "category_per_item", [None] * len(items))
        judged = row.caught is not None and not getattr(model.post_processor, "table", None)  # which is no part of it
        row = dataclasses.replace(
            row,
            int8_megabytes=megabytes(path),
            int8_auroc=mean(aurocs(scores, labels, categories).values()),
            int8_caught=int((bad & labels).sum()) if judged else None,
            int8_false_alarms=int((bad & ~labels).sum()) if judged else None,
        )
        if row.image_auroc is not None and row.int8_auroc is not None and row.int8_auroc < row.image_auroc - NOTED_LOSS:
            notes.append(f"Not to be used in 8 bits: its image AUROC falls to {100 * row.int8_auroc:.1f} %.")
    except Exception as error:  # noqa: BLE001  # the row reports whatever stops NNCF or OpenVINO
        traceback.print_exc()
        notes.append(f"Not in 8 bits: {reason(error)}")
    return noted()


def by_category(aurocs: Mapping[str | None, float | None]) -> list[str]:
    """Note the image AUROC of each category, of which the row has the mean; nothing if there is but one.

    Example:
        >>> by_category({"bottle": 1.0, "screw": None, "nut": 0.4})
        ['Image AUROC by category: bottle 100.0 %, screw not measured, nut 40.0 %.']
    """
    if len(aurocs) == 1:
        return []
    texts = (f"{name} {'not measured' if value is None else f'{100 * value:.1f} %'}" for name, value in aurocs.items())
    return [f"Image AUROC by category: {', '.join(texts)}."]


def inputs_for(model: Any) -> Callable[[Any], Sequence[Tensor]]:
    """Return what turns an item of the data into the inputs of an export."""
    return getattr(model, "raw_inputs", lambda item: (item.image,))


def quantized_data(job: Job, recipe: Recipe, data: AnomalibDataModule) -> AnomalibDataModule:
    """Return the data that calibrate 8 bits.

    Ours resizes images itself. anomalib's exporter takes the validation batches, of as many images as the graph.
    """
    if recipe.ours:
        return open_data(job.data, recipe.batch_size, job.seed)
    data.eval_batch_size = 1
    return data


def export(model: Any, recipe: Recipe, folder: Path, calibration: AnomalibDataModule | None = None) -> Path:
    """Export for OpenVINO, for one image of the model's own size.

    Args:
        model: The model.
        recipe: Its recipe.
        folder: New folder.
        calibration: Exports in 8 bits.

    Returns:
        The ``.xml`` file.
    """
    # anomalib's graphs of several images hold PatchCore's for as many as the example has
    single: dict[str, Any] = {} if recipe.ours else {"onnx_kwargs": {"dynamic_axes": {}}}
    if calibration is not None:
        single |= {"compression_type": CompressionType.INT8_PTQ, "datamodule": calibration}
    size = tuple(int(side) for side in model.input_size)
    path: Path = model.eval().to_openvino(folder, input_size=size, **single)
    return path


def reason(error: BaseException) -> str:
    """Put an error into a sentence: ours are sentences, of others the first line that says something is kept."""
    text = next(filter(None, map(str.strip, str(error).splitlines())), "")
    if text.startswith("Expected"):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}".rstrip(": .") + "."


def end_with(parent: int) -> None:
    """End this process once the one that started it is gone: killed, it could not do that itself."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(file: str) -> int:
    """Do a job, and leave its row in the job's folder, also where it fails."""
    Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    job = Job.read(Path(file))
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.INFO)
    try:
        row, stop = work(job), False
    except Exception as error:  # noqa: BLE001  # the row says it
        traceback.print_exc()
        row, stop = Row(RECIPES[job.recipe].name, reason=reason(error)), isinstance(error, DataError)
    write_result(job, row, stop=stop)
    return 1 if row.reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
