# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The parts of the first run: data, raw metrics, and the comparison that must be able to fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import Folder, ImageBatch, InferenceBatch
from torch import Tensor, nn

from anomalib_mkd.data import Quickstart, Recipe, make_dataset
from anomalib_mkd.quickstart.run import MAP_TOLERANCE, SCORE_TOLERANCE, RawMetrics, compare, open_data

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return make_dataset(tmp_path, Recipe("metal", picture_size=64, train_images=10, test_good=2, per_defect=1))


def test_embedded_data_by_name() -> None:
    data = open_data("fabric", batch_size=4, seed=0)
    assert isinstance(data, Quickstart)
    assert (data.category, data.train_batch_size) == ("fabric", 4)


def test_own_data_set_thresholds_by_good_training_pictures(own: Path) -> None:
    data = open_data(str(own), batch_size=4, seed=0)
    assert isinstance(data, Folder)
    data.setup()
    assert (len(data.train_data), len(data.val_data), len(data.test_data)) == (8, 2, 5)
    assert all("train/good" in path for path in data.val_data.samples.image_path)
    samples = data.test_data.samples
    for image, mask in zip(samples.image_path, samples.mask_path, strict=True):
        assert bool(mask) == ("/good/" not in image)
        assert image.replace("/test/", "/ground_truth/").replace(".png", "_mask.png") == mask or not mask


def test_metrics_are_those_of_raw_scores() -> None:
    batch = ImageBatch(
        image=torch.zeros(4, 3, 32, 32),
        gt_label=torch.tensor([0, 0, 1, 1]).bool(),
        gt_mask=torch.zeros(4, 32, 32).bool(),
        pred_score=torch.tensor([0.0, 3.0, 2.0, 4.0]),  # beyond 0..1: clamping would make a tie of 3, 2 and 4
        anomaly_map=torch.zeros(4, 1, 32, 32),
    )
    batch.gt_mask[2:, :4, :4] = True
    batch.anomaly_map[2:, :4, :8] = 5.0
    metrics = RawMetrics()
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(test_data=range(4)))
    metrics.on_test_batch_end(trainer, nn.Identity(), None, batch, 0)  # type: ignore[arg-type]
    values = metrics.values()
    assert values["image AUROC"] == pytest.approx(0.75)
    false_alarms = 2 * 16 / (4 * 32 * 32 - 2 * 16)
    assert values["pixel AUROC"] == pytest.approx(1 - false_alarms / 2)
    assert 0.9 < values["AUPRO"] <= 1


class Constant(nn.Module):
    """Answers with a score and a map of one value each."""

    def __init__(self, score: float, value: float) -> None:
        super().__init__()
        self.score, self.value = score, value

    def forward(self, images: Tensor) -> InferenceBatch:
        return InferenceBatch(torch.full((len(images),), self.score), anomaly_map=torch.full((1, 1, 8, 8), self.value))

    def predict(self, images: Tensor) -> SimpleNamespace:
        answer = self(images)
        return SimpleNamespace(pred_score=answer.pred_score.numpy(), anomaly_map=answer.anomaly_map[:, 0].numpy())


def test_comparison(own: Path) -> None:
    paths = [str(path) for path in sorted((own / "test" / "good").iterdir())]

    def ask(score: float, value: float) -> Any:
        return compare(Constant(0.5, 0.5), Constant(score, value), paths)  # type: ignore[arg-type]

    near = ask(0.5 + SCORE_TOLERANCE / 2, 0.5 - MAP_TOLERANCE / 2)
    assert near.pictures == 2
    assert near.score == pytest.approx(SCORE_TOLERANCE / 2, rel=1e-3)
    assert near.anomaly_map == pytest.approx(MAP_TOLERANCE / 2, rel=1e-3)
    for score, value in ((0.5 + 2 * SCORE_TOLERANCE, 0.5), (0.5, 0.5 + 2 * MAP_TOLERANCE)):
        with pytest.raises(RuntimeError, match=r"^Expected OpenVINO to answer as the checkpoint does"):
            ask(score, value)
