# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A model's process: what it found is kept, and its end is explained, whatever it was."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from anomalib_mkd.compare import runs
from anomalib_mkd.compare.rows import Row
from anomalib_mkd.compare.runs import (
    JOB,
    RESULT,
    Contents,
    DataError,
    Job,
    examine,
    export_of,
    folder_of,
    kept,
    key,
    run,
    write_result,
)

if TYPE_CHECKING:
    from pathlib import Path

ROW = Row("Padim", notes=("A note.",), image_auroc=0.9, training_seconds=3.0)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(runs, "POLL", 0.01)
    data = tmp_path / "data.yaml"
    data.write_text("data: {}\n")
    folder_of(tmp_path, "Padim").mkdir(parents=True)
    return Job("Padim", folder_of(tmp_path, "Padim"), data, "auto", 0, 60.0, "the key")


def worker(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a script take the place of the worker; its argument is the file of the job."""
    monkeypatch.setattr(runs, "WORKER", (sys.executable, "-c", script))


def result(row: Row, *, stop: bool = False, goes_on: bool = False) -> str:
    """A script that leaves a result."""
    content = {"key": "the key", "seconds": 60.0, "stop": stop, "goes_on": goes_on, "row": dataclasses.asdict(row)}
    text = json.dumps(json.dumps(content))
    start = f"import sys, pathlib; part = pathlib.Path(sys.argv[1]).with_name('part'); part.write_text({text})"
    return f"{start}; part.replace(part.with_name('{RESULT}'))"


def test_a_job_is_read_as_it_was_written(job: Job) -> None:
    assert Job.read(job.write()) == job


def test_a_result_is_returned_and_kept_for_the_same_key_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(monkeypatch, result(ROW))
    assert kept(job) is None
    assert run(job, limit=60) == ROW
    assert time.time() - 60 < Job.read(job.folder / JOB).started < time.time()
    assert kept(job) == ROW
    assert kept(dataclasses.replace(job, key="another")) is None


def test_a_row_without_8_bits_is_kept_if_these_failed_but_not_if_the_command_was_killed(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.write()
    write_result(job, ROW, goes_on=True)
    assert kept(job) is None
    worker(monkeypatch, result(ROW, goes_on=True))  # the process ends, the command does not
    assert run(job, limit=60) == ROW
    assert kept(job) == ROW


def test_exports_of_an_earlier_run_are_removed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("f32", "int8"):
        export = export_of(job.folder.parents[1], job.recipe, kind)
        export.parent.mkdir(parents=True)
        export.touch()
    again = f"import sys, pathlib; pathlib.Path(sys.argv[1]).with_name('f32').mkdir(); {result(ROW)}"
    worker(monkeypatch, again)
    assert run(job, limit=60) == ROW
    assert {path.name for path in job.folder.iterdir() if path.is_dir()} == {"f32"}


def test_half_written_and_failed_ones_are_not_kept(job: Job) -> None:
    job.write()
    (job.folder / RESULT).write_text('{"key": "the key", "ro')
    assert kept(job) is None
    write_result(job, dataclasses.replace(ROW, reason="It broke."))
    assert kept(job) is None
    write_result(job, ROW)
    assert kept(job) == ROW


def test_one_that_the_budget_stopped_is_trained_again_with_a_larger_one(job: Job) -> None:
    job = dataclasses.replace(job, budget=100.0)
    stopped = dataclasses.replace(ROW, stopped=True)
    write_result(job, stopped)
    assert kept(job) == stopped
    assert kept(dataclasses.replace(job, seconds=120)) == stopped  # the others have ended
    assert kept(dataclasses.replace(job, budget=200)) == stopped  # for more models
    assert kept(dataclasses.replace(job, seconds=120, budget=200)) is None
    write_result(job, ROW)
    assert kept(dataclasses.replace(job, seconds=120, budget=200)) == ROW


def test_the_result_of_a_short_training_is_kept_until_there_is_one_of_a_longer(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = dataclasses.replace(ROW, stopped=True)
    write_result(job, stopped)
    export = export_of(job.folder.parents[1], job.recipe, "f32")
    export.parent.mkdir(parents=True)
    export.touch()
    longer = dataclasses.replace(job, seconds=120.0, budget=200.0)

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    worker(monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):
        run(longer, limit=60, tick=interrupt)
    assert kept(job) == stopped
    broken = result(dataclasses.replace(ROW, reason="It broke."))
    for script, why in (
        ("raise SystemExit(3)", "Expected the process to finish, got exit code 3"),
        (broken, "It broke."),
    ):
        worker(monkeypatch, script)
        row = run(longer, limit=60)
        assert row.notes[1].startswith(f"Not trained for longer. {why}")
        assert dataclasses.replace(row, notes=stopped.notes) == stopped
        assert kept(job) == stopped
        assert kept(longer) is None  # tried again
        assert export.exists()
    worker(monkeypatch, result(ROW))
    assert run(longer, limit=60) == kept(longer) == ROW


def test_an_old_result_is_not_taken_for_that_of_a_process_that_died(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(dataclasses.replace(job, key="another"), ROW)
    worker(monkeypatch, "raise SystemExit(3)")
    row = run(job, limit=60)
    assert row.reason.startswith("Expected the process to finish, got exit code 3 while starting. See '")
    assert kept(job) is None


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_kill_is_explained(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    phase = "import sys, os, pathlib; pathlib.Path(sys.argv[1]).with_name('phase.txt').write_text('training')"
    worker(monkeypatch, f"{phase}; os.kill(os.getpid(), 9)")
    assert run(job, limit=60).reason.startswith("Expected the process to finish, got killed while training, as systems")


def test_a_process_that_takes_too_long_is_ended(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(monkeypatch, "import time; time.sleep(600)")
    ticks: list[str] = []
    row = run(dataclasses.replace(job, budget=90.0), limit=0.3, tick=ticks.append)
    assert row.reason.endswith("Allow a longer --budget, such as 3m.")
    assert row.reason.startswith("Expected the model to finish within 0.0 min, its share of the budget, got stopped ")
    assert set(ticks) == {"starting"}


def test_what_was_done_before_the_end_is_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = dataclasses.replace(ROW, unfinished=True)
    late = SimpleNamespace(monotonic=lambda: 100.0 * (job.folder / RESULT).exists(), sleep=time.sleep, time=time.time)
    monkeypatch.setattr(runs, "time", late)
    for end in ("import time; time.sleep(600)", "raise SystemExit(3)"):
        worker(monkeypatch, f"{result(partial)}; {end}")
        assert run(job, limit=60) == partial
        assert kept(job) == partial
        (job.folder / RESULT).unlink()


def test_data_that_no_model_can_use_stop_the_comparison(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    worker(monkeypatch, result(Row("Padim", reason="Expected other data."), stop=True))
    with pytest.raises(DataError, match="Expected other data"):
        run(job, limit=60)


def test_the_key_changes_with_what_a_result_depends_on() -> None:
    first = key(files=[["000.png", 1, 2]], seed=0, recipe={"share": 0.01})
    assert key(recipe={"share": 0.01}, files=[["000.png", 1, 2]], seed=0) == first
    assert key(files=[["000.png", 1, 2]], seed=1, recipe={"share": 0.01}) != first
    assert key(files=[["000.png", 1, 2]], seed=0, recipe={"share": 0.1}) != first
    assert key(files=[["000.png", 1, 3]], seed=0, recipe={"share": 0.01}) != first


def test_data_are_looked_into_by_a_process_whose_end_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script, error in (
        ("print('A log.', {'files': 1}); print('{\"error\": \"Expected a, got b.\"}')", r"^Expected a, got b\.$"),
        ("raise SystemExit(3)", r"^Expected the data to be read, got exit code 3\. See '.*log\.txt'\.$"),
    ):
        monkeypatch.setattr(runs, "READER", (sys.executable, "-c", script))
        with pytest.raises(DataError, match=error):
            examine(tmp_path / "data.yaml", tmp_path)
    found = '{"files": [["a", 1, 2]], "validates_on_test": false}'
    monkeypatch.setattr(runs, "READER", (sys.executable, "-c", f"print('A log.'); print({found!r})"))
    assert examine(tmp_path / "data.yaml", tmp_path) == Contents([["a", 1, 2]], validates_on_test=False)
