# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The start-up hook against a stub of anomalib: each test is a program in an environment of its own."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.registration.environments import Environment

QUIET = ("-W", "error")  # any warning would end the program


def test_importing_anomalib_registers_the_models(stub: Environment) -> None:
    """Nothing of ours is imported by hand, and every way into the host leads to our class."""
    stub.run(
        """
        import anomalib.data, anomalib.models
        import anomalib_mkd

        assert anomalib.models.Mkd is anomalib_mkd.Mkd
        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]
        assert anomalib.models.ALLOWED_MODULES == {"anomalib.models", "anomalib_mkd", "anomalib_mkd.models"}
        assert anomalib.data.Quickstart is anomalib_mkd.data.Quickstart
        assert anomalib.data.__all__ == ["DepthFolder", "MultiCategory", "Parts", "Quickstart"]
        """,
        *QUIET,
    )


def test_the_host_looks_untouched(stub: Environment) -> None:
    """The host's module keeps its own loader, and nothing of the hook stays behind."""
    stub.run(
        """
        import importlib.machinery, inspect, sys
        import anomalib.models

        loader = anomalib.models.__loader__
        assert type(loader) is importlib.machinery.SourceFileLoader
        assert loader is anomalib.models.__spec__.loader
        assert "exec_module" not in vars(loader)
        assert "ALLOWED_MODULES" in inspect.getsource(anomalib.models)
        assert not [finder for finder in sys.meta_path if finder.__module__ == "_anomalib_mkd_autoload"]
        """,
        *QUIET,
    )


def test_nothing_is_loaded_without_anomalib(stub: Environment) -> None:
    """A program that never imports anomalib gets one module of 80 lines and no other."""
    modules = "import sys; print(*sorted(sys.modules))"
    hooked = set(stub.run(modules).stdout.split())
    for suffix in ("pth", "start"):  # emptied: to read one, Python 3.13 loads a codec
        (stub.site / f"anomalib_mkd_autoload.{suffix}").write_text("#\n", encoding="utf-8")
    assert hooked - set(stub.run(modules).stdout.split()) == {"_anomalib_mkd_autoload"}


def test_installing_again_changes_nothing(stub: Environment) -> None:
    """Run by ``.pth`` and ``.start``, twice by ``lib64``, or after registration: one finder, one registration."""
    stub.run(
        """
        import sys
        import _anomalib_mkd_autoload as hook

        hook.install()
        assert sys.meta_path.count(hook.AutoloadFinder) == 1
        import anomalib.models

        hook.install()
        assert hook.AutoloadFinder not in sys.meta_path
        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]
        """,
        *QUIET,
    )


def test_installing_late_registers_at_once(stub: Environment) -> None:
    """A host that was imported without the hook is served when the hook comes."""
    stub.run(
        f"""
        import sys
        sys.path.append({str(stub.site)!r})  # with -S a path entry is no site directory: the hook did not run
        import anomalib.models

        assert not hasattr(anomalib.models, "Mkd")
        import _anomalib_mkd_autoload

        assert anomalib.models.Mkd
        """,
        *QUIET,
        "-S",
    )


def test_the_start_file_names_the_same_function(stub: Environment) -> None:
    """What Python 3.15 runs instead of the ``.pth`` line exists and registers."""
    module, function = (stub.site / "anomalib_mkd_autoload.start").read_text().strip().split(":")
    (stub.site / "anomalib_mkd_autoload.pth").unlink()
    stub.run(
        f"""
        import {module}
        {module}.{function}()
        import anomalib.models

        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]
        """,
        *QUIET,
    )


@pytest.mark.parametrize(
    "ours", ["import anomalib_mkd; anomalib_mkd.Mkd", "import anomalib_mkd.models", "import anomalib_mkd.data"]
)
@pytest.mark.parametrize("switch", ["0", "1"])
def test_our_import_may_come_first(stub: Environment, ours: str, switch: str) -> None:
    """The hook then fires while we are half loaded; with the hook off the import itself registers the models."""
    stub.run(
        f"""
        {ours}
        import anomalib.data, anomalib.models
        import anomalib_mkd.models

        assert anomalib.models.Mkd is anomalib_mkd.Mkd
        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]
        assert anomalib.data.__all__ == ["DepthFolder", "MultiCategory", "Parts", "Quickstart"]
        """,
        *QUIET,
        ANOMALIB_MKD_AUTOLOAD=switch,
    )


def test_the_package_alone_is_light_and_lists_its_names(stub: Environment) -> None:
    """``import anomalib_mkd`` loads no model, yet shows what there is."""
    stub.run(
        """
        import sys
        import anomalib_mkd

        assert set(anomalib_mkd.__all__) <= set(dir(anomalib_mkd))
        assert not [name for name in sys.modules if name.startswith("anomalib.") or name == "anomalib_mkd.models"]
        try:
            anomalib_mkd.Nothing
        except AttributeError as error:
            assert "Nothing" in str(error)
        else:
            raise AssertionError
        """,
        *QUIET,
    )


@pytest.mark.parametrize("part", ["anomalib_mkd/models/mkd/__init__.py", "anomalib_mkd/data/__init__.py"])
@pytest.mark.parametrize(
    ("fault", "error"), [("raise ImportError('no libfoo')", "no libfoo"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_broken_plugin_is_one_warning(stub: Environment, part: str, fault: str, error: str) -> None:
    """The host works, and the warning names the package, the error and the switch."""
    stub.write({part: fault})
    program = "import anomalib.data, anomalib.models as m; print(m.AnomalibModule.__name__)"
    result = stub.run(program, "-W", "always")
    assert result.stdout == "AnomalibModule\n"
    assert result.stderr.count("Warning: ") == 1
    for word in ("RuntimeWarning: anomalib_mkd", error, "ANOMALIB_MKD_AUTOLOAD=0"):
        assert word in result.stderr
    assert not stub.run(program, "-W", "always", ANOMALIB_MKD_AUTOLOAD="0").stderr


def test_the_switch_leaves_anomalib_alone(stub: Environment) -> None:
    """``ANOMALIB_MKD_AUTOLOAD=0``: no finder, no name."""
    stub.run(
        """
        import sys
        import _anomalib_mkd_autoload as hook

        assert hook.AutoloadFinder not in sys.meta_path
        import anomalib.models

        assert not hasattr(anomalib.models, "Mkd")
        """,
        *QUIET,
        ANOMALIB_MKD_AUTOLOAD="0",
    )


def test_a_name_of_the_host_stays_the_hosts(stub: Environment) -> None:
    """Should anomalib get an ``Mkd`` of its own, ours stays reachable under our name only."""
    host = stub.site / "anomalib/models/__init__.py"
    host.write_text(host.read_text() + "class Mkd: ...\n")
    result = stub.run(
        """
        import anomalib.models
        import anomalib_mkd

        assert anomalib.models.Mkd.__module__ == "anomalib.models"
        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mmrd"]
        assert anomalib_mkd.Mkd is not anomalib.models.Mkd
        """,
        "-W",
        "always",
    )
    assert result.stderr.count("Warning: ") == 1
    assert "anomalib.models has its own Mkd" in result.stderr


def test_an_import_error_of_the_host_passes_through(stub: Environment) -> None:
    """Without torch anomalib raises its own error, untouched; the next attempt finds the hook in place."""
    host = stub.site / "anomalib/models/__init__.py"
    host.write_text("import os\nif os.environ.get('TORCH') is None: raise ImportError('no torch')\n" + host.read_text())
    stub.run(
        """
        import os
        try:
            import anomalib.models
        except ImportError as error:
            assert str(error) == "no torch"
            assert error.__cause__ is error.__context__ is None
        else:
            raise AssertionError
        os.environ["TORCH"] = "yes"
        import anomalib.models

        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]
        """,
        *QUIET,
    )


def test_a_missing_host_is_an_ordinary_error(stub: Environment) -> None:
    """The hook does not invent a module."""
    stub.write({"anomalib/models/__init__.py": ""})
    (stub.site / "anomalib/models").rename(stub.site / "anomalib/other")
    assert "No module named 'anomalib.models'" in stub.call(stub.python, "-c", "import anomalib.models", code=1).stderr


def test_two_plugins_of_this_kind_get_along(stub: Environment) -> None:
    """A second package that copied the hook is served as well."""
    hook = (stub.site / "_anomalib_mkd_autoload.py").read_text()
    stub.write(
        {
            "_other_autoload.py": hook.replace("anomalib_mkd", "other"),
            "other_autoload.pth": "import _other_autoload",
            "other/models.py": "import anomalib.models as host\nhost.Other = 1\n",
        }
    )
    stub.run("import anomalib.models as m; assert m.Mkd and m.Other", *QUIET)


def test_a_zipped_host(stub: Environment) -> None:
    """A zip importer is one loader for all modules of the host."""
    with zipfile.ZipFile(stub.site / "host.zip", "w") as archive:
        for path in [*stub.site.glob("anomalib/**/*.py")]:
            archive.write(path, path.relative_to(stub.site))
            path.unlink()
    stub.write({"host.pth": str(stub.site / "host.zip")})
    (stub.site / "anomalib").rename(stub.site / "unused")
    stub.run(
        """
        import importlib.util

        importlib.util.find_spec("anomalib.models")  # somebody only asks whether it is there
        import anomalib.models

        assert anomalib.models.__all__ == ["Dcam", "MixedDistillation", "Mkd", "Mmrd"]
        assert ".zip" in anomalib.models.__file__
        """,
        *QUIET,
    )


def test_spawned_workers_and_isolated_mode(stub: Environment) -> None:
    """A worker of ``anomalib benchmark`` is a fresh interpreter; ``-I`` is how some services start theirs."""
    stub.write({"work.py": "def names(_): import anomalib.models; return anomalib.models.__all__\n"})
    program = """
        import multiprocessing, work
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.map(work.names, [0]) == [["Dcam", "MixedDistillation", "Mkd", "Mmrd"]]
        """
    stub.run(program, *QUIET)
    stub.run("import anomalib.models as m; assert m.Mkd", *QUIET, "-I")


def test_the_module_registers_where_hooks_do_not_run(stub: Environment) -> None:
    """After ``pip install --target``, ``python -m anomalib_mkd`` is anomalib's command line with our names."""
    for name in ("pth", "start"):
        (stub.site / f"anomalib_mkd_autoload.{name}").unlink()
    assert (
        stub.call(stub.python, *QUIET, "-m", "anomalib_mkd").stdout == "['Dcam', 'MixedDistillation', 'Mkd', 'Mmrd']\n"
    )


def test_the_day_anomalib_reads_entry_points(stub: Environment) -> None:
    """One function of ours says so, and the hook leaves the host alone."""
    stub.run(
        """
        import anomalib_mkd._register

        anomalib_mkd._register.host_reads_entry_points = lambda: True
        import anomalib.models

        assert anomalib.models.__all__ == []
        assert anomalib.models.ALLOWED_MODULES == {"anomalib.models"}
        """,
        *QUIET,
    )
