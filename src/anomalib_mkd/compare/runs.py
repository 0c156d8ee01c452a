# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Starting one model's process, waiting for it no longer than its share, and keeping what it found."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib_mkd.compare.rows import Row
from anomalib_mkd.files import whole

if TYPE_CHECKING:
    from collections.abc import Callable

RESULT, JOB, PHASE, LOG = "result.json", "job.json", "phase.txt", "log.txt"
WORKER = (sys.executable, "-m", "anomalib_mkd.compare.worker")
"""Command that does a job."""
PAGE, TABLE, TEXT = "compare.html", "compare.csv", "compare.md"
READER = (sys.executable, "-m", "anomalib_mkd.compare.data")
"""Command that looks into data: its libraries take memory that the trainings need."""
POLL = 0.5
"""Seconds between two looks at a process."""


class DataError(ValueError):
    """The data cannot be used, so no model can be trained on them."""


@dataclass(frozen=True)
class Job:
    """Work of one process.

    Attributes:
        recipe: Name of the recipe.
        folder: For everything that it writes.
        data: Configuration of the datamodule.
        weights: As on the command line.
        seed: Of the training.
        seconds: From the start of the process until the training ends.
        key: Identifies data, recipe, settings and versions.
        budget: Seconds that all models of the command share.
        started: When the process was started, by this computer's clock: that of a file server may be another.
    """

    recipe: str
    folder: Path
    data: Path
    weights: str
    seed: int
    seconds: float
    key: str
    budget: float = 0.0
    started: float = 0.0

    def write(self) -> Path:
        """Write the job into its folder, for the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        with whole(self.folder / JOB) as unfinished:
            unfinished.write_text(json.dumps(values, indent=2), encoding="utf-8")
        return self.folder / JOB

    @classmethod
    def read(cls, file: Path) -> Job:
        """Read what :meth:`write` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        return cls(**values | {name: Path(values[name]) for name in ("folder", "data")})

    def say(self, phase: str) -> None:
        """Say what the process is doing."""
        with whole(self.folder / PHASE) as unfinished:
            unfinished.write_text(phase, encoding="utf-8")


def folder_of(output: Path, name: str) -> Path:
    """Return the folder of a model."""
    return output / "models" / name.replace(" %", "").replace(" ", "_")


def export_of(output: Path, name: str, kind: str) -> Path:
    """Return the ``.xml`` file of a model's export, ``f32`` or ``int8``."""
    return folder_of(output, name) / kind / "weights" / "openvino" / "model.xml"


def remove_exports(job: Job) -> None:
    """Remove what an earlier run exported, maybe of other data."""
    for kind in ("f32", "int8"):
        if (job.folder / kind).exists():
            shutil.rmtree(job.folder / kind)


def write_result(job: Job, row: Row, *, stop: bool = False, goes_on: bool = False) -> None:
    """Keep a row.

    Args:
        job: The job.
        row: What it found.
        stop: Whether no other model can do better.
        goes_on: Whether its process goes on, so that the row is only kept if that fails.
    """
    content = {"key": job.key, "seconds": job.seconds, "budget": job.budget, "stop": stop, "goes_on": goes_on}
    content["row"] = asdict(row)
    with whole(job.folder / RESULT) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _read_result(folder: Path) -> dict[str, Any] | None:
    """Return a result; ``None`` if there is none, or one of another version."""
    try:
        content: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        content.setdefault("goes_on", False)
        content.setdefault("budget", 0.0)
        content["row"] = Row(**content["row"] | {"notes": tuple(content["row"]["notes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return content


def kept(job: Job) -> Row | None:
    """Return the row of an earlier run of the same command; ``None`` if the model has to be trained.

    A failed model is tried again, as is one that was killed together with the command, and one that the budget stopped
    if a larger one gives it more time.
    """
    content = finished(job)
    if content is None:
        return None
    row: Row = content["row"]
    longer = job.budget > content["budget"] and job.seconds > 1.1 * content["seconds"]
    return None if row.cut_short and longer else row


def finished(job: Job) -> dict[str, Any] | None:
    """Return the result of the same data, recipe and settings; ``None`` if there is none, or a failure."""
    content = _read_result(job.folder)
    usable = content is not None and content["key"] == job.key and not content["row"].reason and not content["goes_on"]
    return content if usable else None


class Contents(NamedTuple):
    """What a comparison has to know of the data.

    Attributes:
        files: Name, size and time of each file that results depend on.
        validates_on_test: Whether test images set thresholds.
    """

    files: list[Any]
    validates_on_test: bool


def examine(data: Path, output: Path) -> Contents:
    """Look into the data, in a process of its own.

    Args:
        data: Configuration of the datamodule.
        output: Folder for results, which gets a log.

    Raises:
        DataError: If the data cannot be used.
    """
    with (output / LOG).open("wb") as log:
        ended = subprocess.run([*READER, str(data)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)  # noqa: S603, PLW1510
    if ended.returncode:
        msg = f"Expected the data to be read, got exit code {ended.returncode}. See '{output / LOG}'."
        raise DataError(msg)
    found = json.loads(ended.stdout.splitlines()[-1])
    if "error" in found:
        raise DataError(found["error"])
    return Contents(**found)


def key(**settings: Any) -> str:
    """Identify what a result depends on: the data and all settings, as JSON knows them."""
    return sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def run(job: Job, limit: float, tick: Callable[[str], None] = lambda _: None) -> Row:
    """Run a job in a process of its own.

    Args:
        job: The job; what an unfinished run of it left is overwritten, what a finished one found only by a new result.
        limit: Seconds after which the process is ended.
        tick: Called about twice a second with what the process is doing.

    Returns:
        Its row, which says the reason if there are no figures; without exports if it was ended while exporting.

    Raises:
        DataError: If the data cannot be used.
        OSError: If the folder cannot be written to.
    """
    before = finished(job)  # of one that the budget stopped
    (job.folder / PHASE).unlink(missing_ok=True)
    if before is None:
        (job.folder / RESULT).unlink(missing_ok=True)
        remove_exports(job)
    file = replace(job, started=time.time()).write()
    start, late = time.monotonic(), False
    with (job.folder / LOG).open("wb") as log:
        process = subprocess.Popen([*WORKER, str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            while process.poll() is None:
                late = time.monotonic() - start > limit
                if late:
                    break
                tick(_phase(job))
                time.sleep(POLL)
        finally:
            process.kill()
            process.wait()
    content = _read_result(job.folder)
    if content is None or content == before:
        row = Row(job.recipe, reason=_too_long(job, limit) if late else _died(process.returncode, job))
    else:
        row = content["row"]
        if content["stop"]:
            raise DataError(row.reason)
    if row.reason and before is not None:
        old: Row = before["row"]
        write_result(replace(job, seconds=before["seconds"], budget=before["budget"]), old)
        return replace(old, notes=(*old.notes, f"Not trained for longer. {row.reason}"))
    if content is not None and content["goes_on"]:
        write_result(job, row)
    return row


def _phase(job: Job) -> str:
    file = job.folder / PHASE
    return file.read_text(encoding="utf-8") if file.exists() else "starting"


def _too_long(job: Job, limit: float) -> str:
    return (
        f"Expected the model to finish within {limit / 60:.1f} min, its share of the budget, got stopped "
        f"while {_phase(job)}. Allow a longer --budget, such as {math.ceil(2 * job.budget / 60)}m."
    )


def _died(code: int, job: Job) -> str:
    """Explain the end of a process that left no result."""
    phase, log = _phase(job), job.folder / LOG
    if code == -getattr(signal, "SIGKILL", 0):  # Windows has none
        return (
            f"Expected the process to finish, got killed while {phase}, as systems do when memory runs out. Close "
            "other programs, or take fewer images."
        )
    return f"Expected the process to finish, got exit code {code} while {phase}. See '{log}'."
