# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What one model's process measures: accuracy and verdicts of a test, memory, and the size of an export."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import torch
from anomalib.metrics import AUPRO
from lightning.pytorch import Callback, LightningModule, Trainer
from openvino import opset13 as operators

from anomalib_mkd.category_post_processor import categories_of
from anomalib_mkd.deploy.graph import EXACT, core, read_graph
from anomalib_mkd.export.quantization import fitted
from anomalib_mkd.results.predictions import predictions_of, thresholds
from anomalib_mkd.results.report.plots import area, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from anomalib_mkd.results.predictions import Prediction

AUPRO_LIMIT = 0.3
"""Share of good pixels above the threshold up to which AUPRO is integrated, as papers do."""


class Collector(Callback):
    """Keep raw scores, maps and masks of a test, and its verdicts.

    anomalib's post-processor clips scores at 0 and 1, which makes the worst parts equal. It comes after the callbacks
    of a user, so this one sees raw values first and the verdicts at the next batch.
    """

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.categories: list[str | None] = []
        self.maps: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.mapped: list[list[str | None]] = []
        self.predictions: list[Prediction] = []
        self._judged: Callable[[], list[Prediction]] = list

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take what a batch holds."""
        del outputs, batch_idx, dataloader_idx
        self.predictions += self._judged()
        categories = list(categories_of(trainer, batch))
        self._judged = lambda: predictions_of(batch, categories, *thresholds(pl_module.post_processor))
        self.categories += categories
        self.scores.append(batch.pred_score.detach().flatten().float().clone())
        self.labels.append(batch.gt_label.flatten().bool())
        if batch.gt_mask is not None and batch.anomaly_map is not None:
            self.maps.append(batch.anomaly_map.detach().flatten(0, -3).float().clone())
            self.masks.append(batch.gt_mask.detach().flatten(0, -3).bool())
            self.mapped.append(categories)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the verdicts of the last batch."""
        del trainer, pl_module
        self.predictions += self._judged()

    def figures(self) -> dict[str, Any]:
        """Compute the figures of a row."""
        truths = {True: [row for row in self.predictions if row.truth], False: []}
        truths[False] = [row for row in self.predictions if row.truth is False]
        judged = all(row.bad is not None for row in self.predictions)
        return {
            "image_auroc": mean(self.image_aurocs().values()),
            "aupro": mean(self._aupros()),
            "bad": len(truths[True]),
            "good": len(truths[False]),
            "caught": sum(bool(row.bad) for row in truths[True]) if judged else None,
            "false_alarms": sum(bool(row.bad) for row in truths[False]) if judged else None,
        }

    def image_aurocs(self) -> dict[str | None, float | None]:
        """Compute the image AUROC of each category."""
        return aurocs(torch.cat(self.scores), torch.cat(self.labels), self.categories)

    def _aupros(self) -> Iterator[float | None]:
        for category in dict.fromkeys(self.categories):
            own = [[each == category for each in batch] for batch in self.mapped]
            yield aupro(
                *(
                    [values[chosen] for values, chosen in zip(batches, own, strict=True) if any(chosen)]
                    for batches in (self.maps, self.masks)
                )
            )


def export_outputs(path: Path, inputs: Iterable[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Predict scores and verdicts of an export; the scores before anomalib clips them at 0 and 1, which costs ranks.

    Args:
        path: The ``.xml`` file.
        inputs: As for :func:`~anomalib_mkd.export.quantization.fitted`, of N images.

    Returns:
        Scores ``(N,)``, and whether each part is called bad ``(N,)``.
    """
    graph = read_graph(path)
    score, label = (graph.output(name).get_node().input_value(0) for name in ("pred_score", "pred_label"))
    if score.get_node().get_type_name() == "Clamp":
        score = score.get_node().input_value(0)
    alone = openvino.Model([operators.result(score), operators.result(label)], graph.get_parameters())
    compiled = core().compile_model(alone, "CPU", EXACT)
    found = [[float(np.ravel(value)[0]) for value in compiled(fitted(graph, given)).values()] for given in inputs]
    scores, bad = zip(*found, strict=True)
    return torch.tensor(scores), torch.tensor(bad).bool()


def aurocs(scores: Tensor, labels: Tensor, categories: Sequence[str | None]) -> dict[str | None, float | None]:
    """Compute :func:`auroc` of each category, of ``(N,)`` scores and labels and N categories."""
    found = {}
    for category in dict.fromkeys(categories):
        own = torch.tensor([each == category for each in categories])
        found[category] = auroc(scores[own], labels[own])
    return found


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of what was measured; ``None`` if nothing was.

    Example:
        >>> mean([0.5, None, 1.0]), mean([None])
        (0.75, None)
    """
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None


def auroc(scores: Tensor, labels: Tensor) -> float | None:
    """Compute the area under the ROC curve of raw scores ``(N,)``; ``None`` without good or without bad parts."""
    if not labels.any() or labels.all():
        return None
    good, bad = scores[~labels].double().numpy(), scores[labels].double().numpy()
    return area(*sweep(good, bad)[1:])


def aupro(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> float | None:
    """Compute AUPRO of raw maps; ``None`` without a marked pixel.

    Args:
        maps: ``(N, H, W)`` per batch.
        masks: The same, True = defective.
    """
    if not any(mask.any() for mask in masks):
        return None
    low, high = min(values.min() for values in maps), max(values.max() for values in maps)
    metric = AUPRO(fields=["maps", "masks"], fpr_limit=AUPRO_LIMIT)
    for values, mask in zip(maps, masks, strict=True):
        scaled = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)  # others count as logits
        metric.update(_Pixels(scaled, mask.int()))  # type: ignore[arg-type]
    return float(metric.compute())


@dataclasses.dataclass
class _Pixels:
    """What the metric reads of a batch."""

    maps: Tensor
    masks: Tensor


def peak_megabytes() -> float | None:
    """Return the most memory that this process has had; ``None`` where the system does not report it.

    Linux hands the maximum of ``getrusage`` down from the process that started this one, so it is not asked first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def megabytes(path: Path) -> float:
    """Return the size of an export, all its files together."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*")) / 1e6
