# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds from good parts alone, and a scale that agrees with anomalib's where that one does not cut."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor
from torch import Tensor

from anomalib_mkd.post_processor import SoftPostProcessor


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
    assert torch.equal(ours.pred_mask, theirs.pred_mask & theirs.pred_label.view(-1, 1, 1, 1))
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


def batch(scores: Tensor, bad: Tensor | None = None) -> ImageBatch:
    """Images with raw scores, whose maps have twice the score as the highest pixel and 0 elsewhere."""
    maps = torch.zeros(len(scores), 1, 4, 4)
    maps[:, 0, 1, 1] = 2 * scores
    return ImageBatch(
        image=torch.zeros(len(scores), 3, 4, 4),
        gt_label=bad,
        pred_score=scores,
        anomaly_map=maps,
        image_path=[f"{index}.png" for index in range(len(scores))],
    )


def validated(*batches: ImageBatch, false_alarms: float | None = 0.01) -> SoftPostProcessor:
    made = SoftPostProcessor(false_alarms)
    for each in batches:
        made.on_validation_batch_end(None, None, each)
    made.on_validation_epoch_end(None, None)
    return made


GOOD = 1 + 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(0))


def test_an_odd_picture_does_not_set_the_threshold() -> None:
    clean, odd = validated(batch(GOOD)), validated(batch(torch.cat([GOOD, torch.tensor([9.0])])))
    assert GOOD.max() < clean.image_threshold < 1.5
    assert abs(odd.image_threshold - clean.image_threshold) < 0.02
    assert abs(odd.pixel_threshold - clean.pixel_threshold) < 0.05  # maps have twice the score
    assert odd.good_scores == sorted([*GOOD.tolist(), 9.0])


def test_bad_parts_in_validation_count_only_for_anomalibs_rule() -> None:
    scores, bad = torch.cat([GOOD, torch.full((9,), 1.2)]), torch.cat([torch.zeros(40), torch.ones(9)]).bool()
    assert validated(batch(scores, bad)).image_threshold == validated(batch(GOOD)).image_threshold
    plain = PostProcessor()
    plain.on_validation_batch_end(None, None, batch(scores, bad))
    plain.on_validation_epoch_end(None, None)
    by_f1 = validated(batch(scores, bad), false_alarms=None)
    for name, value in plain.state_dict().items():
        assert torch.equal(by_f1.state_dict()[name].nan_to_num(), value.nan_to_num()), name


def test_a_typical_good_part_is_a_sixth_on_the_scale() -> None:
    made = validated(batch(GOOD))
    result = processed(made, torch.stack([GOOD.quantile(0.5), made.image_threshold]))
    assert torch.allclose(result.pred_score, torch.tensor([1 / 6, 0.5]), atol=1e-4)


def test_equal_scores_leave_a_scale_with_an_order() -> None:
    values = torch.tensor([0.5, 0.99, 1.0, 1.01, 2.0])
    result = processed(validated(batch(torch.ones(6))), values)
    assert (result.pred_score.diff() > 0).all()
    assert result.pred_label.tolist() == [False, False, False, True, True]


def test_learnt_parts_show_how_scores_vary_at_the_level_of_those_held_out(caplog: pytest.LogCaptureFixture) -> None:
    made = SoftPostProcessor()
    made.learn(None, [batch(GOOD[:20]), batch(GOOD[20:])])
    made.on_validation_batch_end(None, None, batch(torch.tensor([3.0, 3.2])))
    made.on_validation_epoch_end(None, None)
    assert len(made.good_scores) == 42
    ratio = 3.1 / GOOD.quantile(0.5)
    varied = 3.1 + ratio**2 * (GOOD - GOOD.quantile(0.5))
    assert made.image_threshold == pytest.approx(float(validated(batch(varied)).image_threshold), abs=0.2)
    assert "Only 2 good parts were held out" in caplog.text


def test_learnt_parts_are_made_as_varied_as_those_held_out_once() -> None:
    """Not again by a later validation, whose scores differ for other reasons."""
    made, known = SoftPostProcessor(), GOOD / 2
    made.learn(None, [batch(known)])
    made.on_validation_batch_end(None, None, batch(GOOD))
    made.on_validation_epoch_end(None, None)
    scores = torch.tensor(made.learnt)[:, 0]
    assert scores.std() == pytest.approx(float(4 * known.std()), rel=1e-3)
    assert scores.quantile(0.5) == pytest.approx(float(known.quantile(0.5)), rel=1e-3)
    made.on_validation_batch_end(None, None, batch(3 * GOOD))
    made.on_validation_epoch_end(None, None)
    assert torch.equal(torch.tensor(made.learnt)[:, 0], scores)


def test_where_none_is_held_out_learnt_ones_set_the_threshold() -> None:
    made = SoftPostProcessor()
    made.learn(None, [batch(GOOD)])
    made.on_validation_epoch_end(None, None)
    assert made.scales == validated(batch(GOOD)).scales


def test_suspects_are_left_out_on_request() -> None:
    scores = torch.cat([GOOD, torch.tensor([9.0])])
    made = SoftPostProcessor(leave_out_suspects=True)
    made.on_validation_batch_end(None, None, batch(scores))
    made.on_validation_epoch_end(None, None)
    assert made.good_scores == sorted(GOOD.tolist())
    assert made.image_threshold == validated(batch(GOOD)).image_threshold


def test_of_several_categories_the_highest_threshold_holds() -> None:
    """One of all scores together would call every good part of the higher category bad."""
    low, high = batch(GOOD), batch(GOOD + 5)
    high.image_path = ["high"] * len(GOOD)
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(categories_of=lambda batch: [path[:4] for path in batch.image_path])
    )
    low.image_path = ["low_"] * len(GOOD)
    made, alone = SoftPostProcessor(), validated(batch(GOOD + 5))
    for each in (low, high, low):
        made.on_validation_batch_end(trainer, None, each)
    made.on_validation_epoch_end(trainer, None)
    assert made.scales == alone.scales
    assert made.good_scores == alone.good_scores
    unvalidated = SoftPostProcessor()
    unvalidated.learn(trainer, [low, high])
    unvalidated.on_validation_epoch_end(trainer, None)
    assert unvalidated.scales == alone.scales


def category_rows(made: SoftPostProcessor, **levels: float) -> None:
    """Let good parts of categories be learnt."""
    for name, level in levels.items():
        where = SimpleNamespace(datamodule=SimpleNamespace(categories_of=lambda found, name=name: [name] * len(found)))
        known = made.learnt
        made.learn(where, [batch(GOOD + level)])
        made.learnt += known


def test_a_validation_without_categories_counts_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What was learnt of other parts says nothing of these; the rows of the table stay, and it is said."""
    made, alone = SoftPostProcessor(), validated(batch(GOOD + 1))
    category_rows(made, low=0, high=5)
    made.on_validation_epoch_end(None, None)
    made.table = {"high": {"image_max": 1.0}, "few": {}}
    made.on_validation_batch_end(None, None, batch(GOOD + 1))
    caplog.clear()
    made.on_validation_epoch_end(None, None)
    assert (made.scales, made.good_scores) == (alone.scales, alone.good_scores)
    assert made.table == {"high": {"image_max": 1.0}, "few": {}}
    assert [record.message for record in caplog.records] == [
        "Only the common threshold has moved, not those of 'high'. Validate with MultiCategory to move them."
    ]
    made.on_validation_batch_end(None, None, batch(GOOD[:3] + 9))
    made.on_validation_epoch_end(None, None)
    assert made.scales == alone.scales  # three are too few, whatever else was learnt
    made.on_validation_epoch_end(SimpleNamespace(state=SimpleNamespace(fn="fit")), None)
    assert made.table == {}  # a new training


def test_fewer_than_five_good_parts_are_refused() -> None:
    made = SoftPostProcessor()
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"))
    made.on_validation_batch_end(trainer, None, batch(GOOD[:4]))
    with pytest.raises(ValueError, match=r"at least 5 good parts, got 4\. Add good parts"):
        made.on_validation_epoch_end(trainer, None)


def test_few_good_parts_of_a_test_mean_a_model_without_thresholds() -> None:
    with pytest.raises(ValueError, match=r"got an untrained one and 4\. Train the model, or pass the checkpoint"):
        validated(batch(GOOD[:4]))


def test_thresholds_stay_where_few_good_parts_validate(caplog: pytest.LogCaptureFixture) -> None:
    made = validated(batch(GOOD))
    before = made.scales
    made.on_validation_batch_end(None, None, batch(GOOD[:4] + 5))
    made.on_validation_epoch_end(None, None)
    assert made.scales == before
    assert "Only 4 good parts were validated" in caplog.text


def test_what_is_not_finite_is_bad_and_sets_no_threshold(caplog: pytest.LogCaptureFixture) -> None:
    made = validated(batch(torch.cat([GOOD, torch.tensor([float("nan")])])))
    assert made.image_threshold == validated(batch(GOOD)).image_threshold
    assert "'40.png' is not finite" in caplog.text
    result = batch(torch.tensor([float("nan"), float("inf"), 1.0]))
    made.on_test_batch_end(None, None, result)
    assert result.pred_label.tolist() == [True, True, False]


def test_a_mask_is_empty_where_the_part_is_called_good() -> None:
    made = validated(batch(GOOD))
    predicted = batch(torch.tensor([1.0, 3.0]))
    predicted.anomaly_map[0, 0, 0] = 9.0
    raw = InferenceBatch(pred_score=predicted.pred_score, anomaly_map=predicted.anomaly_map.unsqueeze(1))
    assert made(raw).pred_mask.flatten(1).sum(dim=1).tolist() == [0, 1]
    made.on_test_batch_end(None, None, predicted)
    assert predicted.pred_mask.flatten(1).sum(dim=1).tolist() == [0, 1]


@pytest.mark.parametrize("share", [0, 1, 2, float("nan"), -0.1, True])
def test_a_share_that_no_threshold_has_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"Expected false_alarms >= 1e-9 and < 0\.5"):
        SoftPostProcessor(share)


def test_the_rule_is_said_in_words() -> None:
    assert SoftPostProcessor().rule == ""
    assert validated(batch(GOOD)).rule == "meant to call 1 % of good parts bad, from 40 of them"
    scores, bad = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([False, False, True])
    by_f1 = validated(batch(scores, bad), false_alarms=None)
    by_f1._pixel_threshold.fill_(1.0)  # no masks, so that anomalib has none
    assert by_f1.rule == "best F1 in validation"


def test_other_shares_set_the_thresholds_that_they_would_set() -> None:
    scores = torch.linspace(1.0, 3.0, 30)
    found = validated(batch(scores), false_alarms=0.03).thresholds_by_share
    assert [*found] == [0.01, 0.02, 0.03, 0.05, 0.1]
    assert found[0.03] == 0.5
    for share, place in found.items():
        threshold = validated(batch(scores), false_alarms=share).scales[0].threshold
        made = processed(validated(batch(scores), false_alarms=0.03), torch.tensor([threshold]))
        assert place == pytest.approx(made.pred_score.item(), abs=1e-5)


def test_where_no_share_set_the_threshold_there_are_no_others() -> None:
    assert SoftPostProcessor().thresholds_by_share == {}
    bad = torch.tensor([False, False, True])
    assert validated(batch(torch.tensor([0.0, 1.0, 2.0]), bad), false_alarms=None).thresholds_by_share == {}
    several = validated(batch(torch.linspace(1.0, 3.0, 30)))
    several.table = {"bolt": {}}
    assert several.thresholds_by_share == {}


def test_the_good_scores_travel_with_the_checkpoint() -> None:
    made, other = validated(batch(GOOD), false_alarms=0.05), SoftPostProcessor()
    other.load_state_dict(made.state_dict())
    other.load_checkpoint_config(made.checkpoint_config())
    assert (other.false_alarms, other.good_scores) == (0.05, made.good_scores)
    assert validated(batch(GOOD)).image_threshold > other.image_threshold


def test_checkpoints_fit_models_with_either_post_processor() -> None:
    assert SoftPostProcessor().state_key == PostProcessor().state_key


def test_a_threshold_without_its_scale_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Expected enable_normalization=True, got False"):
        SoftPostProcessor(enable_normalization=False)
