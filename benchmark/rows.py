# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Rows of result files, and how to read and append them safely.

A run yields several rows (one per metric and subset) with one :class:`Key`. All rows of a run are written together or
not at all, so that a run found in the file is complete.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.metadata
import io
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib_mkd.files import whole
from anomalib_mkd.thresholds import FALSE_ALARMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
"""The repository."""

DATA = ("mvtec/bottle", "mvtec/screw", "mpdd/metal_plate", "magnetic_tile/mt")
"""Folders under the data root that the documentation's tables show."""
CHOOSING = ("aitex/fabric01", "kolektor/ksdd", "mpdd/metal_plate", "mvtec/bottle", "piped/paper_mixed")
JUDGING = ("aitex/fabric03", "anomalib_dobot/cubes", "deeppcb/group20085", "magnetic_tile/mt", "mvtec/screw")
"""The ten categories of photos in alphabetical order, every other one; fixed before any score was seen."""

FOUR, TEN = "joint4", "joint10"
JOINT = {FOUR: DATA, TEN: tuple(sorted((*CHOOSING, *JUDGING)))}
"""Data sets that one model learns together: name to folders."""
MEAN = "mean"
"""Category of the rows about joint data as a whole."""

OWN_STEPS = {"MixedDistillation": 300, "Dcam": 300, "Mkd": 1200, "Mmrd": 150}
"""Default ``training_steps`` of our models, per category."""
OTHER_STEPS = {"Stfpm": 100, "Patchcore": 0}
"""Steps of anomalib's models, on any data; PatchCore never takes any."""

PAINTED = "painted6"
"""Protocol of rows on painted defects of six kinds; older rows, of ``painted``, have three."""
PAINTED_SCANS = "painted_scans"
"""Protocol of rows on defects painted on photos, on depth, or on both."""

BATTERY = "battery"
"""Protocol of the outcomes of checks: a check's name is the metric."""

CHECKED = (
    "MixedDistillation",
    "Dcam",
    "Mkd",
    "Mmrd",
    "Stfpm",
    "ReverseDistillation",
    "Patchcore",
    "EfficientAd",
)
"""Models that these checks know, in their table's order."""

COMPARE = "compare"
"""Protocol of rows that the command ``compare`` measured."""
JUDGED = {
    "caught": ("caught", "bad"),
    "false_alarms": ("false_alarms", "good"),
    "int8_caught": ("int8_caught", "bad"),
    "int8_false_alarms": ("int8_false_alarms", "good"),
}
"""Metrics of these rows that are shares: the column of a part, and that of the whole."""

QUOTED = "quoted"
"""Protocol of rows quoted from a publication; nothing else is known about them."""

INT8 = "int8"
"""Precision of rows about an export in 8 bits."""

VERSIONED = ("anomalib", "torch", "lightning", "timm", "openvino")
"""Distributions whose versions a row records."""


class Key(NamedTuple):
    """Identity of a run; a file never holds a run twice.

    Args:
        run_id: Readable name of model, variant, protocol, teacher, data and seed.
        batch: Images per training step.
        steps: Requested training steps.
        int8: Whether its export in 8 bits was tested instead of the model itself.
    """

    run_id: str
    batch: int
    steps: int
    int8: bool = False


@dataclass(frozen=True)
class Row:
    """One measured number.

    Args:
        run_id: See :class:`Key`.
        model: Class name, for example ``Mkd``.
        variant: Preset or ablation, for example ``default`` or ``paper``.
        data: Folder under the data root, for example ``mvtec/bottle``, or a name in ``JOINT``.
        category: Last part of the folder; ``mean`` over the categories of joint data.
        subset: ``all``, or a defect type; of a check, why it failed or was skipped.
        seed: Seed of the run.
        batch: Images per training step; 1 if only time was measured.
        steps: Requested training steps, in total for joint data; 0 for a model that takes none (PatchCore). Training
            ends with the epoch that reaches them: the steps taken are ``epochs`` times the batches per epoch.
        metric: Name of the number, for example ``image_AUROC``.
        value: The number, as a fraction for a metric, in seconds for a time, in megabytes (10^6 bytes) for a size; of a
            check 1 for passed, 0 for failed, NaN for skipped.
        epochs: Passes over the training images (may be a fraction).
        image_size: Side of the network's square input, in pixels.
        precision: ``f32``, ``bf16-train`` if only training ran in bf16, or ``int8`` for the exported model.
        weights: Teacher weights: a timm name or ``quickstart``.
        protocol: ``user``, ``good25`` with 25 training images, ``paper``, ``painted6``, ``painted_scans``, ``short``,
            ``options``, ``held_out``, ``speed``, ``deployment``, ``battery``, ``compare`` or ``quoted``.
        machine: Processor, cores and features, after the accelerator if it ran on one; see
            :func:`anomalib_mkd.results.machine.machine`.
        versions: See :func:`versions`.
        commit: See :func:`commit`.
    """

    run_id: str
    model: str
    variant: str
    data: str
    category: str
    subset: str
    seed: int
    batch: int
    steps: int
    metric: str
    value: float
    epochs: float
    image_size: int
    precision: str
    weights: str
    protocol: str
    machine: str
    versions: str
    commit: str

    @property
    def key(self) -> Key:
        """Run of the row."""
        return Key(self.run_id, self.batch, self.steps, self.precision == INT8)

    @property
    def is_joint(self) -> bool:
        """Whether the model learned several categories together."""
        return self.data in JOINT


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
NUMBERS = {"seed": int, "batch": int, "steps": int, "value": float, "epochs": float, "image_size": int}
"""Numeric columns and their types."""


def _check_header(path: Path, header: Sequence[str]) -> None:
    """Raise an error if ``header`` is not that of a result file."""
    if tuple(header) != COLUMNS:
        msg = (
            f"Expected the columns {','.join(COLUMNS)} in {path}, got {','.join(header)}. "
            "Move that file away, or set --results to another one."
        )
        raise ValueError(msg)


def read_rows(path: Path | str) -> list[Row]:
    """Read the rows of one file, in order; none if the file does not exist.

    Args:
        path: CSV file.

    Raises:
        ValueError: If the header differs, a line is incomplete, or a numeric cell holds no number.
    """
    path = Path(path)
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        _check_header(path, next(lines, []))
        rows = []
        for cells in lines:
            if len(cells) != len(COLUMNS):
                msg = (
                    f"Expected {len(COLUMNS)} cells in line {lines.line_num} of {path}, got {len(cells)}. "
                    "Delete the line and run the benchmark again: it resumes."
                )
                raise ValueError(msg)
            cell = dict(zip(COLUMNS, cells, strict=True))
            try:
                numbers = {name: kind(cell[name]) for name, kind in NUMBERS.items()}
            except ValueError as error:
                msg = (
                    f"Expected numbers for {', '.join(NUMBERS)} in line {lines.line_num} of {path}, got "
                    f"{', '.join(repr(cell[name]) for name in NUMBERS)}. "
                    "Delete the line and run the benchmark again: it resumes."
                )
                raise ValueError(msg) from error
            rows.append(Row(**(cell | numbers)))
    return rows


def read_comparisons(folder: Path) -> list[Row]:
    """Read what ``compare`` wrote, and shares instead of counted verdicts.

    Args:
        folder: Folder with a folder for each category, named like it.
    """
    rows = []
    for path in sorted(folder.glob("*/compare.csv")):
        category = path.parent.name
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if not line["reason"]]
        for line in lines:
            found = {name: line[name] for name in ("pictures", "training_seconds", "image_auroc", "aupro")}
            values = {name: float(text) for name, text in found.items() if text}
            values |= {
                name: float(line[part]) / float(line[total]) for name, (part, total) in JUDGED.items() if line[part]
            }
            rows += [
                Row(
                    run_id=f"compare-{line['model']}-{category}",
                    model=line["model"],
                    variant="compared",
                    data=category,
                    category=category,
                    subset="all",
                    seed=0,
                    batch=0,
                    steps=int(line["steps"]),
                    metric=name,
                    value=value,
                    epochs=0.0,
                    image_size=0,
                    precision="f32",
                    weights="unknown",
                    protocol=COMPARE,
                    machine="unknown",
                    versions="unknown",
                    commit="unknown",
                )
                for name, value in values.items()
            ]
    return rows


def read_folder(folder: Path | str) -> list[Row]:
    """Read the rows of all result files in a folder, and those of its comparisons.

    Args:
        folder: Folder of CSV files.

    Raises:
        ValueError: If there is none, a measurement is there twice, or as for :func:`read_rows`.
    """
    files = sorted(Path(folder).glob("*.csv"))
    if not files:
        msg = f"Expected CSV files in the folder {folder}, got none. Check its path."
        raise ValueError(msg)
    rows = [*(row for path in files for row in read_rows(path)), *read_comparisons(Path(folder) / "comparisons")]
    seen = set()
    for row in rows:
        measured = (row.key, row.model, row.variant, row.precision, row.data, row.category, row.subset, row.metric)
        if measured in seen:
            msg = (
                f"Expected each measurement once in {folder}, got {row.metric} of {row.run_id} twice. Keep results of "
                "your own in another folder."
            )
            raise ValueError(msg)
        seen.add(measured)
    return rows


def has_run(path: Path | str, key: Key) -> bool:
    """Return whether the file holds that run.

    Args:
        path: CSV file, which may be missing.
        key: The run.
    """
    return any(row.key == key for row in read_rows(path))


def append_rows(path: Path | str, rows: Iterable[Row], *, anew: bool = False) -> None:
    """Add the rows of a run to a file, all or none.

    A new file is written next to the old one and replaces it in one step, under a lock, so neither a crash nor a second
    process can leave half a row.

    Args:
        path: CSV file; created with its folder and header if missing.
        rows: Rows of one run.
        anew: Whether they replace what the file holds.

    Raises:
        ValueError: If the file has another header, or an incomplete line.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    with _locked(path.parent):
        kept = read_rows(path)
        for row in (*([] if anew else kept), *rows):
            cells = dataclasses.asdict(row)
            cells["value"] = f"{row.value:.6g}"
            cells["epochs"] = f"{row.epochs:.6g}"
            writer.writerow([cells[name] for name in COLUMNS])
        with whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            file.write(",".join(COLUMNS) + "\n" + text.getvalue())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, if the system supports it."""
    try:
        import fcntl  # noqa: PLC0415  # not on every system
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def noise_rows(key: Key, values: Mapping[str, float], **own: Any) -> list[Row]:
    """Build the rows of what was timed on noise, whatever the weights are.

    Args:
        key: The run.
        values: The numbers by metric.
        **own: The columns of :class:`Row` that the others do not set.
    """
    own |= {"run_id": key.run_id, "batch": key.batch, "steps": key.steps, "versions": versions()}
    own |= {"data": "noise", "category": "noise", "subset": "all", "seed": 0, "epochs": 0}
    return [Row(metric=metric, value=value, **own) for metric, value in values.items()]


def allowed(share: float) -> str:
    """Name the rows of a share of false alarms that was asked for; those of the default are of ``all``."""
    return "all" if share == FALSE_ALARMS else f"{100 * share:g} % allowed"


def training_pictures(protocol: str) -> int | None:
    """Return the training images of a protocol such as ``good25``; ``None`` for all.

    Example:
        >>> training_pictures("good25"), training_pictures("user")
        (25, None)
    """
    few = re.fullmatch(r"good(\d+)", protocol)
    return int(few[1]) if few else None


def versions() -> str:
    """Return the versions that influence results, for example ``"python=3.11.9 anomalib=2.7.0 ..."``."""
    parts = [f"python={platform.python_version()}"]
    for name in VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{name}={importlib.metadata.version(name)}")
    return " ".join(parts)


def commit(root: Path = ROOT) -> str:
    """Return the short commit of the source tree, with ``-dirty`` if code differs from it; ``unknown`` outside git.

    Only changes of the package and the benchmark count: results and documents change while a benchmark runs.

    Args:
        root: Root of the repository.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    try:
        head = git("rev-parse", "--short=10", "HEAD")
        changed = git("status", "--porcelain", "--", "src", "benchmark")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head
