# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The stages of the first run, each by the part of anomalib that users will meet again."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import AnomalibDataModule, Folder
from anomalib.data.utils import read_image
from anomalib.deploy import ExportType, OpenVINOInferencer
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from anomalib_mkd.benchmark.accuracy import StepLog
from anomalib_mkd.benchmark.rows import machine
from anomalib_mkd.data import Quickstart
from anomalib_mkd.data.synthetic import CATEGORIES
from anomalib_mkd.models import Mkd
from anomalib_mkd.quickstart.own_data import read_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomalib.models.components import AnomalibModule

logger = logging.getLogger(__name__)

COMPARED = 100  # test pictures on which OpenVINO is compared with the checkpoint, at most
SCORE_TOLERANCE = 1e-3  # of scores in 0..1
MAP_TOLERANCE = 1e-2  # of maps in 0..1: rounding may change which pixel was a pool's maximum


def open_data(data: str, batch_size: int, seed: int) -> AnomalibDataModule:
    """Find the pictures.

    Args:
        data: Category of the embedded data, or a folder in MVTec AD's layout.
        batch_size: Pictures per training step.
        seed: Seed of the choice of training pictures that set the threshold.

    Raises:
        FileNotFoundError: If there is no such category or folder, or the folder lacks a part.
        ValueError: If its pictures cannot be used.
    """
    if data in CATEGORIES:
        return Quickstart(category=data, train_batch_size=batch_size, seed=seed)  # type: ignore[arg-type]
    if not Path(data).exists():
        names = ", ".join(CATEGORIES)
        msg = f"Expected {names} or a folder as --data, got '{data}', which does not exist. Correct the path."
        raise FileNotFoundError(msg)
    layout = read_layout(Path(data).resolve())
    return Folder(
        name=layout.root.name,
        root=layout.root,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{defect}" for defect in layout.defects],
        mask_dir=[f"ground_truth/{defect}" for defect in layout.defects] if layout.has_masks else None,
        train_batch_size=batch_size,
        num_workers=0,
        val_split_mode="from_train",
        val_split_ratio=0.2,
        seed=seed,
    )


class RawMetrics(Callback):
    """anomalib's metrics on raw scores and maps.

    A trainer's own callback comes before the model's post-processor, which clamps to 0..1 and so makes ties.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, AUROC | AUPRO] = {}
        self.judged = 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take one batch in."""
        del pl_module, outputs, batch_idx, dataloader_idx
        if not self.metrics:
            self.metrics["image AUROC"] = AUROC(fields=["pred_score", "gt_label"])
            if batch.gt_mask is not None:
                self.metrics["pixel AUROC"] = AUROC(fields=["anomaly_map", "gt_mask"])
                self.metrics["AUPRO"] = AUPRO(fields=["anomaly_map", "gt_mask"])
        for metric in self.metrics.values():
            metric.update(batch)
        self.judged += len(batch.image)
        total = len(trainer.datamodule.test_data)  # type: ignore[attr-defined]  # it came with one
        logger.info("      judged %d of %d pictures", self.judged, total)

    def values(self) -> dict[str, float]:
        """Give each metric in 0..1."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}


@dataclass(frozen=True)
class Agreement:
    """How far OpenVINO's answers are from the checkpoint's, and what an answer costs.

    Attributes:
        pictures: How many were compared.
        score: Largest difference of scores, which lie in 0..1.
        anomaly_map: Largest difference of map pixels, which lie in 0..1.
        torch_ms: Median milliseconds per picture in torch, one picture at a time.
        openvino_ms: The same in OpenVINO.
    """

    pictures: int
    score: float
    anomaly_map: float
    torch_ms: float
    openvino_ms: float

    def __str__(self) -> str:
        """Say how near the answers are."""
        return f"scores within {self.score:.0e}, maps within {self.anomaly_map:.0e} of 0..1"


def compare(model: AnomalibModule, inferencer: OpenVINOInferencer, paths: Sequence[str]) -> Agreement:
    """Judge pictures twice.

    Args:
        model: The checkpoint.
        inferencer: The export of it.
        paths: Pictures.

    Raises:
        RuntimeError: If the answers differ.
    """
    scores, maps, torch_times, openvino_times = [], [], [], []
    for path in (paths[0], *paths):  # the first one warms up
        picture = torch.as_tensor(read_image(path, as_tensor=True))[None]
        start = time.perf_counter()
        with torch.inference_mode():
            ours = model(picture)
        middle = time.perf_counter()
        theirs = inferencer.predict(picture)
        end = time.perf_counter()
        scores.append(_difference(ours.pred_score, theirs.pred_score))
        maps.append(_difference(ours.anomaly_map, theirs.anomaly_map))
        torch_times.append(1000 * (middle - start))
        openvino_times.append(1000 * (end - middle))
    if max(scores) > SCORE_TOLERANCE or max(maps) > MAP_TOLERANCE:
        msg = (
            f"Expected OpenVINO to answer as the checkpoint does, to {SCORE_TOLERANCE} in scores and {MAP_TOLERANCE} "
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


def _difference(ours: torch.Tensor, theirs: Any) -> float:
    """Largest difference of an answer in torch from one in NumPy."""
    return float((ours.flatten() - torch.as_tensor(theirs).flatten()).abs().max())


def run(data: AnomalibDataModule, output: Path, steps: int, seed: int) -> str:
    """Train, test, export, compare.

    Args:
        data: The pictures.
        output: Folder under which anomalib makes a new folder per run.
        steps: Training steps, rounded up to whole passes over the pictures.
        seed: Seed of the student's first weights and of the order of the pictures.

    Returns:
        The summary.
    """
    seed_everything(seed, verbose=False)
    model = Mkd(weights="quickstart", training_steps=steps)
    metrics = RawMetrics()
    engine = Engine(
        default_root_dir=output,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StepLog("      training"), metrics],
    )

    logger.info("[2/5] Training the student on normal pictures.")
    start = time.perf_counter()
    engine.fit(model=model, datamodule=data)
    seconds = time.perf_counter() - start

    logger.info("[3/5] Testing, and drawing heat maps.")
    engine.test(model=model, datamodule=data, verbose=False)

    logger.info("[4/5] Exporting to OpenVINO; this may take a minute.")
    checkpoint = Path(str(engine.best_model_path))
    exported = engine.export(
        model=model,
        export_type=ExportType.OPENVINO,
        ckpt_path=checkpoint,
        onnx_kwargs={"verbose": False},
    )
    assert exported is not None  # noqa: S101  # for the type checker: it is None for other kinds only

    logger.info("[5/5] Comparing OpenVINO with the checkpoint.")
    inferencer = OpenVINOInferencer(exported, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
    paths = list(data.test_data.samples.image_path)[:COMPARED]
    agreement = compare(Mkd.load_from_checkpoint(checkpoint).eval(), inferencer, paths)

    values = metrics.values()
    lines = [(name, f"{100 * value:.1f} %") for name, value in values.items()]
    if len(values) == 1:
        lines.append(("pixel AUROC, AUPRO", "no masks, so not measured"))
    lines += [
        ("training", f"{seconds:.0f} s, {engine.trainer.global_step} steps of {data.train_batch_size} pictures"),
        ("torch", f"{agreement.torch_ms:.1f} ms per picture"),
        ("OpenVINO", f"{agreement.openvino_ms:.1f} ms per picture"),
        ("the same answer", f"on {agreement.pictures} pictures: {agreement}"),
        ("machine", machine(torch.get_num_threads())),
        ("heat maps", str(checkpoint.parents[2] / "images")),
        ("checkpoint", f"{checkpoint} ({_megabytes(checkpoint)})"),
        ("OpenVINO model", f"{exported} ({_megabytes(exported, exported.with_suffix('.bin'))})"),
    ]
    return "\n".join(f"  {name:20}{text}" for name, text in lines)


def _megabytes(*files: Path) -> str:
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
