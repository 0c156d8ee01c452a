# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Throw-away environments, with a stub of anomalib (milliseconds) or with the installed one (ten seconds per start)."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from textwrap import dedent

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src"
HOOK_FILES = ("_anomalib_mkd_autoload.py", "anomalib_mkd_autoload.pth", "anomalib_mkd_autoload.start")

# What registration touches of anomalib, and nothing else of it.
STUB_HOST = {
    "anomalib/__init__.py": "",
    "anomalib/data/__init__.py": "__all__ = []\nclass AnomalibDataModule: ...\n",
    "anomalib/models/components/__init__.py": "class AnomalibModule: ...\n",
    "anomalib/models/__init__.py": """\
        import anomalib.data
        from anomalib.models.components import AnomalibModule

        ALLOWED_MODULES = {"anomalib.models"}
        __all__ = []
        """,
    "anomalib/cli/__init__.py": "",
    "anomalib/cli/cli.py": """\
        import anomalib.models

        def main():
            print(anomalib.models.__all__)
        """,
}
# The leaves of our own package that need torch; everything about registration is the real file.
STUB_LEAVES = {
    **{
        f"anomalib_mkd/models/{folder}/__init__.py": f"""\
        from anomalib.models.components import AnomalibModule

        class {name}(AnomalibModule): ...
        """
        for folder, name in (
            ("dcam", "Dcam"),
            ("mixed_distillation", "MixedDistillation"),
            ("mkd", "Mkd"),
            ("mmrd", "Mmrd"),
        )
    },
    "anomalib_mkd/data/__init__.py": """\
        from anomalib.data import AnomalibDataModule

        class DepthFolder(AnomalibDataModule): ...
        class MultiCategory(AnomalibDataModule): ...
        class Parts(AnomalibDataModule): ...
        class Quickstart(AnomalibDataModule): ...
        """,
}
REAL_FILES = (
    *HOOK_FILES,
    *(f"anomalib_mkd/{name}.py" for name in ("__init__", "__main__", "_register", "_version", "models/__init__")),
)


class Environment:
    """A virtual environment without pip."""

    def __init__(self, root: Path) -> None:
        venv.create(root, symlinks=os.name != "nt")
        self.root = root
        self.python = root / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.site = Path(self.run("import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())

    def write(self, files: dict[str, str]) -> None:
        """Write modules into the site directory."""
        for name, text in files.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def run(self, code: str, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in a new interpreter, and fail with its own traceback."""
        return self.call(self.python, *flags, "-c", dedent(code), **variables)

    def call(self, *command: str | Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that must end with the exit status ``code``."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ANOMALIB_MKD"))}
        result = subprocess.run(  # noqa: S603
            command,
            env={**inherited, **variables},
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert result.returncode == code, f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def pip(self, *arguments: str | Path) -> None:
        """Run the pip of the running interpreter on this environment."""
        self.call(sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", *arguments)

    def borrow_packages(self) -> None:
        """Lend this environment the heavy packages of the running interpreter.

        A path line is no site directory, so ``.pth`` files over there (an editable install of ours) stay unread.
        """
        lent = dict.fromkeys(path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"})
        self.write({"borrowed.pth": "\n".join(lent)})
