# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the documents print works: commands parse, Python compiles, links lead somewhere; `test_blocks.py` runs them."""

from __future__ import annotations

import functools
import re
import shlex
from itertools import dropwhile
from pathlib import Path
from string import Template

import pytest
from anomalib.cli.cli import AnomalibCLI

import anomalib_mkd.models  # noqa: F401  # registers, as the hook does
from anomalib_mkd.compare.budget import seconds
from anomalib_mkd.compare.command import parser
from anomalib_mkd.compare.recipes import choose
from anomalib_mkd.quickstart.__main__ import main as quickstart
from benchmark import __main__ as benchmark

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

PIPELINES = {"benchmark"}
"""Commands of anomalib without ``--print_config``; ``test_configs.py`` runs them."""


def blocks(language: str) -> list[str]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [block for path in DOCUMENTS for block in pattern.findall(path.read_text(encoding="utf-8"))]


def calls(block: str) -> list[list[str]]:
    """Every command of a shell block as its words, with the block's own variables put in."""
    variables: dict[str, str] = {}
    for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', block):
        variables[name] = Template(quoted or plain).safe_substitute(variables)
    text = Template(block.replace("\\\n", " ")).safe_substitute(variables)
    found = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [[*dropwhile(re.compile(r"\w+=").match, words)] for words in found]


def commands(program: str) -> list[list[str]]:
    """Arguments of every call of a program."""
    head = program.split()
    found = [words for block in blocks("bash") for words in calls(block)]
    return [words[len(head) :] for words in found if words[: len(head)] == head]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_python_compiles() -> None:
    found = blocks("python")
    assert found
    for block in found:
        compile(block, "document", "exec")


@pytest.mark.filterwarnings("ignore")  # the command line turns on everything that the libraries have to say
@pytest.mark.parametrize("words", [words for words in commands("anomalib") if words[0] not in PIPELINES], ids=" ".join)
def test_commands_parse(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_parts.yaml").symlink_to(ROOT / "configs" / "data" / "parts.yaml")  # `check` writes it
    monkeypatch.chdir(tmp_path)
    asks_for_help = "--model.help" in words
    with pytest.raises(SystemExit) as end:
        AnomalibCLI(words if asks_for_help else [*words, "--print_config"])
    assert end.value.code in {0, None}
    assert ("--model.backbone" if asks_for_help else "class_path:") in capsys.readouterr().out


@pytest.mark.parametrize("words", commands("python -m anomalib_mkd.quickstart"), ids=" ".join)
def test_quickstart_commands_parse(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        quickstart([*words, "--print_config"])
    assert end.value.code in {0, None}
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", commands("python -m anomalib_mkd compare"), ids=" ".join)
def test_compare_commands_parse(words: list[str]) -> None:
    options = parser().parse_args(words)
    assert (options.folder is None) != (options.data is None)
    assert choose(options.models or ["Padim"])
    assert seconds(options.budget)


@pytest.mark.parametrize("words", commands("python -m benchmark"), ids=" ".join)
def test_benchmark_commands_parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    command = getattr(benchmark, words[0])
    monkeypatch.setattr(benchmark, words[0], functools.wraps(command)(lambda *_, **__: calls.append(words[0])))
    monkeypatch.setattr(benchmark.Setup, "prepare", lambda _: None)
    benchmark.main(words)
    assert calls == words[:1]
