# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Raw results of a test set, their metrics, and heat maps of them.

Metrics are anomalib's, on raw scores and maps, without a post-processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from anomalib.metrics import AUPRO, AUROC
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from anomalib_mkd.data import DepthFolder, MultiCategory, Parts
from anomalib_mkd.results.predictions import kind_of

RECALL_FALSE_ALARMS = 0.05
"""Share of normal images above the threshold at which a recall is reported."""


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
        """Return the images where ``chosen`` ``(N,)`` is true."""
        paths = [path for path, keep in zip(self.paths, chosen.tolist(), strict=True) if keep]
        return Outputs(self.scores[chosen], self.labels[chosen], self.maps[chosen], self.masks[chosen], paths)

    @property
    def subsets(self) -> list[str]:
        """Defect type of each image."""
        return list(map(kind_of, self.paths))


class OutputCollector(Callback):
    """Keep scores, maps and ground truth of every test batch."""

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
        masks = torch.zeros(count, *size) if batch.gt_mask is None else batch.gt_mask.detach().cpu()
        self.batches.append(
            Outputs(
                batch.pred_score.detach().cpu().float().reshape(count),
                batch.gt_label.detach().cpu().bool().reshape(count),
                batch.anomaly_map.detach().cpu().float().reshape(count, 1, *size),
                masks.bool().reshape(count, *size),
                [str(path) for path in batch.image_path],
            ),
        )

    def outputs(self) -> Outputs:
        """Return all batches as one."""
        return Outputs(
            torch.cat([batch.scores for batch in self.batches]),
            torch.cat([batch.labels for batch in self.batches]),
            torch.cat([batch.maps for batch in self.batches]),
            torch.cat([batch.masks for batch in self.batches]),
            [path for batch in self.batches for path in batch.paths],
        )


def measure(outputs: Outputs, protocol: str = "user", *, by_type: bool = False) -> dict[tuple[str, str], float]:
    """Compute the metrics of a test set.

    Args:
        outputs: Raw results.
        protocol: ``paper`` restricts the pixel AUROC to defective images.
        by_type: Whether to compute all metrics, and the recall at 5 % false alarms, for each defect type.

    Returns:
        Value by (metric, subset): image AUROC, pixel AUROC and AUPRO (limit 0.3) of ``all``, and the image AUROC of
        each defect type against all normal images; the image AUROC alone if there are no masks.
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
    values = {("image_AUROC", "all"): compute(AUROC(fields=["scores", "labels"]), outputs)}
    masked = bool(outputs.masks.any())
    if masked:
        values["pixel_AUROC", "all"] = compute(AUROC(fields=["maps", "masks"]), pixels)
        values["AUPRO", "all"] = compute(AUPRO(fields=["maps", "masks"], fpr_limit=0.3), outputs)
    subsets = outputs.subsets
    defective = dict(zip(subsets, outputs.labels.tolist(), strict=True))
    for name in sorted(name for name, is_defect in defective.items() if is_defect):
        chosen = torch.tensor([subset == name for subset in subsets]) | ~outputs.labels
        part = outputs.select(chosen)
        values["image_AUROC", name] = compute(AUROC(fields=["scores", "labels"]), part)
        if by_type and masked:
            values["pixel_AUROC", name] = compute(AUROC(fields=["maps", "masks"]), part)
            values["AUPRO", name] = compute(AUPRO(fields=["maps", "masks"], fpr_limit=0.3), part)
        if by_type:
            threshold = torch.quantile(part.scores[~part.labels], 1 - RECALL_FALSE_ALARMS)
            values["recall", name] = float((part.scores[part.labels] > threshold).float().mean())
    return values


def _to_unit_range(values: Tensor) -> Tensor:
    """Stretch to 0..1, keeping order: torchmetrics takes other numbers for logits, and its sigmoid ties large ones."""
    low, high = values.aminmax()
    return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)


def by_category(outputs: Outputs, datamodule: Parts | MultiCategory | DepthFolder) -> dict[str, Outputs]:
    """Split raw results by category.

    Args:
        outputs: Results of the whole test set.
        datamodule: Source of the test set.
    """
    if not isinstance(datamodule, MultiCategory):
        return {datamodule.category.rsplit("/", 1)[-1]: outputs}
    owners = datamodule.categories_of(SimpleNamespace(image_path=outputs.paths))
    return {name: outputs.select(torch.tensor([owner == name for owner in owners])) for name in datamodule.categories}


def save_heat_maps(outputs: Outputs, folder: Path, count: int = 4) -> list[Path]:
    """Save image, heat map and ground-truth mask side by side, for some images.

    All heat maps share one scale: from 0 to the larger of the 99.9th percentile over normal images and the median peak
    of the defective ones.

    Args:
        outputs: Raw results.
        folder: Folder to write to; created with its own ``.gitignore``.
        count: Number of defective images; one normal image is added.

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
