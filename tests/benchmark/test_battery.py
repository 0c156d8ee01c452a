# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The battery passes a sound model, and a broken one fails the check that is about its fault."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

import pytest
import torch

from anomalib_mkd import MixedDistillation
from benchmark import battery
from benchmark.battery import EMBEDDED, SUBJECTS, Subject, measure_battery, run_battery, run_check
from benchmark.report import TABLES
from benchmark.rows import BATTERY, CHECKED, Row, read_rows
from tests.life import NOISE

if TYPE_CHECKING:
    from pathlib import Path

    from benchmark.battery import Check

pytestmark = [pytest.mark.filterwarnings(noise) for noise in NOISE]


class ReadsLabels(MixedDistillation):
    def training_step(self, batch: Any, *arguments: Any) -> Any:
        decay = sum(weight.square().sum() for weight in self.model.student.parameters())
        return super().training_step(batch, *arguments) + batch.gt_label.float().mean() * decay


class Draws(MixedDistillation):
    def validation_step(self, batch: Any, *arguments: Any) -> Any:
        torch.rand(1)
        return super().validation_step(batch, *arguments)

    test_step = predict_step = validation_step


class Reseeds(MixedDistillation):
    def training_step(self, batch: Any, *arguments: Any) -> Any:
        torch.manual_seed(0)
        return super().training_step(batch, *arguments)


class MovesItsTeacher(MixedDistillation):
    def on_train_end(self) -> None:
        super().on_train_end()
        next(self.model.teacher.parameters()).data.add_(1e-6)


class HasNoSeed(MixedDistillation):
    def on_train_start(self) -> None:
        torch.seed()
        super().on_train_start()


class Downloads(MixedDistillation):
    def __init__(self) -> None:
        super().__init__(**EMBEDDED)
        socket.create_connection(("192.0.2.1", 80), timeout=1)


class ForgetsArguments(MixedDistillation):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"]["sigma"] = 8.0


class NeedsABatch(MixedDistillation):
    def training_step(self, batch: Any, *arguments: Any) -> Any:
        if len(batch.image) == 1:
            raise ValueError
        return super().training_step(batch, *arguments)


BROKEN = (
    (ReadsLabels, battery.no_labels, "with wrong labels and masks"),
    (Draws, battery.global_state, "testing or predicting changed the random state of torch"),
    (Reseeds, battery.global_state, "training set the random state of torch"),
    (MovesItsTeacher, battery.teacher_unchanged, "1 of"),
    (HasNoSeed, battery.same_seed, "second training"),
    (Downloads, battery.constructs_offline, "needs a network"),
    (ForgetsArguments, battery.checkpoint, "loaded: pred_score differs"),
    (NeedsABatch, battery.batch_of_1, "ValueError"),
    (NeedsABatch, battery.last_batch_of_1, "ValueError"),
)


def test_every_model_is_checked() -> None:
    assert tuple(SUBJECTS) == CHECKED


def test_a_sound_model_passes() -> None:
    checks = [*dict.fromkeys(check for _, check, _ in BROKEN if check is not battery.global_state)]
    outcomes = run_battery(Subject(MixedDistillation, EMBEDDED), [*checks, battery.yaml_and_back])
    assert [(outcome.check, outcome.reason) for outcome in outcomes if outcome.value != 1] == []


@pytest.mark.parametrize(("model", "check", "reason"), BROKEN)
def test_a_broken_model_fails_its_check(
    model: type[MixedDistillation], check: Check, reason: str, tmp_path: Path
) -> None:
    outcome = run_check(check, Subject(model, EMBEDDED), tmp_path)
    assert outcome.value == 0
    assert reason in outcome.reason


def test_outcomes_become_rows_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fine(subject: Subject, folder: Path) -> None:
        del subject, folder

    def wrong(subject: Subject, folder: Path) -> None:
        del subject
        msg = f"no {folder}/x | y"
        raise RuntimeError(msg)

    def elsewhere(subject: Subject, folder: Path) -> None:
        del subject, folder
        socket.create_connection(("192.0.2.1", 80), timeout=1)

    monkeypatch.setattr(battery, "run_battery", lambda subject: run_battery(subject, [fine, wrong, elsewhere]))
    file = tmp_path / "battery.csv"
    rows = measure_battery("Dcam", results=file, source="abc")
    assert measure_battery("Dcam", results=file, source="abc") == []
    assert [(row.metric, row.subset) for row in rows] == [
        ("fine", "all"),
        ("wrong", "RuntimeError: no wrong/x / y"),
        ("elsewhere", "weights not to be had"),
    ]
    assert [row.value for row in rows[:2]] == [1, 0]
    assert math.isnan(rows[2].value)
    again: list[Row] = measure_battery("Mkd", results=file, source="abc")
    assert {row.protocol for row in again} == {BATTERY}
    assert TABLES["battery"].markdown(read_rows(file)).splitlines() == [
        "| Check | Dcam | Mkd |",
        "| --- | ---: | ---: |",
        "| fine | passed | passed |",
        "| wrong | failed (1) | failed (1) |",
        "| elsewhere | skipped (2) | skipped (2) |",
        "",
        "1. `RuntimeError: no wrong/x / y`",
        "2. `weights not to be had`",
    ]
    with pytest.raises(ValueError, match=r"Expected a model among MixedDistillation, .*, got 'mkd'"):
        measure_battery("mkd", results=file, source="abc")
