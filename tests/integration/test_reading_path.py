# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""How many files of ours a reader passes who follows a training step or a prediction: as docs/architecture.md says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import ImageBatch

import anomalib_mkd
from anomalib_mkd import Dcam, MixedDistillation, Mkd
from anomalib_mkd.training.caching import FeatureCache, TrainingCache
from tests.networks import pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SOURCE = Path(anomalib_mkd.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def files_passed(run: Callable[[], object]) -> list[str]:
    """Files of the package whose functions a call runs, in the order of their first one."""
    passed: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SOURCE):
            passed[path.relative_to(SOURCE).as_posix()] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return list(passed)


def tiny(model: Any) -> Any:
    """A model in training; but for Mkd, the teacher's features are cached."""
    arguments = {} if model is Mkd else {"student_width": 0.25}
    module = model(backbone="test_resnet.r160_in1k", pre_trained=False, visualizer=False, **arguments)
    module.log = lambda *_, **__: None
    if model is not Mkd:  # as at the start of a training
        module._cache = TrainingCache(module, gigabytes=0)
        module._cache.features = FeatureCache(2**27)
    return module


def batch() -> ImageBatch:
    return ImageBatch(image=pictures(2, 64), image_path=["0.png", "1.png"])


@pytest.mark.parametrize("model", [MixedDistillation, Dcam, Mkd])
def test_the_page_names_the_files_of_a_training_step_and_of_a_prediction(model: Any) -> None:
    module = tiny(model)
    first = files_passed(lambda: module.training_step(batch()))
    again = files_passed(lambda: module.training_step(batch()))
    with torch.inference_mode():
        prediction = files_passed(lambda: module.eval().predict_step(batch()))
    row = f"| `{model.__name__}` | {len(first)} | {len(again)} | {len(prediction)} |"
    assert row in PAGE.read_text(encoding="utf-8")
    if model is not Mkd:  # the aim; Mkd's prediction walks a network backwards
        assert len(again) <= 9
        assert len(prediction) <= 6
