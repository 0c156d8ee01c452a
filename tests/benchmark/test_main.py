# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The commands that rerun the tables parse, and name variants that can be run."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from benchmark import __main__ as benchmark
from benchmark.report import TABLES
from benchmark.runs import plan
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
    (words,) = (words for words in COMMANDS if "results/mvtec_3d.csv" in words)
    chosen = dict(itertools.pairwise(words))
    assert len(set(json.loads(chosen["--data"]))) == 10
    assert (chosen["--models"], chosen["--variants"]) == ('["Mmrd"]', '["paper"]')


def test_every_table_has_a_command() -> None:
    lines = [name for line in README.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w-]+)", line)]
    for name in TABLES:
        assert name in lines or any(line.endswith("-") and name.startswith(line) for line in lines)
