# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the documents print works: commands parse, Python compiles, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI

import anomalib_mkd.models  # noqa: F401  # registers, as the hook does
from anomalib_mkd.quickstart.__main__ import main as quickstart
from benchmark.__main__ import main as benchmark

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [block for path in DOCUMENTS for block in pattern.findall(path.read_text(encoding="utf-8"))]


def commands(program: str) -> list[list[str]]:
    """Every call of a program in a shell block, with the block's own variables put in."""
    found = []
    for block in blocks("bash"):
        variables: dict[str, str] = {}
        for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', block):
            variables[name] = Template(quoted or plain).safe_substitute(variables)
        text = Template(block.replace("\\\n", " ")).substitute(variables)
        calls = re.findall(rf"^(?:[A-Z_]+=\S+ )*{re.escape(program)} (.*)$", text, re.MULTILINE)
        found += [shlex.split(call, comments=True) for call in calls]
    return found


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
@pytest.mark.parametrize("words", commands("anomalib"), ids=" ".join)
def test_commands_parse(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    asks_for_help = "--model.help" in words
    with pytest.raises(SystemExit) as end:
        AnomalibCLI(words if asks_for_help else [*words, "--print_config"])
    assert end.value.code in {0, None}
    assert ("--model.backbone" if asks_for_help else "class_path:") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "words"),
    [
        pytest.param(main, words, id=" ".join(["python", "-m", module, *words]))
        for module, main in (("benchmark", benchmark), ("anomalib_mkd.quickstart", quickstart))
        for words in commands(f"python -m {module}")
    ],
)
def test_our_commands_parse(
    main: Callable[[list[str]], None], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--print_config"])
    assert end.value.code in {0, None}
    assert capsys.readouterr().out


def test_the_command_of_the_papers_table_trains_every_category(capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = (words for words in commands("python -m benchmark") if '["Mmrd"]' in words)
    with pytest.raises(SystemExit):
        benchmark([*words, "--print_config"])
    chosen = yaml.safe_load(capsys.readouterr().out)
    assert len(set(chosen["data"])) == 10
    assert (chosen["models"], chosen["variants"]) == (["Mmrd"], ["paper"])
