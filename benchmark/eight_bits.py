# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Do verdicts stay in 8 bits? One training, exported in f32 and in 8 bits, both with thresholds of their own.

The trainings are those of ``python -m benchmark scores --keep``, or new ones. All predictions are those of the exports,
in the inferencers that do without torch.
"""

from __future__ import annotations

import logging
import tempfile
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from anomalib.deploy import CompressionType
from lightning.pytorch import seed_everything

from anomalib_mkd.deploy import DepthInferencer, Inferencer
from anomalib_mkd.files import whole
from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.post_processor import SoftPostProcessor, good_parts
from anomalib_mkd.thresholds import LEARNT
from benchmark.accuracy import train
from benchmark.good_scores import outputs_of, parts
from benchmark.outputs import Outputs, measure
from benchmark.rows import INT8, Key, Row, append_rows, commit, has_run
from benchmark.runs import Run, build_model, depth_data, has_depth, run_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomalib_mkd.data import DepthFolder, Parts

logger = logging.getLogger(__name__)

COMPRESSIONS = {"f32": None, INT8: CompressionType.INT8_PTQ}


def measure_eight_bits(run: Run, *, kept: Path, results: Path, data_root: Path) -> list[Row]:
    """Export one trained model in f32 and in 8 bits, and append the rows of both, unless the file has them.

    Args:
        run: The run, of protocol ``held_out``.
        kept: Folder with its weights; a model without any is trained, and keeps them there, unless it takes depth.
        results: CSV file.
        data_root: Folder that contains ``run.data``.

    Returns:
        The new rows: image AUROC and AUPRO, and the shares of bad parts caught and of good ones called bad.
    """
    missing = [name for name in COMPRESSIONS if not has_run(results, Key(*run.key[:3], int8=name == INT8))]
    if not missing:
        logger.info("%s: already measured, skipped", run.name)
        return []
    seed_everything(run.seed, verbose=False)
    rows, source = [], commit()
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        data = held_out_data(data_root, run)
        model: Any = build_model(run)
        weights = kept / f"{run.name}.pt"
        keeps = not has_depth(data_root, run.data)  # the range of a depth map is not among the weights
        if keeps and weights.is_file():
            model.model.teacher.prepare()
            model.load_state_dict(torch.load(weights, weights_only=True))
        else:
            train(model, data, run, Path(folder))
            if keeps:
                kept.mkdir(parents=True, exist_ok=True)
                with whole(weights) as unfinished:
                    torch.save(model.state_dict(), unfinished)
        model.post_processor = SoftPostProcessor()
        fit_thresholds(model, data, Path(folder))
        for precision in missing:
            data = held_out_data(data_root, run)  # one that no engine has told to resize
            compression = COMPRESSIONS[precision]
            path = model.to_openvino(Path(folder) / precision, compression_type=compression, datamodule=data)
            values = dict(verdicts(path, data))
            rows += [
                run_row(run, metric, value, epochs=0, image_size=256, precision=precision, source=source)
                for metric, value in values.items()
            ]
            logger.info("%s %s: %s", run.name, precision, {name: round(value, 4) for name, value in values.items()})
    append_rows(results, rows)
    return rows


def fit_thresholds(model: Any, data: Parts | DepthFolder, work: Path) -> None:
    """Set a model's thresholds as the end of its training does, by the good parts held out and some that it learnt."""
    few = copy(data)
    few.train_data = copy(data.train_data)
    chosen = evenly_spaced(len(data.train_data), LEARNT)
    few.train_data.samples = data.train_data.samples.iloc[chosen].reset_index(drop=True)
    held_out, learnt = (_good(outputs_of(model, few, split, work)) for split in ("held_out", "train"))
    image, pixel, scores = model.post_processor.fitted(held_out, learnt)
    model.post_processor.good_scores = list(scores)
    model.post_processor.set_scales(image, pixel)


def _good(outputs: Outputs) -> torch.Tensor:
    """Return good parts as the post-processor lists them, of no category."""
    batch = SimpleNamespace(
        pred_score=outputs.scores, anomaly_map=outputs.maps, gt_label=outputs.labels, image_path=outputs.paths
    )
    return good_parts(batch, [None] * len(outputs.scores))


def held_out_data(data_root: Path, run: Run) -> Parts | DepthFolder:
    """Return the data of a run with good images held out: with depth, those of the data set itself, if it has any."""
    return depth_data(data_root, run.data, run.batch_size) if has_depth(data_root, run.data) else parts(data_root, run)


def verdicts(path: Path, data: Parts | DepthFolder) -> Iterator[tuple[str, float]]:
    """Yield metrics of an export on the test images, and what it catches and calls bad by mistake."""
    items: list[Any] = [data.test_data[index] for index in range(len(data.test_data))]
    if hasattr(items[0], "depth_map"):
        pairs = ((item.image_path, item.depth_map.numpy()) for item in items)
        predictions = list(DepthInferencer(path).predict_many(pairs))
    else:
        predictions = list(Inferencer(path).predict_many(item.image_path for item in items))
    bad = torch.tensor([prediction.bad for prediction in predictions])
    labels = torch.tensor([bool(item.gt_label) for item in items])
    maps = torch.stack([torch.from_numpy(prediction.anomaly_map) for prediction in predictions])[:, None]
    masks = torch.stack(
        [
            torch.nn.functional.interpolate(item.gt_mask[None, None].float(), maps.shape[-2:])[0, 0].bool()
            if item.gt_mask is not None
            else torch.zeros(maps.shape[-2:], dtype=torch.bool)
            for item in items
        ]
    )
    scores = torch.tensor([prediction.score for prediction in predictions])
    outputs = Outputs(scores, labels, maps, masks, [str(item.image_path) for item in items])
    found = measure(outputs)
    yield "image_AUROC", found["image_AUROC", "all"]
    if masks.any():
        yield "AUPRO", found["AUPRO", "all"]
    yield "caught", float(bad[labels].float().mean())
    yield "false_alarms", float(bad[~labels].float().mean())
