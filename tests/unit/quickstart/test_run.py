# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The parts of the first run: data, metrics, and the comparison that must be able to fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from torch import Tensor, nn

from anomalib_mkd.data import Parts, Quickstart, Recipe, make_dataset
from anomalib_mkd.quickstart.progress import Plan, Stages
from anomalib_mkd.quickstart.run import (
    MAP_TOLERANCE,
    SCORE_TOLERANCE,
    compare,
    evaluator,
    metric_lines,
    open_data,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return make_dataset(tmp_path, Recipe("metal", image_size=64, train_images=10, test_good=2, per_defect=1))


def test_embedded_data_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = open_data("fabric", batch_size=4, seed=0)
    assert isinstance(data, Quickstart)
    assert (data.category, data.train_batch_size) == ("fabric", 4)


def test_own_data_set_thresholds_by_good_training_pictures(own: Path) -> None:
    data = open_data(str(own), batch_size=4, seed=0)
    assert isinstance(data, Parts)
    assert (len(data.train_data), len(data.val_data), len(data.test_data)) == (8, 2, 5)
    assert all("train/good" in path for path in data.val_data.samples.image_path)


def test_a_missing_mask_is_named_at_once(own: Path) -> None:
    (own / "ground_truth" / "dent" / "000_mask.png").unlink()
    with pytest.raises(ValueError, match=r"got 1 image of bad parts without a mask \(test/dent/000.png\)"):
        open_data(str(own), batch_size=4, seed=0)


@pytest.mark.parametrize("masks", [True, False])
def test_metrics(masks: bool) -> None:
    gt_mask, anomaly_map = torch.zeros(4, 32, 32).bool(), torch.zeros(4, 32, 32)
    gt_mask[2:, :4, :4] = True
    anomaly_map[2:, :4, :8] = 0.9
    batch = ImageBatch(
        image=torch.zeros(4, 3, 32, 32),
        gt_label=torch.tensor([0, 0, 1, 1]).bool(),
        gt_mask=gt_mask if masks else None,
        pred_score=torch.tensor([0.0, 0.6, 0.4, 0.8]),
        anomaly_map=anomaly_map,
    )
    metrics: Any = evaluator().test_metrics
    for metric in metrics:
        metric.update(batch)
    lines = dict(metric_lines({metric.name: float(metric.compute()) for metric in metrics if metric.update_called}))
    assert lines["image AUROC"] == "75.0 %"
    if masks:
        false_alarms = 2 * 16 / (4 * 32 * 32 - 2 * 16)
        assert lines["pixel AUROC"] == f"{100 * (1 - false_alarms / 2):.1f} %"
        assert set(lines) == {"image AUROC", "pixel AUROC", "AUPRO"}
    else:
        assert lines["pixel AUROC, AUPRO"] == "no masks, so not measured"


class Constant(nn.Module):
    """Answers with a score and a map of one value each."""

    def __init__(self, score: float, value: float) -> None:
        super().__init__()
        self.score, self.value = score, value

    def forward(self, images: Tensor) -> InferenceBatch:
        return InferenceBatch(torch.full((len(images),), self.score), anomaly_map=torch.full((1, 1, 8, 8), self.value))

    def predict(self, images: Tensor) -> SimpleNamespace:
        prediction = self(images)
        return SimpleNamespace(
            pred_score=prediction.pred_score.numpy(), anomaly_map=prediction.anomaly_map[:, 0].numpy()
        )


def test_comparison(own: Path) -> None:
    paths = [str(path) for path in sorted((own / "test" / "good").iterdir())]

    def ask(score: float, value: float) -> Any:
        return compare(Constant(0.5, 0.5), Constant(score, value), paths)  # type: ignore[arg-type]

    near = ask(0.5 + SCORE_TOLERANCE / 2, 0.5 - MAP_TOLERANCE / 2)
    assert near.pictures == 2
    assert near.score == pytest.approx(SCORE_TOLERANCE / 2, rel=1e-3)
    assert near.anomaly_map == pytest.approx(MAP_TOLERANCE / 2, rel=1e-3)
    for score, value in ((0.5 + 2 * SCORE_TOLERANCE, 0.5), (0.5, 0.5 + 2 * MAP_TOLERANCE), (0.5, float("nan"))):
        with pytest.raises(RuntimeError, match=r"^Expected OpenVINO to predict as the checkpoint does"):
            ask(score, value)


def test_progress_covers_the_whole_run() -> None:
    plan = Plan(steps=4, batch_size=8, good=20, tests=10, compared=10)
    assert plan.training < plan.until_export < plan.until_comparison < plan.total
    seen: list[float] = []
    bar: Any = SimpleNamespace(update=lambda done, *_, **__: seen.append(done))
    stages, model = Stages(plan, bar), torch.nn.Identity()
    for step in range(1, 5):
        trainer: Any = SimpleNamespace(global_step=step)
        stages.on_train_batch_end(trainer, model, {"loss": torch.tensor(1.0)}, None, 0)  # type: ignore[arg-type]
    stages.on_test_start(trainer, model)  # type: ignore[arg-type]
    for _ in range(2):
        batch = SimpleNamespace(image=torch.zeros(5, 3, 8, 8))
        stages.on_test_batch_end(trainer, model, None, batch, 0)  # type: ignore[arg-type]
    assert seen == sorted(seen)
    assert seen[-1] == plan.until_export
