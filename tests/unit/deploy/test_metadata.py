# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Three files that belong together, and what their metadata may be changed to."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_mkd.deploy import metadata as module
from anomalib_mkd.deploy.graph import load
from anomalib_mkd.deploy.metadata import Metadata, Region, read, write
from anomalib_mkd.export.staged import staged
from anomalib_mkd.thresholds import FALSE_ALARMS, Fitted, Scale, threshold_from_good
from tests.exports import METADATA, graph, write_export

OTHER = dataclasses.replace(METADATA, image=Scale(0.7, 0.2))


def test_everything_comes_back(tmp_path: Path) -> None:
    mask = np.zeros((7, 9), bool)
    mask[2:4, 3:8] = True
    own = Fitted(Scale(0.7, 0.2), Scale(0.8, 0.4), (0.1, 0.3))
    names = {'"ü" <b>&': own, "\\": own}
    metadata = dataclasses.replace(METADATA, region=Region.of(mask), smallest_area=3, categories=names)
    write(tmp_path / "model.xml", graph(metadata), metadata)
    assert read(tmp_path / "model.xml") == metadata
    assert load(tmp_path / "model.xml")[1] == metadata
    np.testing.assert_array_equal(read(tmp_path / "model.xml").region.mask, mask)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.json", "model.xml"]


def test_an_export_of_an_earlier_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Metadata.to_json

    def earlier(self: Metadata) -> dict[str, Any]:
        content = now(self) | {"inference_precision": "f32"}
        content["inputs"]["image"] |= {"colours": "RGB", "layout": "NCHW"}
        del content["own_false_alarms"]
        return content

    with monkeypatch.context() as patch:
        patch.setattr(Metadata, "to_json", earlier)
        path = write_export(tmp_path)
    assert load(path)[1] == METADATA


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".json"])
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = write_export(tmp_path)
    path.with_suffix(suffix).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"Expected .*model\{suffix}, got no such file. Export the model again"
    ):
        read(path)


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    path = write_export(tmp_path)
    binary = path.with_suffix(".bin")
    binary.write_bytes(binary.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"Expected .*model\.bin as it was written with model\.json, got other content"
    ):
        read(path)


def test_the_json_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_export(tmp_path / "other", image=OTHER.image)
    path = write_export(tmp_path)
    other.with_suffix(".json").replace(path.with_suffix(".json"))
    with pytest.raises(ValueError, match=r"Expected .*model\.xml as it was written with model\.json"):
        load(path)


def test_an_edited_json_is_refused(tmp_path: Path) -> None:
    path = write_export(tmp_path)
    content = json.loads(path.with_suffix(".json").read_text())
    content["image"]["threshold"] = 9.0
    path.with_suffix(".json").write_text(json.dumps(content))
    assert read(path).image.threshold == 9.0
    with pytest.raises(ValueError, match=r"Do not edit it: use python -m anomalib_mkd\.deploy threshold"):
        load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"files": 3}', "\xff"])
def test_what_is_no_json_of_an_export_is_refused(tmp_path: Path, text: str) -> None:
    path = write_export(tmp_path)
    path.with_suffix(".json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"Expected the JSON of an export in .*model\.json.*Export again"):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"Expected format 1 in place, got 2\. Use the anomalib-mkd that exported it"),
        ({"image": None}, "Expected all that an export writes in place"),
        ({"image": {"threshold": 1.0, "scale": 0.0}}, r"got ValueError: Expected a finite threshold and a scale > 0"),
        ({"inputs": {"image": {"channel": 3}}}, "Expected all that an export writes in place, got TypeError"),
    ],
)
def test_unknown_content_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Metadata.from_json(METADATA.to_json() | change, "place")
    with pytest.raises(ValueError, match="got KeyError: 'model'"):
        Metadata.from_json({"format": 1}, "place")


def test_an_onnx_file_is_no_export_of_three(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected the \.xml file of an export, got .*model\.onnx"):
        read(tmp_path / "model.onnx")


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_kill_between_renames_leaves_the_new_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moved: int
) -> None:
    path = write_export(tmp_path)
    assert not caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(module, "_move", lambda _: None)
        write(path, graph(OTHER), OTHER)
    complete = tmp_path / ".model.complete"
    for suffix in module.SUFFIXES[:moved]:
        (complete / f"model{suffix}").replace(path.with_suffix(suffix))
    assert load(path)[1] == OTHER
    assert len(list(tmp_path.iterdir())) == 3
    assert (f"An interrupted change of {path} is complete now." in caplog.text) == (moved < 3)


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2])  # with a new time, and with its own
@pytest.mark.parametrize("moved", [0, 1, 2])
def test_an_export_that_was_put_back_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moved: int, copy: Any
) -> None:
    (tmp_path / "saved").mkdir()
    saved, path = write_export(tmp_path / "saved"), write_export(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_move", lambda _: None)  # killed
        write(path, graph(OTHER), OTHER)
    for suffix in module.SUFFIXES[:moved]:
        (tmp_path / ".model.complete" / f"model{suffix}").replace(path.with_suffix(suffix))
    time.sleep(0.02)  # a clock's tick
    for suffix in module.SUFFIXES:
        copy(saved.with_suffix(suffix), path.with_suffix(suffix))
    assert load(path)[1] == METADATA
    assert f"An interrupted change of {path} was dropped: the export there is newer." in caplog.text
    assert len(list(tmp_path.iterdir())) == 4


def test_a_newer_time_alone_is_no_newer_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a change of rights, where a kill had left half of each."""
    path = write_export(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_move", lambda _: None)
        write(path, graph(OTHER), OTHER)
    (tmp_path / ".model.complete" / "model.xml").replace(path)
    path.with_suffix(".json").touch()
    assert load(path)[1] == OTHER


def test_a_killed_change_does_not_replace_a_later_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_export(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(module, "_move", lambda _: None)  # killed once it was complete
        write(path, graph(OTHER), OTHER)
    with staged(tmp_path) as folder:
        write_export(folder, smallest_area=7)
    assert read(path).smallest_area == 7
    with monkeypatch.context() as killed:
        killed.setattr(module, "_move", lambda _: None)
        write(path, graph(OTHER), OTHER)
    with staged(tmp_path) as folder:
        (folder / "model.xml").write_text("another post-processor's")
    assert path.read_text() == "another post-processor's"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.json", "model.xml"]


def test_a_failed_write_leaves_the_old_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_export(tmp_path)

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_sync", fail)
    with pytest.raises(OSError, match=r"Expected to write an export into .*No space left.*Free space"):
        write(path, graph(OTHER), OTHER)
    assert load(path)[1] == METADATA
    assert len(list(tmp_path.iterdir())) == 3


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.exports import METADATA, graph
from anomalib_mkd.deploy.metadata import write
from anomalib_mkd.thresholds import Scale
import dataclasses
path = Path(sys.argv[1])
print("ready", flush=True)
number = 1000 * int(sys.argv[3])
while True:
    number += 1
    metadata = dataclasses.replace(METADATA, image=Scale(float(number), 0.2))
    write(path, graph(metadata), metadata)
"""


@pytest.mark.slow
def test_kill_9_at_any_moment_leaves_a_whole_export(tmp_path: Path) -> None:
    path = write_export(tmp_path)
    found = set()
    for attempt in range(6):
        command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parents[3]), str(attempt)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.1 + 0.0737 * attempt)
            os.kill(process.pid, signal.SIGKILL)
        found.add(load(path)[1].image.threshold)
    assert len(found) > 1


def test_the_threshold_moves_to_a_score() -> None:
    moved = METADATA.adjusted(threshold=METADATA.image.scaled(0.62))
    assert moved.image.threshold == pytest.approx(0.62)
    assert moved.image.scale == METADATA.image.scale
    assert moved.false_alarms is None


def test_the_threshold_moves_to_a_share_of_false_alarms() -> None:
    few, many = (METADATA.adjusted(false_alarms=share) for share in (0.001, 0.2))
    assert few.image.threshold > METADATA.adjusted(false_alarms=0.01).image.threshold > many.image.threshold
    assert few.false_alarms == 0.001
    new = METADATA.adjusted(good_scores=[2.0, 1.0, 3.0, 2.5, 1.5])
    assert new.good_scores == (1.0, 1.5, 2.0, 2.5, 3.0)
    assert new.false_alarms == METADATA.false_alarms
    assert new.image.threshold > 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({"false_alarms": share}, "Expected false_alarms >= 1e-9 and < 0.5")
            for share in (0, 1, 2, float("nan"), -0.1)
        ),
        ({"threshold": 1.0}, "Expected threshold > 0 and < 1"),
        ({"threshold": float("nan")}, "Expected threshold > 0 and < 1"),
        ({"threshold": 0.4, "false_alarms": 0.1}, "Expected one rule for the threshold"),
        ({"smallest_area": -1}, "Expected smallest_area >= 0"),
        ({"smallest_area": 1.5}, "Expected smallest_area >= 0"),
        ({"good_scores": [0.3]}, "1"),
        ({"good_scores": [0.3, 0.2, float("nan"), 0.1, 0.2]}, "finite"),
    ],
)
def test_refuses_senseless_changes(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METADATA.adjusted(**change)  # type: ignore[arg-type]


def test_false_alarms_need_scores_of_good_parts() -> None:
    without = dataclasses.replace(METADATA, good_scores=(), false_alarms=None)  # of best F1
    with pytest.raises(ValueError, match=r"Expected stored scores of .*deploy threshold MODEL --good FOLDER\."):
        without.adjusted(false_alarms=0.02)
    assert without.adjusted(good_scores=[0.1, 0.2, 0.3, 0.4, 0.5]).false_alarms == FALSE_ALARMS


def test_a_region_belongs_to_scores_of_a_map() -> None:
    region = Region.of(np.ones((2, 2)))
    with pytest.raises(ValueError, match="Expected a model that scores by its map, got Mkd"):
        dataclasses.replace(METADATA, model="Mkd", score_share=None).adjusted(region=region)
    own = METADATA.adjusted(region=region)
    with pytest.raises(ValueError, match="Expected no region beside the model's own"):
        own.adjusted(region=region)
    assert own.adjusted(region=region, good_scores=[0.1, 0.2, 0.3, 0.4, 0.5]).region == region


@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.ones((3, 3, 3)), np.ones(4)])
def test_refuses_what_is_no_region(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Expected a region \(H, W\)"):
        Region.of(mask)


def test_every_category_has_its_own_thresholds() -> None:
    good = tuple(np.linspace(0.1, 0.2, 20).tolist())
    dark = Fitted(Scale(0.3, 0.1), Scale(0.35, 0.2), good)
    several = dataclasses.replace(METADATA, categories={"dark": dark})
    assert several.of_category("dark") == dataclasses.replace(METADATA, **dark._asdict())
    with pytest.raises(ValueError, match=r"Expected a category of the model, got 'light'\. It knows 'dark'\."):
        several.of_category("light")
    with pytest.raises(ValueError, match=r"got 'dark'\. It knows none: it was trained on a single category"):
        METADATA.of_category("dark")
    light = Fitted(Scale(0.9, 0.1), Scale(0.95, 0.2), tuple(np.linspace(0.5, 0.8, 20).tolist()))
    several = dataclasses.replace(METADATA, categories={"light": light, "dark": dark})
    moved = several.adjusted(false_alarms=0.2)  # of all; the common one is the highest
    assert moved.categories["dark"].image.threshold == threshold_from_good(good, 0.2)
    assert moved.categories["light"].image.threshold == threshold_from_good(light.good_scores, 0.2)
    assert (moved.image, moved.good_scores) == (moved.categories["light"].image, light.good_scores)
    new = several.adjusted(good_scores=good)  # of all that have no known category
    assert (new.categories, new.good_scores) == (several.categories, good)
    with pytest.raises(ValueError, match=r"Expected the category of the images with region, got none of light, dark"):
        several.adjusted(region=Region.of([[True]]))
    own = several.with_category("dark", several.of_category("dark").adjusted(threshold=0.4))
    assert own.of_category("dark").false_alarms is None
    assert own.of_category("light").false_alarms == METADATA.false_alarms
    assert own.adjusted(false_alarms=0.2).of_category("dark").false_alarms == 0.2
    assert several.of_category("dark").adjusted(region=Region.of([[True]])).image == dark.image
