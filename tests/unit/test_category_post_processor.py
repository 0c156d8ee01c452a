# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Thresholds per category, against anomalib's post-processor on each category alone."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import MEBinPostProcessor, PostProcessor

from anomalib_mkd.data import CategoryPostProcessor
from anomalib_mkd.data.categories.post_processor import by_category
from anomalib_mkd.post_processor import SoftPostProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = ("pred_score", "anomaly_map", "pred_label", "pred_mask")


def predictions(category: str, level: float, seed: int, maps: bool = True) -> ImageBatch:
    """Two normal and two defective images of a category whose scores lie about a level."""
    torch.manual_seed(seed)
    labels = torch.tensor([0, 0, 1, 1])
    gt_mask = torch.zeros(4, 8, 8)
    gt_mask[2:, :4] = 1
    return ImageBatch(
        image=torch.rand(4, 3, 8, 8),
        gt_label=labels,
        gt_mask=gt_mask,
        pred_score=level + labels + torch.rand(4),
        anomaly_map=level + gt_mask.unsqueeze(1) + torch.rand(4, 1, 8, 8) if maps else None,
        image_path=[f"{category}/{index}.png" for index in range(4)],
    )


def trainer(*known: str) -> Any:
    """A trainer whose datamodule knows some categories."""

    def categories_of(batch: Any) -> list[str]:
        return [path.split("/")[0] for path in batch.image_path]

    def threshold_categories(batch: Any) -> list[str | None]:
        return [name if name in known else None for name in categories_of(batch)]

    return SimpleNamespace(
        datamodule=SimpleNamespace(categories_of=categories_of, threshold_categories=threshold_categories)
    )


def validated(post_processor: PostProcessor, where: Any, *batches: ImageBatch) -> PostProcessor:
    for batch in batches:
        post_processor.on_validation_batch_end(where, None, batch)
    post_processor.on_validation_epoch_end(where, None)
    return post_processor


def processed(post_processor: PostProcessor, where: Any, batch: ImageBatch) -> ImageBatch:
    post_processor.on_test_batch_end(where, None, batch)
    return batch


@pytest.fixture
def made() -> CategoryPostProcessor:
    return validated(
        CategoryPostProcessor(), trainer("low", "high"), predictions("low", 0, 1), predictions("high", 9, 2)
    )


def mixed(*batches: ImageBatch) -> ImageBatch:
    """One batch of several."""
    return ImageBatch.collate([item for batch in batches for item in batch])


@pytest.mark.parametrize("maps", [True, False])
def test_every_category_is_processed_as_if_alone(made: CategoryPostProcessor, maps: bool) -> None:
    result = processed(
        made, trainer("low", "high"), mixed(predictions("low", 0, 3, maps), predictions("high", 9, 4, maps))
    )
    for category, level, seed, part in (("low", 0, 1, slice(0, 4)), ("high", 9, 2, slice(4, 8))):
        alone = validated(PostProcessor(), None, predictions(category, level, seed))
        expected = processed(alone, None, predictions(category, level, seed + 2, maps))
        for field in FIELDS:
            if maps or field in {"pred_score", "pred_label"}:
                assert torch.equal(getattr(result, field)[part], getattr(expected, field)), field
            else:
                assert getattr(result, field) is None


def test_a_category_has_the_scale_of_one_that_is_alone() -> None:
    made = SoftPostProcessor()
    low = [predictions("low", 0, seed) for seed in range(3)]  # six good ones
    validated(made, trainer("low", "high"), *low, *(predictions("high", 9, seed) for seed in range(3)))
    result = processed(made, trainer("low"), predictions("low", 0, 3))
    expected = processed(validated(SoftPostProcessor(), None, *low), None, predictions("low", 0, 3))
    for field in FIELDS:
        assert torch.equal(getattr(result, field), getattr(expected, field)), field


def test_a_category_of_few_learnt_parts_keeps_the_global_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    made = SoftPostProcessor()
    where = trainer("low", "high", "few")
    low, high = ([predictions(name, level, seed) for seed in range(3)] for name, level in (("low", 0), ("high", 9)))
    made.learn(where, [mixed(low[0], low[2], high[0], predictions("few", 5, 0))])
    validated(made, where, low[1], *high)
    assert made.table["few"] == {}  # two learnt parts are too few
    assert "The category few has the thresholds of all categories together" in caplog.text
    of_few = processed(made, where, predictions("few", 5, 1)).pred_score
    assert torch.equal(of_few, processed(made, trainer(), predictions("few", 5, 1)).pred_score)
    alone = SoftPostProcessor()
    alone.learn(None, [mixed(low[0], low[2])])
    validated(alone, None, low[1])
    assert made.table["low"]["image_threshold"] == float(alone.image_threshold)
    loaded = SoftPostProcessor()
    loaded.load_checkpoint_config(made.checkpoint_config())
    validated(loaded, where, low[1], *high)
    assert {name: loaded.table[name] for name in made.table} == made.table


def test_a_validation_of_one_category_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Its new parts alone set its thresholds with what was learnt of it; the common ones stay the highest."""
    made = SoftPostProcessor()
    where = trainer("low", "high")
    low, high = ([predictions(name, level, seed) for seed in range(4)] for name, level in (("low", 0), ("high", 9)))
    made.learn(where, [mixed(*low[:3], *high[:3])])
    validated(made, where, *low, *high)
    before, common = dict(made.table), made.scales
    caplog.clear()
    validated(made, where, predictions("low", 2, 9), predictions("low", 2, 8))
    assert made.table["high"] == before["high"]
    assert made.table["low"]["image_threshold"] > before["low"]["image_threshold"] + 1
    assert (made.scales, made.good_scores) == (common, before["high"]["good_scores"])
    validated(made, where, predictions("low", 30, 9), predictions("low", 30, 8))
    assert float(made.image_threshold) == made.table["low"]["image_threshold"]  # now the highest
    assert "Only 4 good parts were held out" in caplog.text
    validated(made, trainer(), predictions("new", 3, 9))  # too few
    caplog.clear()
    validated(made, trainer("low", "high", "new"), *low, predictions("new", 3, 9))
    assert "The category new has the thresholds of all categories together" in caplog.text
    made.learnt = []
    validated(made, where, predictions("high", 3, 9))
    assert made.table["high"] == before["high"]
    assert "The category high keeps its thresholds" in caplog.text


def test_categories_of_few_held_out_parts_are_named_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    made, where = SoftPostProcessor(), trainer("low", "high", "many")
    where.datamodule.categories = ["low", "high", "many"]
    levels = {"low": 0, "high": 9, "many": 5}
    of = {name: [predictions(name, level, seed) for seed in range(3)] for name, level in levels.items()}
    made.learn(where, [mixed(*of["low"], *of["high"], *of["many"])])
    validated(made, where, of["low"][0], *of["high"][:2], *of["many"])
    (said,) = (record.message for record in caplog.records)
    assert said.startswith("Only 2 good parts of 'low', 4 good parts of 'high' were held out for the threshold, fewer")


def test_the_common_threshold_stays_the_highest_where_a_validated_category_keeps_its_own() -> None:
    made, where = SoftPostProcessor(), trainer("low", "high")
    low, high = ([predictions(name, level, seed) for seed in range(4)] for name, level in (("low", 0), ("high", 9)))
    validated(made, where, *low, *high)
    common, row = made.scales, made.table["high"]
    validated(made, where, *low, predictions("high", 9, 4))  # two new good parts of it are too few
    assert (made.table["high"], made.scales, made.good_scores) == (row, common, row["good_scores"])


def test_a_category_validated_with_bad_parts_alone_keeps_its_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    """Those of the parts learnt alone would be too low: nothing says how far others lie above them."""
    made, where = SoftPostProcessor(), trainer("low", "high")
    low, high = ([predictions(name, level, seed) for seed in range(3)] for name, level in (("low", 0), ("high", 9)))
    made.learn(where, [mixed(*low, *high)])
    validated(made, where, *low, *high)
    common, row = made.scales, made.table["high"]
    bad = predictions("high", 9, 4)
    bad.gt_label = torch.ones(4, dtype=torch.int64)
    validated(made, where, *low, bad)
    assert (made.table["high"], made.scales) == (row, common)
    assert "The category high keeps its thresholds" in caplog.text


def test_an_image_that_is_left_out_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    odd = predictions("low", 0, 0)
    odd.pred_score[0] = float("nan")
    validated(SoftPostProcessor(), trainer("low"), odd, *(predictions("low", 0, seed) for seed in range(1, 4)))
    assert caplog.text.count("The score of 'low/0.png' is not finite") == 1


def test_global_statistics_stay_anomalibs(made: CategoryPostProcessor) -> None:
    plain = validated(PostProcessor(), None, predictions("low", 0, 1), predictions("high", 9, 2))
    for name, value in plain.state_dict().items():
        assert torch.equal(made.state_dict()[name], value), name
    assert list(made.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("where", [trainer(), SimpleNamespace(datamodule=None), SimpleNamespace(datamodule=object())])
def test_without_a_known_category_the_global_ones_hold(made: CategoryPostProcessor, where: Any) -> None:
    plain = validated(PostProcessor(), None, predictions("low", 0, 1), predictions("high", 9, 2))
    result, expected = predictions("low", 0, 5), predictions("low", 0, 5)
    made.on_predict_batch_end(where, None, result)
    plain.on_predict_batch_end(where, None, expected)
    for field in FIELDS:
        assert torch.equal(getattr(result, field), getattr(expected, field)), field


def test_a_category_without_validation_images_gets_the_global_ones(made: CategoryPostProcessor) -> None:
    plain = validated(PostProcessor(), None, predictions("low", 0, 1), predictions("high", 9, 2))
    result = processed(made, trainer("low", "high", "new"), predictions("new", 4, 5))
    assert torch.equal(result.pred_score, processed(plain, None, predictions("new", 4, 5)).pred_score)


@pytest.mark.parametrize("kind", [CategoryPostProcessor, SoftPostProcessor])
def test_an_unknown_category_is_named_once_per_run(kind: type[PostProcessor], caplog: pytest.LogCaptureFixture) -> None:
    made, where = kind(), trainer("low", "high", "new")
    of = {name: [predictions(name, level, seed) for seed in range(3)] for name, level in (("low", 0), ("high", 9))}
    made.on_test_start(where, None)
    processed(made, where, predictions("new", 4, 5))
    assert not caplog.text  # no category has its own thresholds
    validated(made, where, *of["low"], *of["high"])
    caplog.clear()
    for start in (made.on_test_start, made.on_predict_start):
        start(where, None)
        for name in ("low", "new", "high", "new"):
            processed(made, where, predictions(name, 4, 5))
    said = (
        "Expected one of the model's categories, 'low', 'high', for each image, got 'new': the common threshold "
        "applies, which may miss defects. Load the images with MultiCategory, by these names."
    )
    assert [record.message for record in caplog.records] == [said, said]
    caplog.clear()
    for datamodule in (None, SimpleNamespace(categories_of=lambda batch: [None] * len(batch))):
        without = SimpleNamespace(datamodule=datamodule)
        made.on_predict_start(without, None)
        processed(made, without, predictions("low", 4, 5))
        processed(made, without, predictions("low", 4, 5))
    assert [", got none:" in record.message for record in caplog.records] == [True, True]
    caplog.clear()
    made.on_test_start(trainer(), None)
    processed(made, trainer(), predictions("low", 4, 5))  # known: the data choose the common threshold
    assert not caplog.text


def test_exports_have_the_global_ones(made: CategoryPostProcessor) -> None:
    plain = PostProcessor()
    plain.load_state_dict(made.state_dict())
    batch = predictions("low", 0, 5)
    raw = InferenceBatch(pred_score=batch.pred_score, anomaly_map=batch.anomaly_map)
    for ours, theirs in zip(made(raw), plain(raw), strict=True):
        assert torch.equal(ours, theirs)


def test_the_table_travels_with_the_checkpoint(made: CategoryPostProcessor) -> None:
    other = CategoryPostProcessor()
    other.load_state_dict(made.state_dict())
    other.load_checkpoint_config(made.checkpoint_config())
    where = trainer("low", "high")
    assert set(other.table) == {"low", "high"}
    assert torch.equal(
        processed(other, where, predictions("high", 9, 6)).anomaly_map,
        processed(made, where, predictions("high", 9, 6)).anomaly_map,
    )
    plain = PostProcessor(image_sensitivity=0.2)
    plain.load_checkpoint_config(made.checkpoint_config())  # a model without categories loads it all the same
    assert plain.image_sensitivity == 0.5
    assert made.state_key == plain.state_key


def test_the_next_validation_replaces_the_table(made: CategoryPostProcessor) -> None:
    before = dict(made.table)
    validated(made, trainer("low"), predictions("low", 3, 7))
    assert made.table["low"]["image_max"] > before["low"]["image_max"]
    assert made.table["high"] == before["high"]


def test_missing_maps_leave_no_pixel_statistics() -> None:
    made = validated(CategoryPostProcessor(), trainer("low"), predictions("low", 0, 1, maps=False))
    assert math.isnan(made.table["low"]["pixel_min"])
    assert processed(made, trainer("low"), predictions("low", 0, 2, maps=False)).pred_mask is None


def test_it_takes_over_settings_and_statistics() -> None:
    plain = validated(PostProcessor(image_sensitivity=0.3), None, predictions("low", 0, 1))
    made = by_category(plain)
    assert made.image_sensitivity == 0.3
    assert torch.equal(made.image_threshold, plain.image_threshold)
    assert by_category(made) is made


class Otherwise(PostProcessor):
    """Thresholds in a way of its own."""

    def threshold_batch(self, batch: Any) -> None:
        batch.pred_label = batch.pred_score > 0


@pytest.mark.parametrize(
    "other", [MEBinPostProcessor, Otherwise, lambda: PostProcessor(enable_normalization=False), lambda: None]
)
def test_it_replaces_nothing_but_anomalibs_own(other: Callable[[], Any]) -> None:
    with pytest.raises(
        TypeError, match="PostProcessor or our SoftPostProcessor, with normalisation, for thresholds='category'"
    ):
        by_category(other())


def test_without_thresholds_there_are_no_labels(made: CategoryPostProcessor) -> None:
    made.enable_thresholding = False
    result = processed(made, trainer("low", "high"), predictions("low", 0, 3))
    assert result.pred_label is None
    assert result.pred_score.max() <= 1
