# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Counts of caught parts and of false alarms, by kind and by category."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from anomalib_mkd.results.verdicts import Verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

PATHS = ["a/test/good/0.png", "a/test/good/1.png", "a/test/dent/0.png", "a/test/dent/1.png", "a/test/cut/rgb/0.png"]
TRUTH = torch.tensor([0, 0, 1, 1, 1]).bool()
CALLED = torch.tensor([0, 1, 1, 0, 1]).bool()


def batch(paths: Sequence[str] | None = PATHS, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"image_path": paths, "gt_label": TRUTH, "pred_label": CALLED, **changes})


def run(*batches: Any, categories: Sequence[str | None] | None = None, verbose: bool = True) -> Verdicts:
    """A test of some batches."""
    datamodule = SimpleNamespace() if categories is None else SimpleNamespace(categories_of=lambda _: categories)
    loop = SimpleNamespace(verbose=verbose)
    trainer: Any = SimpleNamespace(datamodule=datamodule, is_global_zero=True, test_loop=loop)
    module: Any = None
    verdicts = Verdicts()
    verdicts.on_test_epoch_start(trainer, module)
    for index, each in enumerate(batches):
        verdicts.on_test_batch_end(trainer, module, None, each, index)
    verdicts.on_test_end(trainer, module)
    return verdicts


def counts(verdicts: Verdicts) -> dict[str, tuple[int, int]]:
    """Parts called bad, and all parts, by category and kind."""
    return {f"{g.category}/{g.kind}": (verdicts.called_bad[g], count) for g, count in verdicts.parts.items()}


def test_parts_are_counted_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = run(batch())
    assert counts(verdicts) == {"/good": (1, 2), "/dent": (1, 2), "/cut": (1, 1)}
    printed = capsys.readouterr().out
    assert "2 of 3 bad parts caught, 1 of 2 good parts called bad" in printed
    assert [line.split()[1::2] for line in printed.splitlines() if "dent" in line] == [["dent", "1", "2"]]
    assert "category" not in printed


def test_batches_add_up_and_a_second_test_begins_anew() -> None:
    verdicts = run(batch(), batch())
    assert verdicts.sentence() == "4 of 6 bad parts caught, 2 of 4 good parts called bad"
    verdicts.on_test_epoch_start(None, None)  # type: ignore[arg-type]
    assert verdicts.sentence() == "0 of 0 bad parts caught, 0 of 0 good parts called bad"


def test_categories_are_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = run(batch(), categories=["bolt", "nut", "bolt", "nut", None])
    assert counts(verdicts) == {
        "bolt/good": (0, 1),
        "nut/good": (1, 1),
        "bolt/dent": (1, 1),
        "nut/dent": (0, 1),
        "/cut": (1, 1),
    }
    assert "category" in capsys.readouterr().out


def test_one_kind_of_defect_needs_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    run(batch(["good/0", "good/1", "bad/0", "bad/1", "bad/2"]))
    assert capsys.readouterr().out == "2 of 3 bad parts caught, 1 of 2 good parts called bad\n"


@pytest.mark.parametrize("changes", [{"pred_label": None}, {"gt_label": None}, {"paths": None}])
def test_without_labels_truth_or_files_nothing_is_printed(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run(batch(**changes))
    run(batch(), verbose=False)
    assert not capsys.readouterr().out
