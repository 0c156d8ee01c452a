# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a user downloads, and what stays when it is removed."""

from __future__ import annotations

import ast
import configparser
import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from email import message_from_bytes
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import anomalib_mkd
from anomalib_mkd._register import PUBLISHED
from tests.registration.environments import HOOK_FILES, REPOSITORY, SOURCE, STUB_HOST, Environment

if TYPE_CHECKING:
    from collections.abc import Callable

HOOK = SOURCE / "_anomalib_mkd_autoload.py"
RELEASE = f"anomalib_mkd-{anomalib_mkd.__version__}"
CHANGELOG_HEADINGS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def package_files() -> set[str]:
    return {f"anomalib_mkd/{name}" for name in files(SOURCE / "anomalib_mkd") if Path(name).suffix}


def test_the_wheel_holds_the_package_and_three_hook_files(wheel: Path) -> None:
    """Nothing else reaches the site directory; above all no other ``.pth``, no benchmark, no results and no tests."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = {name for name in names if name.startswith("anomalib_mkd/")}
    information = {name for name in names if name.startswith(f"{RELEASE}.dist-info/")}
    assert set(names) - package - information == set(HOOK_FILES)
    assert package == package_files()
    assert {Path(name).suffix for name in package} <= {".css", ".html", ".py", ".safetensors", ".typed"}
    assert {Path(name).name for name in information} == {"METADATA", "WHEEL", "RECORD", "LICENSE", "entry_points.txt"}


def test_the_sdist_holds_what_the_wheel_is_built_from(sdist: Path) -> None:
    """The package, the hook, the build file and the documents that a reader of the archive needs."""
    with tarfile.open(sdist) as archive:
        names = {member.name.removeprefix(f"{RELEASE}/") for member in archive.getmembers() if member.isfile()}
    documents = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md"}
    build_files = {".gitignore", "PKG-INFO", "pyproject.toml"}  # hatchling adds the ignored patterns and the metadata
    assert names == {f"src/{name}" for name in {*package_files(), *HOOK_FILES}} | documents | build_files


def test_the_package_index_accepts_both(wheel: Path, sdist: Path) -> None:
    """``twine check`` validates the metadata and renders the README; warnings count."""
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("PASSED") == 2


def test_every_place_names_the_same_version(wheel: Path) -> None:
    """The build reads it from the package; the changelog and the citation are written by hand."""
    assert wheel.name.startswith(f"{RELEASE}-")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == anomalib_mkd.__version__
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    released, *_ = re.findall(r"^## \[(.+)\] - (.+)$", changelog, re.MULTILINE)
    assert released == (anomalib_mkd.__version__, citation["date-released"])


def test_the_changelog_has_each_heading_once_per_version() -> None:
    """A reader looks in one place for what was removed."""
    _, *sections = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")
    assert sections[0].startswith("[Unreleased]")
    for section in sections:
        headings = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert headings == [name for name in CHANGELOG_HEADINGS if name in headings]


def canonical(name: str) -> str:
    """Distributions write their names with ``-``, ``_`` or ``.``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_distributions(*folders: str) -> set[str]:
    """Distributions that the files of these folders import, by every name that they could come from."""
    modules = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for folder in folders
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
        for alias in node.names
    }
    brings = packages_distributions()
    return {canonical(name) for module in modules - sys.stdlib_module_names for name in brings.get(module, ())}


def declared_distributions(wheel: Path, *extras: str) -> set[str]:
    """Distributions that the wheel requires, without extras and with the given ones."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{RELEASE}.dist-info/METADATA"))
    lines = [line.partition(";") for line in metadata.get_all("Requires-Dist")]
    wanted = {"", *(f"extra == '{extra}'" for extra in extras)}
    return {canonical(re.split(r"[\[<>=!]", line)[0]) for line, _, marker in lines if marker.strip() in wanted}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not tell which package most modules are of")
def test_what_is_imported_is_required_and_nothing_else(wheel: Path) -> None:
    """What another package happens to bring along can go with its next version."""
    imported = imported_distributions("src") - {"anomalib-mkd"}
    assert len(imported) > 10
    assert imported == declared_distributions(wheel)


def test_tests_scripts_and_benchmark_import_what_the_extra_brings(wheel: Path) -> None:
    """``pip install -e .[dev]`` is enough for ``scripts/test.sh`` and for ``python -m benchmark``."""
    imported = imported_distributions("benchmark", "scripts", "tests") - {"anomalib-mkd"}
    assert imported <= declared_distributions(wheel, "dev")


def test_the_constraints_cover_what_is_declared_on_every_python(wheel: Path) -> None:
    """A pinned version that the oldest Python cannot install carries a marker, so that ``-c`` works there too."""
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonical(line.partition("==")[0]): line for line in lines}
    assert declared_distributions(wheel, "dev") <= pinned.keys()
    for name, line in pinned.items():
        with suppress(PackageNotFoundError):  # a package of another Python or platform
            oldest = re.search(r">=\s*3\.(\d+)", distribution(name).metadata.get("Requires-Python", ""))
            if oldest and int(oldest[1]) > 10:
                assert line.endswith('; python_version >= "3.11"'), f"Not for Python 3.10: {line}"


@pytest.mark.parametrize("arguments", [("-c", "import anomalib_mkd"), ("-m", "anomalib_mkd.quickstart", "--help")])
def test_a_start_imports_neither_torch_nor_anomalib(arguments: tuple[str, ...]) -> None:
    """They take ten seconds, which a typing error or a look at the help must not cost."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "anomalib_mkd" in imported
    assert not imported & {"anomalib", "lightning", "torch", "torchvision"}


def test_the_hook_is_small_and_says_what_it_runs() -> None:
    """Nobody has to take the ``.pth`` on trust."""
    assert (SOURCE / "anomalib_mkd_autoload.pth").read_text() == "import _anomalib_mkd_autoload\n"
    assert (SOURCE / "anomalib_mkd_autoload.start").read_text() == "_anomalib_mkd_autoload:install\n"
    source = HOOK.read_text()
    assert len(source.splitlines()) < 80
    assert set(re.findall(r"^ *(?:import|from) ([\w.]+)", source, flags=re.MULTILINE)) == {
        "os",
        "sys",
        "importlib.util",
        "warnings",
        "anomalib_mkd.models",
    }


@pytest.mark.parametrize("name", [*HOOK_FILES, "anomalib_mkd/_register.py"])
def test_the_documentation_prints_the_hash_of_the_hook(name: str) -> None:
    """A reader can compare what is installed with what was reviewed."""
    digest = hashlib.sha256((SOURCE / name).read_bytes()).hexdigest()
    page = REPOSITORY / "docs" / "registration_hook.md"
    assert f"{digest}  {name}" in page.read_text(encoding="utf-8"), f"Expected {page} to name {digest} for {name}."


def test_every_list_of_names_agrees_with_the_table(wheel: Path) -> None:
    """The table in ``_register.py`` is the source; the other lists exist for type checkers and for pip."""
    for module, names in PUBLISHED.values():
        assert set(names) <= set(import_module(module).__all__)
    models = PUBLISHED["anomalib.models"][1]
    assert tuple(anomalib_mkd.__all__) == models
    with zipfile.ZipFile(wheel) as archive:
        declared = configparser.ConfigParser()
        declared.read_string(archive.read(f"{RELEASE}.dist-info/entry_points.txt").decode())
    assert set(declared["anomalib.models"].values()) == {f"anomalib_mkd:{name}" for name in models}


def test_uninstalling_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    """The hook's files are on pip's list, and Python starts without a word afterwards."""
    environment = Environment(tmp_path)
    environment.write(STUB_HOST)
    before = files(environment.site)
    environment.pip("install", "--quiet", "--no-deps", "--no-index", wheel)
    assert set(HOOK_FILES) <= files(environment.site)
    environment.pip("uninstall", "--quiet", "--yes", "anomalib-mkd")
    assert files(environment.site) == before
    assert not environment.run("import anomalib.models as m; assert not m.__all__", "-W", "error").stderr


def test_an_editable_install_has_the_hook(build: Callable[[str], Path], tmp_path: Path) -> None:
    """It copies the three files next to a path line to the working tree."""
    environment = Environment(tmp_path)
    environment.pip("install", "--quiet", "--no-deps", "--no-index", build("editable"))
    assert set(HOOK_FILES) <= files(environment.site)
    environment.run(
        f"""
        import sys
        import anomalib_mkd

        assert anomalib_mkd.__file__ == {str(SOURCE / "anomalib_mkd" / "__init__.py")!r}
        assert [finder for finder in sys.meta_path if finder.__module__ == "_anomalib_mkd_autoload"]
        """
    )
