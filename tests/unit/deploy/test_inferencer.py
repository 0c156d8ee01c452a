# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Verdicts of a hand-made export, whose raw map is the image's brightness."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from anomalib_mkd.deploy import DepthInferencer, Inferencer, graph
from anomalib_mkd.deploy.metadata import Input, Region
from anomalib_mkd.deploy.prediction import decide
from anomalib_mkd.thresholds import Fitted, Scale
from tests.exports import METADATA, picture, write_export

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPOT = (slice(5, 10), slice(10, 30))
GOOD, BAD = picture(), picture(spot=SPOT)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("pairs"), inputs=METADATA.inputs | {"depth": Input(1)})


pytestmark = pytest.mark.usefixtures("no_network")


def test_neither_torch_nor_anomalib_is_imported() -> None:
    code = """
import sys
import anomalib_mkd.deploy.__main__
heavy = {"torch", "anomalib", "lightning", "pandas", "cv2", "tifffile", "yaml", "timm", "rich"}
sys.exit(" ".join(heavy & {*sys.modules}) or 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
def test_a_signal_is_survived_after_inferencers_were_freed_in_any_order(export: Path) -> None:
    code = """
import os, signal, sys
from anomalib_mkd.deploy import Inferencer
first, second, third = (Inferencer(sys.argv[1]) for _ in range(3))
del first
del second
del third
signal.signal(signal.SIGUSR1, lambda *_: print("survived"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    ended = subprocess.run([sys.executable, "-c", code, export], check=True, capture_output=True, text=True)  # noqa: S603
    assert ended.stdout.strip() == "survived"


def test_pillow_does_not_suspect_an_attack_in_a_line_scan(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(BAD).save(tmp_path / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", BAD.shape[0] * BAD.shape[1] - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Inferencer(export).predict(tmp_path / "scan.png").bad


def test_a_defect_is_bad_and_boxed(export: Path) -> None:
    inferencer = Inferencer(export)
    good, bad = inferencer.predict(GOOD), inferencer.predict(BAD)
    assert not good.bad
    assert good.boxes == ()
    assert not good.mask.any()
    assert good.score == pytest.approx(METADATA.image.scaled(0.2))
    assert bad.bad
    assert bad.score == pytest.approx(METADATA.image.scaled(1.0))
    (box,) = bad.boxes
    assert (box.left, box.top, box.right, box.bottom, box.area) == (10, 5, 30, 10, 100)
    assert box.score == pytest.approx(METADATA.pixel.scaled(1.0))
    expected = np.zeros((40, 60), bool)
    expected[SPOT] = True
    np.testing.assert_array_equal(bad.mask, expected)


def test_agrees_with_anomalib(export: Path) -> None:
    from anomalib.deploy import OpenVINOInferencer  # seconds

    ours, theirs = Inferencer(export), OpenVINOInferencer(export, "CPU")
    for each in (GOOD, BAD):
        found, expected = ours.predict(each), theirs.predict(each)
        assert found.bad == bool(expected.pred_label.item())
        assert found.score == pytest.approx(expected.pred_score.item())
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map.squeeze(), rtol=1e-6)
        np.testing.assert_array_equal(found.mask, expected.pred_mask.squeeze())


def test_good_parts_have_no_boxes_although_pixels_lie_above(export: Path) -> None:
    bright = picture(spot=SPOT)
    bright[SPOT] = 170  # 0.67: above the pixel threshold
    prediction = Inferencer(export, threshold=METADATA.image.scaled(0.9)).predict(bright)
    assert not prediction.bad
    assert (prediction.anomaly_map > 0.5).sum() == 100
    assert prediction.boxes == ()
    assert not prediction.mask.any()


def test_batches_are_lists_of_any_sizes(export: Path) -> None:
    inferencer = Inferencer(export)
    found = inferencer.predict([GOOD, picture(20, 20, spot=(slice(0, 9), slice(0, 9))), BAD])
    assert [each.bad for each in found] == [False, True, True]
    assert [each.anomaly_map.shape for each in found] == [(40, 60), (20, 20), (40, 60)]
    assert [each.bad for each in inferencer.predict(np.stack([BAD, GOOD]))] == [True, False]
    assert inferencer.predict([]) == []


def test_a_stream_keeps_its_order_and_reads_no_further_than_it_must(export: Path) -> None:
    inferencer = Inferencer(export, config={"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 3})
    requests = inferencer._at_once
    assert requests > 1
    levels = np.linspace(0, 1, 50, dtype=np.float32)
    taken = 0

    def pictures() -> Iterator[Any]:
        nonlocal taken
        for level in levels:
            taken += 1
            yield np.full((8, 8, 3), level)

    scores = []
    for count, prediction in enumerate(inferencer.predict_many(pictures()), start=1):
        scores.append(prediction.score)
        assert taken <= count + requests
    np.testing.assert_allclose(scores, [METADATA.image.scaled(float(level)) for level in levels], atol=1e-6)


def test_an_error_or_an_early_end_leaves_a_usable_inferencer(export: Path) -> None:
    inferencer = Inferencer(export, config={"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 3})
    stream = inferencer.predict_many([GOOD, BAD, GOOD.astype(float), BAD])
    assert [next(stream).bad, next(stream).bad] == [False, True]
    with pytest.raises(ValueError, match=r"floats in 0\.\.1, got 51 to 51"):
        next(stream)
    for _ in inferencer.predict_many([GOOD] * 9):
        break
    assert [each.bad for each in inferencer.predict([GOOD, BAD, GOOD])] == [False, True, False]


@pytest.mark.parametrize(
    ("visible", "config", "expected"),
    [(2, None, 1), (2, {"INFERENCE_NUM_THREADS": 2}, 2), (1, {"INFERENCE_NUM_THREADS": 2}, 2)],
)
def test_threads_are_those_of_a_quota_or_the_users_and_are_not_pinned(
    export: Path, visible: int, config: dict[str, Any] | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "visible_cores", lambda: visible)
    monkeypatch.setattr(graph, "allowed_cores", lambda: 1)
    compiled = Inferencer(export, config=config)._compiled
    assert compiled.get_property("INFERENCE_NUM_THREADS") == expected
    assert not compiled.get_property("ENABLE_CPU_PINNING")


def test_streams_and_single_pictures_do_not_disturb_each_other(export: Path) -> None:
    inferencer = Inferencer(export, config={"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 3})
    found = [
        (one.bad, other.bad, inferencer.predict(BAD).bad)
        for one, other in zip(
            inferencer.predict_many([GOOD, BAD] * 5), inferencer.predict_many([BAD, GOOD] * 5), strict=True
        )
    ]
    assert found == [(False, True, True), (True, False, True)] * 5


@pytest.mark.parametrize("threshold", [0.75, 0.6, 0.51])
def test_a_model_cache_keeps_no_threshold(export: Path, tmp_path: Path, threshold: float) -> None:
    config = {"CACHE_DIR": str(tmp_path / "cache")}
    before = Inferencer(export, config=config).predict(GOOD).score
    moved = Inferencer(export, config=config, threshold=threshold).predict(GOOD).score
    assert moved == Inferencer(export, threshold=threshold).predict(GOOD).score
    assert moved < before
    assert len([*(tmp_path / "cache").rglob("*.blob")]) == 2


def test_thresholds_move(export: Path) -> None:
    assert Inferencer(export).predict(picture(spot=SPOT)).bad
    assert Inferencer(export, threshold=0.9).predict(GOOD).score < Inferencer(export).predict(GOOD).score
    strict = Inferencer(export, false_alarms=0.2)
    assert strict.metadata.image.threshold < METADATA.image.threshold
    assert strict.predict(GOOD).score == pytest.approx(strict.metadata.image.scaled(0.2))
    with pytest.raises(ValueError, match=r"Expected false_alarms >= 1e-9 and < 0\.5 or None, got nan"):
        Inferencer(export, false_alarms=float("nan"))


def test_a_category_has_its_own_verdict(tmp_path: Path) -> None:
    dark = Fitted(Scale(0.1, 0.05), Scale(0.6, 0.4), (0.01, 0.02))
    path = write_export(tmp_path, categories={"dark": dark})
    common, own = Inferencer(path).predict(GOOD), Inferencer(path, category="dark").predict(GOOD)
    assert (common.bad, own.bad) == (False, True)
    assert own.score == pytest.approx(dark.image.scaled(0.2), abs=1e-5)


def test_a_sensitivity_moves_the_limits_on_the_scale() -> None:
    metadata = dataclasses.replace(METADATA, label_above=0.7, mask_above=0.8)
    anomaly_map = np.array([[0.75, 0.9]], np.float32)
    assert not decide(0.65, anomaly_map, (1, 2), metadata).bad
    assert [(box.left, box.area) for box in decide(0.75, anomaly_map, (1, 2), metadata).boxes] == [(1, 1)]
    moved = metadata.adjusted(threshold=0.4)
    assert moved.image.scaled(float(metadata.image.raw(0.4))) == pytest.approx(0.7)


def test_a_region_is_all_that_counts(export: Path, tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[:12] = 255
    Image.fromarray(mask).save(tmp_path / "region.png")
    inside = Inferencer(export, region=tmp_path / "region.png").predict(BAD)
    assert inside.bad
    assert inside.score == pytest.approx(METADATA.image.scaled(1.0))
    outside = Inferencer(export, region=mask == 0).predict(BAD)
    assert not outside.bad
    assert outside.score == pytest.approx(METADATA.image.scaled(0.2))
    half = Inferencer(export, region=np.arange(60) < np.full((40, 1), 20)).predict(BAD)
    assert [(box.left, box.right, box.area) for box in half.boxes] == [(10, 20, 50)]
    with pytest.raises(ValueError, match=r"Expected an image of the region's size, 40x60 .*got 41x60"):
        Inferencer(export, region=mask).predict(picture(41))


def test_the_score_in_a_region_is_the_mean_of_its_highest_share() -> None:
    metadata = dataclasses.replace(METADATA, score_share=0.25, region=Region.of(np.eye(8)[::-1] + np.eye(8)))
    raw = np.random.default_rng(0).random((8, 8)) * 3
    scaled = np.vectorize(metadata.pixel.scaled)(raw).astype(np.float32)
    highest = np.sort(raw[metadata.region.mask])[-(1 + int(0.25 * 15)) :]
    assert decide(0.1, scaled, (8, 8), metadata).score == pytest.approx(metadata.image.scaled(highest.mean()), rel=1e-5)


def test_a_region_is_fitted_to_a_map_of_another_size() -> None:
    mask = np.zeros((40, 40), bool)
    mask[:20] = True
    metadata = dataclasses.replace(METADATA, region=Region.of(mask))
    anomaly_map = np.full((4, 4), 0.9, np.float32)
    prediction = decide(0.9, anomaly_map, (40, 40), metadata)
    assert [(box.top, box.bottom, box.area) for box in prediction.boxes] == [(0, 20, 800)]
    thin = dataclasses.replace(METADATA, region=Region.of(np.eye(40) * (np.arange(40) == 0)))
    with pytest.raises(ValueError, match="Expected a region that the model's map of 4x4 can show"):
        decide(0.9, anomaly_map, (40, 40), thin)


@pytest.mark.parametrize(("smallest_area", "bad"), [(0, True), (100, True), (101, False)])
def test_a_defect_may_need_an_area(export: Path, smallest_area: int, bad: bool) -> None:
    prediction = Inferencer(export, smallest_area=smallest_area).predict(BAD)
    assert prediction.bad == bad
    assert prediction.score == pytest.approx(METADATA.image.scaled(1.0))
    assert len(prediction.boxes) == bad


def test_smaller_regions_are_left_out_of_a_bad_part(export: Path) -> None:
    spots = BAD.copy()
    spots[30, 50] = 255
    assert [box.area for box in Inferencer(export).predict(spots).boxes] == [100, 1]
    prediction = Inferencer(export, smallest_area=2).predict(spots)
    assert [box.area for box in prediction.boxes] == [100]
    assert prediction.mask.sum() == 100
    with pytest.raises(ValueError, match="Expected smallest_area <= 2400, the pixels of the image, got 2401"):
        Inferencer(export, smallest_area=2401).predict(GOOD)


def test_a_score_needs_no_map(export: Path) -> None:
    alone, whole = Inferencer(export, maps=False), Inferencer(export)
    for part in (GOOD, BAD):
        prediction, other = alone.predict(part), whole.predict(part)
        assert (prediction.bad, prediction.score) == (other.bad, other.score)
        assert (prediction.anomaly_map.shape, prediction.mask.shape, prediction.boxes) == ((0, 0), (0, 0), ())
    for options in ({"smallest_area": 2}, {"region": np.ones((40, 60))}):
        with pytest.raises(ValueError, match="Expected maps=True with a region or a smallest area"):
            Inferencer(export, maps=False, **options)
    with pytest.raises(ValueError, match="Expected maps to be true or false, got 0"):
        Inferencer(export, maps=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("area", [0, 9])
def test_what_is_not_finite_is_never_good(value: float, area: int) -> None:
    metadata = dataclasses.replace(METADATA, smallest_area=area)
    fine, broken = np.full((8, 8), 0.1, np.float32), np.full((8, 8), 0.1, np.float32)
    broken[3, 3] = value
    assert not decide(0.1, fine, (8, 8), metadata).bad
    assert decide(value, fine, (8, 8), metadata).bad
    assert decide(0.1, broken, (8, 8), metadata).bad
    assert decide(0.1, broken, (8, 8), dataclasses.replace(metadata, region=Region.of(np.ones((8, 8))))).bad


def test_a_size_that_was_exported_is_kept(tmp_path: Path) -> None:
    path = write_export(tmp_path, inputs={"image": Input(3, size=(40, 60))})
    assert Inferencer(path).predict(BAD).bad
    with pytest.raises(
        ValueError, match=r"Expected image of shape \(3, 40, 60\).*got \(3, 60, 40\)\. Resize it, or exp"
    ):
        Inferencer(path).predict(BAD.transpose(1, 0, 2))


def test_each_class_takes_its_own_models(export: Path, pairs: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected a model of image, got .* of image and depth\. Use DepthInferencer"):
        Inferencer(pairs)
    with pytest.raises(ValueError, match=r"Expected a model of image and depth, got .* of image\. Use Inferencer"):
        DepthInferencer(export)


def test_pairs_are_predicted(pairs: Path, tmp_path: Path) -> None:
    depth = np.zeros((40, 60), np.float32)
    deep = depth.copy()
    deep[SPOT] = 0.6
    inferencer = DepthInferencer(pairs)
    assert [inferencer.predict(GOOD, each).bad for each in (depth, deep)] == [False, True]
    assert [each.bad for each in inferencer.predict([GOOD, BAD], [depth, depth])] == [False, True]
    np.save(tmp_path / "depth.npy", deep)
    assert inferencer.predict(GOOD, tmp_path / "depth.npy").boxes[0].area == 100
    prepared = DepthInferencer(pairs, source=lambda path: np.load(path)[None] * 0)
    assert not prepared.predict(GOOD, tmp_path / "depth.npy").bad
    assert not DepthInferencer(pairs, threshold=0.9).predict(GOOD, deep).bad
    with pytest.raises(TypeError, match="got no depth"):
        inferencer.predict(GOOD)  # OpenVINO alone would use the depth of the call before
    with pytest.raises(ValueError, match="Expected as many depth maps as photos, got 1 for 2"):
        inferencer.predict([GOOD, BAD], [depth])
    with pytest.raises(ValueError, match="Expected as many depth maps as photos, got one for 2"):
        inferencer.predict([GOOD, BAD], depth)
    with pytest.raises(ValueError, match=r"Expected depth of shape \(1, 40, 60\)"):
        inferencer.predict(GOOD, np.zeros((40, 60, 3), np.float32))


def test_depth_in_another_unit_than_in_training_is_named(tmp_path: Path) -> None:
    inputs = METADATA.inputs | {"depth": Input(1, range=(0.0, 0.6))}
    inferencer = DepthInferencer(write_export(tmp_path, inputs=inputs))
    depth = np.full((40, 60), 0.5, np.float32)
    inferencer.predict(GOOD, depth)
    with pytest.warns(RuntimeWarning, match=r"^Expected depths up to about 0.6, .* in a depth map, got 500"):
        inferencer.predict(GOOD, depth * 1000)


def test_f32_is_asked_for_unless_another_precision_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = __import__("openvino").Core.compile_model

    def note(core: Any, model: Any, device: str, config: dict[str, Any]) -> Any:
        asked.append(config)
        return original(core, model, device, config)

    monkeypatch.setattr("openvino.Core.compile_model", note)
    Inferencer(write_export(tmp_path))
    Inferencer(write_export(tmp_path), config={"INFERENCE_PRECISION_HINT": "bf16"})
    assert [config.get("INFERENCE_PRECISION_HINT") for config in asked] == ["f32", "bf16"]
