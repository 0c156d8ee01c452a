# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Figures of raw scores and maps, and of memory."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import pytest
import torch
from anomalib.data import ImageBatch
from openvino import opset13 as operators

from anomalib_mkd.compare.measures import Collector, aupro, auroc, export_outputs, peak_megabytes

if TYPE_CHECKING:
    from pathlib import Path


def test_auroc_of_raw_scores() -> None:
    labels = torch.tensor([False, False, True, True])
    assert auroc(torch.tensor([1.0, 5.0, 3.0, 900.0]), labels) == 0.75
    assert auroc(torch.tensor([1.0, 1.0, 1.0, 1.0]), labels) == 0.5  # ties
    assert auroc(torch.ones(2), torch.tensor([True, True])) is None


@pytest.mark.parametrize("clipped", [True, False])
def test_scores_of_an_export_are_those_before_clipping_and_its_verdicts_its_own(tmp_path: Path, clipped: bool) -> None:
    image = operators.parameter([1, 3, 4, 4], np.float32, name="image")
    score = operators.multiply(operators.reduce_max(image, [1, 2, 3]), np.float32(4))
    result = operators.result(operators.clamp(score, 0.0, 1.0) if clipped else score)
    result.input_value(0).set_names({"pred_score"})
    label = operators.result(operators.greater(score, np.float32(1)))
    label.input_value(0).set_names({"pred_label"})
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model([label, result], [image]), path)
    scores, bad = export_outputs(path, [[torch.full((3, 4, 4), value)] for value in (0.125, 0.5, 1.0)])
    assert scores.tolist() == [0.5, 2.0, 4.0]
    assert bad.tolist() == [False, True, True]


def test_aupro_of_raw_maps() -> None:
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[1, 4:8, 4:8] = True
    perfect = mask * 50.0 - 20  # not in 0..1
    assert aupro([perfect[:1], perfect[1:]], [mask[:1], mask[1:]]) == pytest.approx(1, abs=0.02)
    assert aupro([-perfect], [mask]) == pytest.approx(0, abs=0.1)
    assert aupro([perfect], [torch.zeros_like(mask)]) is None
    assert aupro([], []) is None


def test_figures_are_means_over_categories_of_other_scores() -> None:
    known = SimpleNamespace(categories_of=lambda batch: batch.categories)
    trainer: Any = SimpleNamespace(datamodule=known)
    model: Any = SimpleNamespace(post_processor=None)
    collector = Collector()
    mask = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    mask[2:, :, 4:8, 4:8] = True
    for category, shift, sign in (("bottle", 0.0, 1), ("screw", 100.0, -1)):  # perfect, and the reverse
        batch = ImageBatch(
            image=torch.zeros(4, 3, 16, 16),
            gt_label=torch.tensor([0, 0, 1, 1]),
            gt_mask=mask[:, 0],
            pred_score=shift + sign * torch.tensor([1.0, 2.0, 3.0, 4.0]),
            anomaly_map=shift + sign * mask[:, 0].float(),
            image_path=[f"{category}/{number}.png" for number in range(4)],
        )
        batch.categories = [category] * 4  # type: ignore[attr-defined]
        collector.on_test_batch_end(trainer, model, None, batch, 0)
    collector.on_test_epoch_end(trainer, model)
    assert collector.image_aurocs() == {"bottle": 1.0, "screw": 0.0}
    figures = collector.figures()
    assert (figures["image_auroc"], figures["bad"], figures["good"]) == (0.5, 4, 4)
    assert figures["aupro"] == pytest.approx(0.5, abs=0.06)


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_peak_memory_rises() -> None:
    before = peak_megabytes()
    taken = torch.ones(100_000_000)  # 400 MB
    after = peak_megabytes()
    assert before is not None
    assert after is not None
    assert after >= max(before, taken.nbytes / 1e6)
