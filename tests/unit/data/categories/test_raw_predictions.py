# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Scores before post-processing: every order is kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUROC
from anomalib.post_processing import PostProcessor

from anomalib_mkd.data.categories.raw_predictions import RawPredictions, soften
from anomalib_mkd.thresholds import soft_scale


def post_processor(low: float, high: float, threshold: float) -> PostProcessor:
    made = PostProcessor()
    for kind in ("image", "pixel"):
        getattr(made, f"{kind}_min").fill_(low)
        getattr(made, f"{kind}_max").fill_(high)
        getattr(made, f"_{kind}_threshold").fill_(threshold)
    return made


@pytest.mark.parametrize(
    ("known", "offset"), [(True, -400.0), (True, 3.0), (True, 40.0), (False, -100.0), (False, 0.0), (False, 40.0)]
)
def test_auroc_is_that_of_the_raw_scores(known: bool, offset: float) -> None:
    """Anomalib's clamped values, and torchmetrics' sigmoid of raw ones, would tie scores far off the range."""
    torch.manual_seed(0)
    scores = torch.rand(40) * 10 + offset
    labels = (scores + torch.rand(40) * 8 > offset + 10).int()
    batch = ImageBatch(
        image=torch.rand(40, 3, 4, 4),
        gt_label=labels,
        pred_score=soften(scores, post_processor(3, 14, 9) if known else None, "image"),
    )
    metric = AUROC(fields=["pred_score", "gt_label"])
    metric.update(batch)
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > negative).double().mean()
    assert metric.compute() == pytest.approx(float(wins), abs=1e-6)


def test_half_is_the_threshold() -> None:
    values = soften(torch.tensor([8.0, 9.0, 10.0]), post_processor(3, 14, 9), "pixel")
    assert values[1] == 0.5
    assert values[0] < 0.5 < values[2]
    no_threshold = post_processor(3, 14, float("nan"))
    assert soften(torch.tensor([8.5]), no_threshold, "image") == 0.5  # anomalib's own way out: the middle


@pytest.mark.parametrize("other", [None, torch.nn.Identity(), PostProcessor(), post_processor(2, 2, 2)])
def test_without_statistics_nothing_is_scaled(other: object) -> None:
    assert torch.equal(
        soften(torch.tensor([-1.0, 0.0, 1.0]), other, "image"), soft_scale(torch.tensor([-1.0, 0.0, 1.0]))
    )


def test_a_batch_keeps_its_own_values_and_the_copy_has_the_raw_ones() -> None:
    batch = ImageBatch(image=torch.rand(2, 3, 4, 4), pred_score=torch.tensor([1.0, 3.0]), gt_label=torch.tensor([0, 1]))
    raw = RawPredictions()
    raw.on_test_batch_end(SimpleNamespace(), SimpleNamespace(post_processor=None), None, batch, 0)
    batch.update(pred_score=torch.tensor([0.0, 1.0]), pred_label=torch.tensor([0, 1]))
    copy = raw.put_into(batch)
    assert torch.equal(copy.pred_score, soft_scale(torch.tensor([1.0, 3.0])))
    assert torch.equal(batch.pred_score, torch.tensor([0.0, 1.0]))
    assert copy.anomaly_map is None
    assert torch.equal(copy.pred_label, batch.pred_label)
