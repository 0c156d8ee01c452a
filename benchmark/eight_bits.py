# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Do verdicts stay in 8 bits? One training, exported in f32 and in 8 bits, both with thresholds of their own.

The trainings are those of ``python -m benchmark scores --keep``. All predictions are those of the exports, in the
inferencer that does without torch.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.deploy import CompressionType
from lightning.pytorch import seed_everything

from anomalib_mkd.deploy import Inferencer
from anomalib_mkd.post_processor import SoftPostProcessor
from benchmark.accuracy import build_engine
from benchmark.good_scores import parts
from benchmark.outputs import Outputs, measure
from benchmark.rows import INT8, Key, Row, append_rows, commit, has_run
from benchmark.runs import Run, build_model, run_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomalib_mkd.data import Parts

logger = logging.getLogger(__name__)

COMPRESSIONS = {"f32": None, INT8: CompressionType.INT8_PTQ}


def measure_eight_bits(run: Run, *, kept: Path, results: Path, data_root: Path) -> list[Row]:
    """Export one trained model in f32 and in 8 bits, and append the rows of both, unless the file has them.

    Args:
        run: The run, of protocol ``held_out``.
        kept: Folder with its weights.
        results: CSV file.
        data_root: Folder that contains ``run.data``.

    Returns:
        The new rows: image AUROC and AUPRO, and the shares of bad parts caught and of good ones called bad.
    """
    if has_run(results, Key(*run.key[:3], int8=True)):
        logger.info("%s: already measured, skipped", run.name)
        return []
    seed_everything(run.seed, verbose=False)
    rows, source = [], commit()
    with tempfile.TemporaryDirectory(prefix="anomalib_mkd_") as folder:
        data = parts(data_root, run)
        model: Any = build_model(run)
        model.post_processor = SoftPostProcessor()
        model.model.teacher.prepare()
        model.load_state_dict(torch.load(kept / f"{run.name}.pt", weights_only=True), strict=False)
        build_engine(Path(folder), [], validates=True).validate(model=model, datamodule=data, verbose=False)
        for precision, compression in COMPRESSIONS.items():
            data = parts(data_root, run)  # one that no engine has told to resize
            path = model.to_openvino(Path(folder) / precision, compression_type=compression, datamodule=data)
            values = dict(verdicts(path, data))
            rows += [
                run_row(run, metric, value, epochs=0, image_size=256, precision=precision, source=source)
                for metric, value in values.items()
            ]
            logger.info("%s %s: %s", run.name, precision, {name: round(value, 4) for name, value in values.items()})
    append_rows(results, rows)
    return rows


def verdicts(path: Path, data: Parts) -> Iterator[tuple[str, float]]:
    """Yield metrics of an export on the test pictures, and what it catches and calls bad by mistake."""
    items: list[Any] = [data.test_data[index] for index in range(len(data.test_data))]
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
