# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The wheel in a fresh environment with the real anomalib, whose every start takes about ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.registration.environments import Environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

# What pip would write for anomalib's own entry point, had it been installed here and not borrowed.
CONSOLE_SCRIPT = "#!{python}\nfrom anomalib.cli.cli import main\n\nmain()\n"
TINY_TRAINING = {
    "model": "Mkd",
    "model.weights": "quickstart",
    "data": "Quickstart",
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": "1",
    "trainer.limit_train_batches": "1",
    "trainer.limit_val_batches": "1",
    "trainer.limit_test_batches": "1",
}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with our wheel and the borrowed anomalib."""
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.pip("install", "--quiet", "--no-deps", "--no-index", wheel)
    environment.borrow_packages()
    return environment


def test_every_way_in_from_python(installed: Environment) -> None:
    """Nothing of ours is imported by hand, in this process or in a spawned one."""
    installed.write(
        {"work.py": "def models(_):\n    from anomalib.models import list_models\n    return list_models()\n"}
    )
    installed.run(
        """
        import multiprocessing
        from pathlib import Path

        from anomalib.models import AnomalibModule, Mkd, get_model, list_models
        from jsonargparse import Namespace
        from omegaconf import OmegaConf

        assert {"mkd"} == {name for name in list_models() if "mkd" in name}
        assert "Mkd" in list_models(case="pascal")
        assert type(get_model("mkd", weights="quickstart")) is type(get_model("Mkd", weights="quickstart")) is Mkd
        for path in ("Mkd", "anomalib.models.Mkd", "anomalib_mkd.Mkd", "anomalib_mkd.models.Mkd"):
            config = {"class_path": path, "init_args": {"weights": "quickstart"}}
            for form in (dict, OmegaConf.create, lambda config: Namespace(**config)):
                assert type(get_model(form(config))) is Mkd, path
            assert type(get_model({"class_path": path}, weights="quickstart")) is Mkd, path
            Path("model.yaml").write_text(f"model: {{class_path: {path}, init_args: {{weights: quickstart}}}}")
            assert type(AnomalibModule.from_config("model.yaml")) is Mkd, path

        import anomalib.data

        import anomalib_mkd

        assert anomalib_mkd.Mkd is Mkd
        assert type(anomalib.data.get_datamodule({"class_path": "Quickstart"})) is anomalib_mkd.data.Quickstart

        import work

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert "mkd" in pool.map(work.models, [0])[0]
        """
    )


def test_every_verb_of_the_command_line(installed: Environment) -> None:
    """Each verb takes the bare name, the dotted name and a configuration file, and saves the dotted name."""
    installed.run(
        """
        import contextlib, io, sys
        from pathlib import Path

        from anomalib.cli.cli import main
        from anomalib.pipelines.benchmark.generator import BenchmarkJobGenerator

        Path("config.yaml").write_text("model: {class_path: anomalib_mkd.Mkd, init_args: {sigma: 2.5}}")
        for verb in ("train", "fit", "validate", "test", "predict", "export"):
            data = [] if verb == "export" else ["--data", "Quickstart"]
            for model in (
                ["--model", "Mkd", "--model.sigma", "2.5"],
                ["--model", "anomalib_mkd.Mkd", "--model.sigma", "2.5"],
                ["--config", "config.yaml"],
            ):
                sys.argv = ["anomalib", verb, *model, *data, "--print_config"]
                output = io.StringIO()
                with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
                    main()
                for line in ("class_path: anomalib_mkd.Mkd\\n", "sigma: 2.5\\n", *(["Quickstart\\n"] if data else [])):
                    assert line in output.getvalue(), (sys.argv, line, output.getvalue())

        for path in ("Mkd", "anomalib_mkd.Mkd"):  # what `anomalib benchmark` does with its file
            config = {
                "seed": 0,
                "model": {"class_path": path, "init_args": {"weights": "quickstart", "sigma": {"grid": [2.5, 4.0]}}},
                "data": {"class_path": "Quickstart"},
            }
            assert len(list(BenchmarkJobGenerator("cpu").generate_jobs(config, None))) == 2
        """
    )


def test_a_training_by_the_console_script(installed: Environment) -> None:
    """``anomalib train --model Mkd`` trains, tests and saves a configuration that needs no hook."""
    script = installed.python.with_name("anomalib")
    script.write_text(CONSOLE_SCRIPT.format(python=installed.python))
    script.chmod(0o755)
    installed.call(script, "train", *(f"--{name}={value}" for name, value in TINY_TRAINING.items()))
    saved = [path.read_text() for path in (installed.root / "results").rglob("config.yaml")]
    assert saved
    assert "class_path: anomalib_mkd.Mkd\n" in saved[0]
    assert list((installed.root / "results").rglob("model.ckpt"))


def test_our_import_may_come_first(installed: Environment) -> None:
    """The hook then fires while our own import is under way. The data alone load no model."""
    installed.run(
        """
        import sys

        import anomalib_mkd.data

        assert "anomalib.models" not in sys.modules
        from anomalib_mkd import Mkd
        from anomalib.models import get_model

        assert type(get_model("mkd", weights="quickstart")) is Mkd
        """
    )


@pytest.mark.parametrize("module", ["anomalib_mkd.training.mixin", "anomalib_mkd.export.mixin"])
def test_a_module_that_the_models_need_may_come_first(installed: Environment, module: str) -> None:
    """The hook then fires while that module's package is being loaded, and registers nevertheless."""
    result = installed.run(f"import {module}, anomalib.models; assert 'mkd' in anomalib.models.list_models()")
    assert "could not register" not in result.stderr


def test_the_switch_and_the_dotted_name(installed: Environment) -> None:
    """Without the hook anomalib is as it was, and the dotted name still works."""
    installed.run(
        """
        import contextlib, io, sys

        from anomalib.cli.cli import main

        output = io.StringIO()
        for model, code in (("Mkd", 2), ("anomalib_mkd.Mkd", 0)):
            sys.argv = ["anomalib", "train", "--model", model, "--print_config"]
            with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
                try:
                    main()
                except SystemExit as end:
                    assert end.code == code, output.getvalue()
        assert "Expected a dot import path string: Mkd" in output.getvalue()
        """,
        ANOMALIB_MKD_AUTOLOAD="0",
    )


def test_a_broken_plugin_leaves_anomalib_working(wheel: Path, tmp_path: Path) -> None:
    """The host's models are all there, and one warning says what is wrong."""
    environment = Environment(tmp_path)
    environment.pip("install", "--quiet", "--no-deps", "--no-index", wheel)
    environment.borrow_packages()
    environment.write({"anomalib_mkd/models/mkd/__init__.py": "raise ImportError('no libfoo')"})
    result = environment.run(
        """
        from anomalib.models import get_model, list_models

        assert "stfpm" in list_models() and "mkd" not in list_models()
        """
    )
    assert result.stderr.count("RuntimeWarning: anomalib_mkd could not register its models") == 1
    assert "no libfoo" in result.stderr


def test_an_editable_install(build: Callable[[str], Path], tmp_path: Path) -> None:
    """The working tree registers as the wheel does."""
    environment = Environment(tmp_path)
    environment.pip("install", "--quiet", "--no-deps", "--no-index", build("editable"))
    environment.borrow_packages()
    environment.run(
        "from anomalib.models import Mkd, get_model; assert type(get_model('mkd', weights='quickstart')) is Mkd"
    )


def test_where_hooks_do_not_run(wheel: Path, tmp_path: Path) -> None:
    """``pip install --target``: the path entry is no site directory, and ``python -m anomalib_mkd`` steps in."""
    environment = Environment(tmp_path / "environment")
    environment.borrow_packages()
    target = tmp_path / "target"
    environment.pip("install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel)
    command = (
        environment.python,
        "-m",
        "anomalib_mkd",
        "train",
        "--model",
        "Mkd",
        "--data",
        "Quickstart",
        "--print_config",
    )
    assert "class_path: anomalib_mkd.Mkd\n" in environment.call(*command, PYTHONPATH=str(target)).stdout
