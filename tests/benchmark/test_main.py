# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The commands that rerun the tables parse, and name variants that can be run."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark import __main__ as benchmark
from benchmark.report import TABLES
from benchmark.rows import CHOOSING, JUDGING, append_rows, read_rows
from benchmark.rules import _run_of, read_scores
from benchmark.runs import Run, plan
from benchmark.variants import variant_arguments

README = (Path(benchmark.__file__).parent / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for line in re.findall(r"^(?:\w+=\w+ )?python -m benchmark (.*)$", README.replace("\\\n", " "), flags=re.MULTILINE)
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    own = getattr(benchmark, words[0])

    @functools.wraps(own)
    def note(*setup: benchmark.Setup, **options: Any) -> None:
        calls.append(options | (vars(setup[0]) if setup else {}))

    monkeypatch.setattr(benchmark, words[0], note)
    monkeypatch.setattr(benchmark, "MEASURING", tuple(note if each is own else each for each in benchmark.MEASURING))
    monkeypatch.setattr(benchmark.Setup, "prepare", lambda _: None)
    benchmark.main(words)
    (options,) = calls
    if words[0] == "accuracy":
        runs = plan(*(options[name] for name in ("models", "variants", "data", "seeds", "steps")))
        for run in runs:
            if run.model not in {"Stfpm", "Patchcore"}:
                variant_arguments(run.model, run.variant)


def test_the_command_of_the_papers_table_trains_every_category() -> None:
    (words,) = (words for words in COMMANDS if "mine/mvtec_3d.csv" in words)
    chosen = dict(itertools.pairwise(words))
    assert len(set(json.loads(chosen["--data"]))) == 10
    assert (chosen["--models"], chosen["--variants"]) == ('["Mmrd"]', '["paper"]')


def test_every_table_has_a_command() -> None:
    lines = [name for line in README.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w-]+)", line)]
    for name in TABLES:
        assert name in lines or any(line.endswith("-") and name.startswith(line) for line in lines)


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["thresholds", "--scored", "gone.csv"], "Expected the scores that "),
        (
            ["thresholds", "--results", "{rows}"],
            "Expected a file of rules of thresholds as --results, got other rows in ",
        ),
        (["report", "--results", "gone"], "Expected CSV files in the folder gone, got none."),
        (
            ["report", "--root", "gone", "--results", "{folder}"],
            "Expected README.md or docs/ in --root gone, got neither.",
        ),
        (["accuracy", "--models", '["Padim"]', "--data_root", "{folder}"], "Expected a model out of "),
        (["accuracy", "--variants", '["typo"]', "--data_root", "{folder}"], "Expected variants of MixedDistillation"),
        (["accuracy", "--data_root", "{folder}"], "Expected a folder below "),
        (["accuracy", "--steps", "0", "--data_root", "{folder}"], "Expected --steps of at least 1, got 0."),
        (["accuracy", "--variants", '["paper"]', "--pictures", "[5]"], "Expected no variant 'paper' with --pictures"),
        (["latency", "--rounds", "1"], "Expected --rounds of at least 2, got 1."),
    ],
)
def test_what_is_wrong_is_one_sentence_and_costs_no_row(
    words: list[str], start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark.Setup, "prepare", lambda _: None)
    rows = tmp_path / "rows.csv"
    append_rows(rows, read_rows(benchmark.ROOT / "results" / "paper_mkd.csv")[:1])
    before = rows.read_bytes()
    with pytest.raises(SystemExit) as end:
        benchmark.main([word.format(rows=rows, folder=tmp_path) if "{" in word else word for word in words])
    assert str(end.value).startswith(start)
    assert rows.read_bytes() == before


def test_the_committed_scores_name_their_runs() -> None:
    found = read_scores(benchmark.ROOT / "results" / "pictures" / "scores.csv")
    assert {(each.run.model, each.run.teacher, each.run.batch_size) for each in found} == {
        ("MixedDistillation", "resnet18.tv_in1k", 8)
    }
    assert {each.run.data for each in found} >= {*CHOOSING, *JUDGING}


def test_the_name_of_a_run_says_on_what_it_was_trained() -> None:
    for device in ("cpu", "gpu"):
        run = Run("Mkd", "default", "x/y", 0, steps=3, protocol="held_out", accelerator=device)
        assert _run_of({"run": run.name, "data": "x/y", "seed": "0", "steps": "3"}) == run


def test_other_weights_and_arguments_are_other_runs(tmp_path: Path) -> None:
    run, weights = Run("Mkd", "default", "x/y", 0), tmp_path / "weights.pt"
    weights.write_bytes(b"1")
    runs = [run, *(replace(run, arguments={"sigma": sigma}) for sigma in (1, 2)), replace(run, weights=weights)]
    assert len({each.name for each in runs}) == 4
