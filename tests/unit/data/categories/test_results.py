# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Metrics per category, against anomalib's on each category alone."""

from __future__ import annotations

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO, AUROC, F1Score, create_anomalib_metric
from rich.console import Console
from torchmetrics import MeanMetric

from anomalib_mkd.category_post_processor import split_batch
from anomalib_mkd.data.categories.results import CategoryMetrics, _mean, results_table
from anomalib_mkd.results import auroc

IMAGE = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
F1 = F1Score(fields=["pred_label", "gt_label"], prefix="image_")
PIXEL = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_")
PRO = AUPRO(fields=["anomaly_map", "gt_mask"])


def batch(labels: list[int], masks: bool = True, maps: bool = True, seed: int = 0) -> ImageBatch:
    """Random predictions of 8 x 8 pixels; a defect covers the upper half of its image."""
    torch.manual_seed(seed)
    truth = torch.tensor(labels)
    gt_mask = torch.zeros(len(labels), 8, 8)
    gt_mask[truth.bool(), :4] = 1
    scores = torch.rand(len(labels))
    return ImageBatch(
        image=torch.rand(len(labels), 3, 8, 8),
        gt_label=truth,
        gt_mask=gt_mask if masks else None,
        pred_score=scores,
        pred_label=scores > 0.5,
        anomaly_map=torch.rand(len(labels), 1, 8, 8) if maps else None,
        image_path=[f"{seed}/{index}.png" for index in range(len(labels))],
    )


def test_a_batch_of_one_category_is_left_as_it_is() -> None:
    whole = batch([0, 1])
    assert [(name, part is whole) for name, part in split_batch(whole, ["a", "a"])] == [("a", True)]


def test_a_mixed_batch_is_cut() -> None:
    whole = batch([0, 1, 0])
    parts = dict(split_batch(whole, ["a", None, "a"]))
    assert list(parts) == ["a", None]
    assert parts["a"].image_path == ["0/0.png", "0/2.png"]
    assert torch.equal(parts["a"].pred_score, whole.pred_score[[0, 2]])
    assert torch.equal(parts[None].gt_mask, whole.gt_mask[1:2])
    assert parts[None].mask_path is None


@pytest.mark.parametrize("mixed", [False, True])
def test_every_category_gets_the_value_it_has_alone(mixed: bool) -> None:
    whole = batch([0, 1, 0, 1, 0, 1, 1, 0])
    categories = [*"aabbbaba"] if mixed else [*"aaaabbbb"]
    metrics = CategoryMetrics([IMAGE, F1, PIXEL, PRO], ["a", "b", "c"])
    for category, part in split_batch(whole, categories):
        metrics.update(category, part)
    values = metrics.compute()
    assert list(values) == ["image_AUROC", "image_F1Score", "pixel_AUROC", "AUPRO"]
    for category, part in split_batch(whole, categories):
        for metric in (IMAGE, F1, PIXEL, PRO):
            metric.reset()
            metric.update(part)
            assert torch.equal(values[metric.name][category], metric.compute())
    assert all(set(of_metric) == {"a", "b"} for of_metric in values.values())


@pytest.mark.filterwarnings("ignore:No (positive|negative) samples in targets:UserWarning")
@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_truth_gives_no_value(label: int) -> None:
    """Where anomalib's own metric says 0."""
    part = batch([label] * 4)
    metrics = CategoryMetrics([IMAGE, PIXEL], ["a"])
    metrics.update("a", part)
    values = metrics.compute()
    assert values["image_AUROC"] == {}
    assert ("a" in values["pixel_AUROC"]) == bool(label)  # a defect's mask has normal pixels
    IMAGE.reset()
    IMAGE.update(part)
    assert IMAGE.compute() == 0


def test_both_kinds_may_come_in_different_batches() -> None:
    metrics = CategoryMetrics([IMAGE], ["a"])
    metrics.update("a", batch([0, 0]))
    metrics.update("a", batch([1, 1], seed=1))
    assert "a" in metrics.compute()["image_AUROC"]


def test_without_masks_pixels_have_no_value() -> None:
    """Not even of a strict metric, whose error would throw a finished test away."""
    metrics = CategoryMetrics([IMAGE, PIXEL, PRO], ["a", "b"])
    metrics.update("a", batch([0, 1], masks=False))
    metrics.update("b", batch([0, 1], seed=1))
    values = metrics.compute()
    assert set(values["image_AUROC"]) == {"a", "b"}
    assert set(values["pixel_AUROC"]) == set(values["AUPRO"]) == {"b"}


def test_a_strict_metric_still_misses_a_prediction() -> None:
    metrics = CategoryMetrics([PIXEL], ["a"])
    with pytest.raises(ValueError, match="does not have a value for field with name anomaly_map"):
        metrics.update("a", batch([0, 1], maps=False))
    lenient = CategoryMetrics([AUROC(fields=["anomaly_map", "gt_mask"], strict=False)], ["a"])
    lenient.update("a", batch([0, 1], maps=False))
    assert lenient.compute() == {"AUROC": {}}


def test_a_metric_without_truth_always_has_a_value() -> None:
    mean_score = create_anomalib_metric(MeanMetric)(fields=["pred_score"])
    metrics = CategoryMetrics([mean_score], ["a", "b"])
    part = batch([0, 0])
    metrics.update("a", part)
    value = metrics.compute()["MeanMetric"]
    assert set(value) == {"a"}
    assert value["a"] == part.pred_score.mean()


def test_truth_adds_up_over_processes() -> None:
    """What another process met counts: here it met the normal images."""
    metrics = CategoryMetrics([IMAGE], ["a"])
    metrics.update("a", batch([1, 0]))
    assert metrics.compute(lambda met: met * torch.tensor([0, 1]))["image_AUROC"] == {}
    assert "a" in metrics.compute(lambda met: met + torch.tensor([1, 0]))["image_AUROC"]


def test_the_table_has_a_row_per_category_and_the_mean() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        whole, half, quarter = torch.tensor(1.0), torch.tensor(0.5), torch.tensor(0.25)
        console.print(results_table({"x": {"a": half, "b": whole}, "y": {"b": quarter}}))
    rows = [line.replace("│", " ").split() for line in capture.get().splitlines()]
    assert ["a", "0.5000", "-"] in rows
    assert ["b", "1.0000", "0.2500"] in rows
    assert ["mean", "0.7500", "0.2500"] in rows


def test_categories_share_the_memory_of_one_metric_of_pixels() -> None:
    metrics = CategoryMetrics([auroc.AUROC(fields=["anomaly_map", "gt_mask"])], ["a", "b"])
    limits = [metric.most_exact for (metric,) in metrics.metrics.values()]
    assert limits == [auroc.MOST_EXACT // 2] * 2


def test_a_mean_is_over_values_of_several_devices() -> None:
    """As on a GPU, which exact values leave by ``compute_on_cpu``, and those in bins do not."""
    mean = _mean({"bins": torch.tensor(0.5, device="meta"), "exact": torch.tensor(0.5)})
    assert mean.device.type == "meta"
