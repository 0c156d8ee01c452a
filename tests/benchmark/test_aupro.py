# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which of the conventions called AUPRO the rows are in: that of MVTec 3D-AD."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmark.outputs import OutputCollector, Outputs, measure

LIMIT = 0.3


def official(maps: np.ndarray[Any, Any], masks: np.ndarray[Any, Any]) -> float:
    """All images pooled, good ones included; every score a threshold; regions joined over corners, too."""
    regions = []
    for one_map, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [np.sort(one_map[labels == number]) for number in range(1, count + 1)]
    normal = np.sort(maps[~masks])
    thresholds = np.unique(maps)[::-1]
    false_alarms = 1 - np.searchsorted(normal, thresholds) / normal.size
    overlap = np.mean([1 - np.searchsorted(region, thresholds) / region.size for region in regions], axis=0)
    false_alarms, overlap = np.r_[0, false_alarms], np.r_[0, overlap]
    at_limit = np.interp(LIMIT, false_alarms, overlap)
    inside = false_alarms < LIMIT
    x, y = np.r_[false_alarms[inside], LIMIT], np.r_[overlap[inside], at_limit]
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / LIMIT)


@pytest.mark.parametrize("seed", range(3))
def test_aupro_is_that_of_mvtec_3d(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 48, 48), dtype=bool)
    for picture in masks[:4]:
        for row, column in rng.integers(2, 38, (3, 2)):
            picture[row : row + 6, column : column + 4] = True
    masks[0, 0, 0] = masks[0, 1, 1] = True  # joined by a corner: one region
    maps = (rng.random(masks.shape) + 0.4 * masks + 0.2 * rng.random((6, 1, 1))).astype(np.float32)
    labels = torch.from_numpy(masks.any((1, 2)))
    outputs = Outputs(
        torch.from_numpy(maps.max((1, 2))),
        labels,
        torch.from_numpy(maps)[:, None],
        torch.from_numpy(masks),
        [f"test/{'bad' if bad else 'good'}/{index}.png" for index, bad in enumerate(labels.tolist())],
    )
    assert measure(outputs)["AUPRO", "all"] == pytest.approx(official(maps, masks), abs=1e-4)


def test_without_masks_there_are_no_pixel_metrics() -> None:
    collector = OutputCollector()
    for bad in (False, True):
        batch = SimpleNamespace(
            pred_score=torch.tensor([float(bad)]),
            gt_label=torch.tensor([bad]),
            anomaly_map=torch.rand(1, 1, 4, 4),
            gt_mask=None,
            image_path=[f"test/{'dent' if bad else 'good'}/0.png"],
        )
        collector.on_test_batch_end(None, None, None, batch, 0)
    assert set(measure(collector.outputs())) == {("image_AUROC", "all"), ("image_AUROC", "dent")}
