# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of the check: ``python -m anomalib_mkd check FOLDER``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_mkd.check.words import MOST, count, shown
from anomalib_mkd.terminal.output import plain_console, print_any_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anomalib_mkd.check.folder import Check
    from anomalib_mkd.check.images import Facts

DESCRIPTION = """\
Check a folder of parts before training: what is in it, which files cannot be read, whether masks pair with images by
name, copies between training and test, and the configuration to train with. Best is MVTec AD's layout: train/good,
test/good, test/<defect> and, for masks, ground_truth/<defect>. Other names, such as good/ and bad/, are recognised."""
CODES = "Exit code: 0 ready to train, 1 a problem stops or spoils a training, 2 the command is wrong."
LEVELS = {"problem": "bold red", "warning": "yellow", "note": "dim"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments; the process's own after ``check`` if ``None``.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser("python -m anomalib_mkd check", description=DESCRIPTION, epilog=CODES)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of parts")
    parser.add_argument(
        "--write-config", type=Path, metavar="FILE", help="write the configuration into FILE, a new one"
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON, for scripts")
    options = parser.parse_args(arguments)
    print_any_name()
    say = sys.stderr if options.json else sys.stdout
    print(f"Checking {shown(options.folder)}", file=say, flush=True)  # before anything else is imported

    from anomalib_mkd.check.configuration import configuration, require_folder, write_configuration  # noqa: PLC0415
    from anomalib_mkd.check.folder import check_folder  # noqa: PLC0415
    from anomalib_mkd.pictures import allow_large  # noqa: PLC0415

    allow_large()
    file, taken = options.write_config, ""
    try:
        if file is not None:
            require_folder(file)  # before minutes of reading
        check = check_folder(options.folder, track=_track)
        text = configuration(check.layout)
        if file is not None and text is not None:
            write_configuration(text, file)
    except FileExistsError as error:  # what was found is shown all the same
        file, taken = None, f"{error}\n"
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.json:
        sys.stdout.write(f"{json.dumps(as_json(check), indent=2)}\n")
    else:
        show(check, text, file)
    sys.stderr.write(taken)
    return 2 if taken else 1 if check.of("problem") else 0


def as_json(check: Check) -> dict[str, Any]:
    """Return what was found as plain values."""
    from anomalib_mkd.check.configuration import configuration  # noqa: PLC0415
    from anomalib_mkd.check.folder import rows  # noqa: PLC0415

    return {
        "folder": str(check.layout.root),
        "layout": check.layout.kind,
        "folders": rows(check),
        "findings": [asdict(finding) for finding in check.findings],
        "configuration": configuration(check.layout),
    }


def show(check: Check, text: str | None, file: Path | None) -> None:
    """Print what was found.

    Args:
        check: What was found.
        text: The configuration; None if there is none.
        file: Where it was to be written; None if nowhere.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from anomalib_mkd.check.folder import rows  # noqa: PLC0415

    console = plain_console(sys.stdout)
    layout = check.layout

    def say(line: str = "", style: str = "") -> None:
        console.print(Text(line, style), soft_wrap=True)

    say(KINDS[layout.kind])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for row in rows(check):
        if not table.columns:
            for name, value in row.items():
                table.add_column(name, justify="right" if isinstance(value, int) else "left", overflow="fold")
        table.add_row(*(Text(str(value)) for value in row.values()))
    if table.columns:
        say()
        console.print(table)
    for finding in sorted(check.findings, key=lambda finding: list(LEVELS).index(finding.level)):
        say()
        sentence = f"{finding.text[0].upper()}{finding.text[1:]}{'. ' * bool(finding.remedy)}{finding.remedy}"
        console.print(Text.assemble((f"{finding.level}: ", LEVELS[finding.level]), sentence), soft_wrap=True)
        for name in finding.files[:MOST]:
            say(f"    {name}")
        if len(finding.files) > MOST:
            say(f"    and {len(finding.files) - MOST} more")
    say()
    problems, warnings = check.of("problem"), check.of("warning")
    if text is not None:
        say(f"Configuration{f', written to {shown(file)}' if file else ' (--write-config FILE writes it)'}:")
        say()
        say(text.rstrip().replace("\n", "\n    ").join(["    ", ""]))
        say()
        model = "Mmrd" if "DepthFolder" in text else "MixedDistillation"
        say(f"    anomalib train --model {model} --config {shlex.quote(shown(file or 'FILE'))}")
        say()
    elif file is not None:
        say(f"Not written, as there are no good parts: {shown(file)}")
        say()
    if problems:
        say(f"Not ready to train: {count(problems, 'problem')}.", "bold red")
    else:
        but = f", with {count(warnings, 'warning')}" if warnings else ""
        ready = "The photos are ready to train" if layout.kind == "depth" else "Ready to train"
        say(f"{ready}{but}.", "bold green")


KINDS = {
    "parts": "Recognised: MVTec AD's layout, for the datamodule Parts.",
    "depth": "Recognised: MVTec 3D-AD's layout, for the datamodule DepthFolder. Only the photos are checked.",
    "folders": "Recognised: good and bad parts by the names of their folders, for anomalib's datamodule Folder.",
    "categories": "Recognised: several folders of parts.",
    "nothing": "Recognised: no folder of good parts.",
}


def _track(facts: Iterable[Facts], total: int) -> Iterable[Facts]:
    """Show a bar with the time left, on a terminal."""
    from rich.progress import track  # noqa: PLC0415

    console = plain_console(sys.stderr)
    return track(facts, "Reading", total, console=console, transient=True, disable=not console.is_terminal)
