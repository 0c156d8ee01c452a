# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The AUROC of many images and their pixels: as exact as promised, and of a size that does not grow."""

from __future__ import annotations

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUROC as ExactAUROC  # noqa: N811
from torch import Tensor

from anomalib_mkd import MixedDistillation
from anomalib_mkd.results import auroc
from anomalib_mkd.results.auroc import AUROC

FIELDS = ["anomaly_map", "gt_mask"]


def batches(count: int, scale: float = 1.0) -> list[ImageBatch]:
    """Maps whose defects are a little higher than the rest; ``scale`` squeezes all values towards 0."""
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        truth = torch.rand(2, 32, 32) < 0.05
        maps = scale * (0.2 + 0.3 * torch.rand(2, 32, 32) + 0.15 * truth * torch.rand(2, 32, 32))
        found.append(ImageBatch(image=torch.rand(2, 3, 32, 32), anomaly_map=maps, gt_mask=truth))
    return found


def value(metric: AUROC | ExactAUROC, given: list[ImageBatch]) -> float:
    for batch in given:
        metric.update(batch)
    return float(metric.compute())


def held(metric: AUROC) -> int:
    """Bytes of all states."""
    states = [getattr(metric, name) for name in metric._defaults]  # noqa: SLF001
    parts = [part for state in states for part in ([state] if isinstance(state, Tensor) else state)]
    return sum(part.nbytes for part in parts)


@pytest.mark.parametrize("scale", [1.0, 0.01, 1e-5])
def test_bins_agree_with_the_exact_value(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr(auroc, "MOST_EXACT", 10_000)  # so that only the first batches are kept
    given = batches(20, scale)
    metric = AUROC(fields=FIELDS, prefix="pixel_")
    assert value(metric, given) == pytest.approx(value(ExactAUROC(fields=FIELDS), given), abs=1e-3)
    assert metric.preds == metric.target == []
    assert metric.name == "pixel_AUROC"


def test_few_pictures_are_exact_and_a_metric_can_be_used_again() -> None:
    given = batches(3)
    metric, exact = AUROC(fields=FIELDS), value(ExactAUROC(fields=FIELDS), given)
    metric.most_exact = 100
    value(metric, given)
    assert metric.preds == []
    metric.reset()
    metric.most_exact = auroc.MOST_EXACT
    assert value(metric, given) == exact


def test_memory_does_not_grow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(auroc, "MOST_EXACT", 10_000)
    caplog.set_level("INFO")
    metric = AUROC(fields=FIELDS)
    value(metric, batches(6))
    before = held(metric)
    value(metric, batches(30))
    assert held(metric) == before
    assert [record.message for record in caplog.records if "in bins" in record.message] == [
        "More than 10000 pixels: their AUROC is computed in bins, to within 0.001."
    ]


def test_a_value_that_is_not_a_number_counts_as_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auroc, "MOST_EXACT", 1)
    maps, truth = torch.tensor([[[0.1, float("nan")]]]), torch.tensor([[[False, True]]])
    given = ImageBatch(image=torch.rand(1, 3, 1, 2), anomaly_map=maps, gt_mask=truth)
    assert value(AUROC(fields=FIELDS), [given]) == 1


def test_our_models_have_it() -> None:
    metrics = MixedDistillation.configure_evaluator().test_metrics
    assert [metric.name for metric in metrics] == ["image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"]
    assert all(isinstance(metrics[index], AUROC) for index in (0, 2))


def test_scores_of_pictures_lie_in_one_tensor() -> None:
    """Tiny tensors kept between a batch's large ones let the process grow by 12 MB a batch."""
    fields = ["pred_score", "gt_label"]
    metric, exact = AUROC(fields=fields), ExactAUROC(fields=fields)
    for seed in range(20):
        torch.manual_seed(seed)
        batch = ImageBatch(image=torch.rand(4, 3, 8, 8), pred_score=torch.rand(4), gt_label=torch.rand(4) < 0.5)
        metric.update(batch)
        exact.update(batch)
        assert len(metric.preds) == len(metric.target) == 1
    assert float(metric.compute()) == float(exact.compute())


def test_parts_that_have_left_the_gpu_are_joined() -> None:
    """As with ``compute_on_cpu``, which anomalib sets for one device; here the first part is on a device of its own."""
    metric = AUROC(fields=["pred_score", "gt_label"])
    metric.update(ImageBatch(image=torch.rand(2, 3, 8, 8), pred_score=torch.rand(2), gt_label=torch.tensor([0, 1])))
    metric.preds[0], metric.target[0] = metric.preds[0].to("meta"), metric.target[0].to("meta")
    metric.update(ImageBatch(image=torch.rand(1, 3, 8, 8), pred_score=torch.rand(1), gt_label=torch.tensor([0])))
    assert [(part.device.type, len(part)) for part in (*metric.preds, *metric.target)] == [("meta", 3)] * 2
