# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A training whose datamodule holds no pictures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anomalib_mkd import MixedDistillation
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]


def test_without_held_out_pictures_thresholds_come_from_those_learnt(tmp_path: Path) -> None:
    model = MixedDistillation(weights="quickstart", student_width=0.25, visualizer=False)
    engine = make_engine(tmp_path, max_epochs=1)
    (results,) = engine.train(model, datamodule=make_data(tmp_path, val_split_mode="none"))
    assert set(results) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    assert len(model.post_processor.good_scores) == 8
    assert model.post_processor.scales is not None
