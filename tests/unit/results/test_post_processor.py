# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The scale without ends agrees with anomalib's where that one does not cut."""

import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.post_processing import PostProcessor
from torch import Tensor

from anomalib_mkd.results.post_processor import SoftPostProcessor


def fitted(kind: type[PostProcessor], threshold: float = 0.8, low: float = 0.1, high: float = 0.8) -> PostProcessor:
    """A post-processor that knows its statistics."""
    made = kind()
    state = {name: high if "max" in name else low if "min" in name else threshold for name in made.state_dict()}
    made.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return made


def processed(post_processor: PostProcessor, values: Tensor) -> InferenceBatch:
    result: InferenceBatch = post_processor(InferenceBatch(pred_score=values, anomaly_map=values.view(1, 1, 1, -1)))
    return result


def test_order_and_decisions_stay_where_anomalib_makes_ties() -> None:
    values = torch.linspace(-3, 5, 200)  # from far below the normal range to far above
    ours, theirs = processed(fitted(SoftPostProcessor), values), processed(fitted(PostProcessor), values)
    assert torch.equal(ours.pred_label, theirs.pred_label)
    assert torch.equal(ours.pred_mask, theirs.pred_mask)
    for result in (ours.pred_score, ours.anomaly_map.flatten()):
        assert (result.diff() > 0).all()
        assert result.min() > 0
        assert result.max() < 1
    assert (theirs.pred_score.diff() == 0).any()


def test_at_the_threshold_value_and_slope_are_anomalibs() -> None:
    near = 0.8 + torch.tensor([-1e-3, 0.0, 1e-3])
    ours, theirs = processed(fitted(SoftPostProcessor), near), processed(fitted(PostProcessor), near)
    assert ours.pred_score[1] == 0.5
    assert torch.allclose(ours.pred_score, theirs.pred_score, atol=1e-5)


@pytest.mark.parametrize("bounds", [(0.5, 0.5), (float("nan"), float("nan"))])
def test_without_a_range_it_does_as_anomalib(bounds: tuple[float, float]) -> None:
    values = torch.tensor([0.2, 0.5, 3.0])
    ours, theirs = (processed(fitted(kind, 0.5, *bounds), values) for kind in (SoftPostProcessor, PostProcessor))
    assert torch.equal(ours.pred_score, theirs.pred_score)


def test_without_a_threshold_the_middle_of_the_range_is_half() -> None:
    assert processed(fitted(SoftPostProcessor, float("nan"), 0.0, 1.0), torch.tensor([0.5])).pred_score == 0.5


def test_checkpoints_fit_models_with_either_post_processor() -> None:
    assert SoftPostProcessor().state_key == PostProcessor().state_key
