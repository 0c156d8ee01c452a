# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a user downloads, and what stays when it is removed."""

from __future__ import annotations

import ast
import configparser
import hashlib
import re
import sys
import zipfile
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING

import anomalib_mkd
from anomalib_mkd._register import LENT
from tests.registration.environments import HOOK_FILES, REPOSITORY, SOURCE, STUB_HOST, Environment

if TYPE_CHECKING:
    from collections.abc import Callable

HOOK = SOURCE / "_anomalib_mkd_autoload.py"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_three_hook_files(wheel: Path) -> None:
    """Nothing else reaches the site directory; above all no other ``.pth``."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = {name for name in names if name.startswith("anomalib_mkd/")}
    information = {name for name in names if name.startswith("anomalib_mkd-0.1.0.dist-info/")}
    assert set(names) - package - information == set(HOOK_FILES)
    source = {f"anomalib_mkd/{name}" for name in files(SOURCE / "anomalib_mkd")}
    assert package == {name for name in source if Path(name).suffix}
    assert {Path(name).suffix for name in package} <= {".py", ".typed", ".safetensors"}
    assert {Path(name).name for name in information} == {"METADATA", "WHEEL", "RECORD", "LICENSE", "entry_points.txt"}


def test_every_package_that_is_imported_is_required() -> None:
    """What another package happens to bring along can go with its next version."""
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
        for alias in node.names
    }
    foreign = imported - sys.stdlib_module_names - {"anomalib_mkd", "_anomalib_mkd_autoload"}
    lines = [line for line in requires("anomalib_mkd") or [] if "extra ==" not in line]
    required = {canonical(re.split(r"[\[<>=!]", line)[0]) for line in lines}
    brings = packages_distributions()
    missing = {name for name in foreign if not required & {canonical(given) for given in brings[name]}}
    assert len(foreign) > 10
    assert not missing


def canonical(name: str) -> str:
    """Distributions write their names with `-` or `_`."""
    return name.lower().replace("_", "-")


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


def test_the_documentation_prints_the_hash_of_the_hook() -> None:
    """A reader can compare what is installed with what was reviewed."""
    digest = hashlib.sha256(HOOK.read_bytes()).hexdigest()
    page = REPOSITORY / "docs" / "registration_hook.md"
    assert digest in page.read_text(encoding="utf-8"), f"Expected {page} to name the hook's SHA-256 {digest}."


def test_every_list_of_names_agrees_with_the_table(wheel: Path) -> None:
    """The table in ``_register.py`` rules; the other lists are written out for type checkers and for pip."""
    for module, names in LENT.values():
        assert set(names) <= set(import_module(module).__all__)
    models = LENT["anomalib.models"][1]
    assert tuple(anomalib_mkd.__all__) == models
    with zipfile.ZipFile(wheel) as archive:
        declared = configparser.ConfigParser()
        declared.read_string(archive.read("anomalib_mkd-0.1.0.dist-info/entry_points.txt").decode())
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
    """It copies the three files beside a path line to the working tree."""
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
