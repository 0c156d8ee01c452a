# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The datamodule of a configuration, and the files that a result on it depends on.

``python -m anomalib_mkd.compare.data FILE`` is started by :func:`anomalib_mkd.compare.runs.examine`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
from anomalib.data import AnomalibDataModule
from lightning.pytorch import seed_everything
from lightning.pytorch.trainer.states import TrainerFn

import anomalib_mkd.data  # noqa: F401  # its classes have short names
from anomalib_mkd.compare.runs import DataError
from anomalib_mkd.data.reading import datamodules_of
from anomalib_mkd.depth.reading import info_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBSETS = ("train_data", "val_data", "test_data")
PATHS = ("image_path", "mask_path", "depth_path")
"""Columns of anomalib's samples that name files; not every datamodule has all."""


def open_data(file: Path, batch_size: int | None = None, seed: int = 0) -> AnomalibDataModule:
    """Open the datamodule of a configuration; a later ``setup`` does not split it again.

    Args:
        file: As ``python -m anomalib_mkd check --write-config`` writes it.
        batch_size: Images of a training step, instead of that of the file.
        seed: Seed of all random numbers from here on: every process makes the same splits and synthetic defects.

    Raises:
        DataError: If there is none, or its images cannot be used.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibDataModule, "data", required=True)
    try:
        made = parser.instantiate_classes(parser.parse_path(str(file)))
        data: AnomalibDataModule = made.data
        data.num_workers = 0  # memory of other processes would not count
        data.train_batch_size = batch_size or data.train_batch_size
        data.prepare_data()
        seed_everything(seed, verbose=False)
        data.setup(TrainerFn.FITTING)  # as a trainer calls it, whose own call then splits nothing again
    except Exception as error:  # whatever a datamodule of any class raises
        text = str(error).strip()
        if not text.startswith("Expected"):
            known = isinstance(error, jsonargparse.ArgumentError | OSError | TypeError | ValueError)
            got = " ".join((text if known else f"{type(error).__name__}: {text}").split())[:300]
            if isinstance(error, UnicodeDecodeError):
                got = "bytes that are no UTF-8"
            text = (
                f"Expected a configuration of a datamodule in '{file}', got {got}. "
                "Write one with: python -m anomalib_mkd check FOLDER --write-config FILE."
            )
        raise DataError(text) from error
    return data


def validates_on_test(data: AnomalibDataModule) -> bool:
    """Return whether test images are among the validation images, which set thresholds, of any category."""
    test, validation = (
        {str(path) for path in getattr(getattr(data, subset, None), "samples", {}).get("image_path", ())}
        for subset in ("test_data", "val_data")
    )
    return not test.isdisjoint(validation)


def list_files(data: AnomalibDataModule) -> list[tuple[str, int, int]]:
    """List the files of all images, masks and depths of an opened datamodule: name, size and time.

    Args:
        data: Its roots may be defaults, and its folders links; what lies beside its images does not count.
    """
    found = []
    for path in sorted(set(_paths(data))):
        if path.is_file():  # a good image has no mask
            stat = path.stat()
            found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return found


def _paths(data: Any) -> Iterator[Path]:
    for part in datamodules_of(data):
        for dataset in (getattr(part, subset, None) for subset in SUBSETS):
            samples: Any = getattr(dataset, "source_samples", getattr(dataset, "samples", {}))  # before made-up defects
            for name in PATHS:
                named = [Path(path) for path in samples.get(name, ()) if path and isinstance(path, str | Path)]
                yield from named
                if name == "depth_path":
                    yield from map(info_of, named)


def main(file: str) -> None:
    """Print what a comparison has to know of a configuration's data, or why there are none, as a line of JSON."""
    try:
        data = open_data(Path(file))
        found: dict[str, Any] = {"files": list_files(data), "validates_on_test": validates_on_test(data)}
    except DataError as error:
        found = {"error": str(error)}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
