# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One truthful bar over a whole run, a few lines where no bar can be drawn, and the user's own choice before ours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from anomalib.engine import Engine
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from rich.console import Console

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data import Quickstart
from anomalib_mkd.terminal import bar as bars
from anomalib_mkd.terminal import progress
from anomalib_mkd.terminal.bar import LINES, Bar, Clock
from anomalib_mkd.terminal.progress import RunProgress, is_default

if TYPE_CHECKING:
    from pathlib import Path


def text_of(console: Console) -> str:
    file: Any = console.file
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_time_left_is_that_of_the_mean_speed_and_counts_down() -> None:
    clock = Clock(total=10, now=0.0)
    assert clock.left(0.0) is None
    clock.update(1, now=5.0)  # slow, as first steps are
    assert clock.left(5.0) is None
    clock.update(3, now=9.0)
    assert clock.left(9.0) == pytest.approx(7 * 2.0)
    assert clock.left(12.0) == pytest.approx(7 * 2.0 - 3.0)
    assert clock.left(99.0) == 0
    resumed = Clock(total=10, now=0.0)
    resumed.update(6, now=0.0)
    resumed.update(8, now=4.0)
    assert resumed.left(4.0) == pytest.approx(2 * 2.0)


def test_a_file_gets_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "LINE_SECONDS", 0)
    console = Console(file=io.StringIO(), width=40)
    bar = Bar("Training", 500, "steps", console)
    for step in range(1, 501):
        bar.update(step, "loss 0.5")
    bar.close()
    lines = text_of(console).splitlines()
    assert len(lines) == LINES + 1
    assert lines[0] == "Training: 1 of 500 steps, loss 0.5"
    assert re.fullmatch(r"Training: 250 of 500 steps, loss 0\.5, about .* left", lines[5])
    assert re.fullmatch(r"Training: 500 of 500 steps, loss 0\.5, took .*", lines[-1])
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_slow_steps_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "SILENT_SECONDS", 0)
    console = Console(file=io.StringIO())
    bar = Bar("Training", 500, "steps", console, about="at most")
    for step in range(1, 4):
        bar.update(step)
    lines = text_of(console).splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"Training: 3 of 500 steps, at most .* left", lines[-1])


def test_lines_do_not_follow_each_other_closely() -> None:
    console = Console(file=io.StringIO())
    bar = Bar("Testing", 10, "batches", console)
    for batch in range(1, 11):
        bar.update(batch)
    assert len(text_of(console).splitlines()) == 2  # the first and the last


def test_a_terminal_gets_one_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=100)
    bar = Bar("Training", 20, "steps", console)
    for step in range(1, 21):
        bar.update(step, "loss 0.5")
    bar.close()
    last = text_of(console).splitlines()[-1]
    assert re.search(r"Training ━+ 20/20 steps \d+ s +loss 0\.5", last)


def run(folder: Path, epochs: int = 3, **arguments: Any) -> tuple[Engine, MixedDistillation]:
    data = Quickstart(folder / "data", "metal", 4, image_size=64, train_images=10, test_good=2, per_defect=1)
    model = MixedDistillation(weights="quickstart", visualizer=False)
    engine = Engine(default_root_dir=folder, accelerator="cpu", logger=False, max_epochs=epochs, **arguments)
    engine.train(model=model, datamodule=data)
    return engine, model


def test_one_bar_over_all_epochs_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=100)
    monkeypatch.setattr(bars, "get_console", lambda: console)
    monkeypatch.setattr(bars, "LINE_SECONDS", 0)
    engine, _ = run(tmp_path)
    lines = text_of(console).splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("Training")] == [
        f"Training: {step} of 6 steps" for step in range(1, 7)
    ]
    assert lines[-1].startswith("Testing: 1 of 1 batches")
    assert sum(isinstance(each, RunProgress) for each in engine.trainer.callbacks) == 1  # type: ignore[attr-defined]
    default: Any = engine.trainer.progress_bar_callback
    assert default.is_enabled, "the trainer is left as it was"


@pytest.mark.parametrize(
    "arguments",
    [{"enable_progress_bar": False}, {"callbacks": [TQDMProgressBar()]}, {"callbacks": [RichProgressBar(leave=True)]}],
    ids=["none", "tqdm", "rich with a setting"],
)
def test_the_users_choice_of_a_bar_wins(
    arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_bar(*_: object) -> None:
        pytest.fail("a bar of ours was opened")

    monkeypatch.setattr(progress, "Bar", no_bar)
    engine, _ = run(tmp_path, epochs=1, **arguments)
    own = arguments.get("callbacks", [None])[0]
    assert engine.trainer.progress_bar_callback is own


def test_the_default_bar_comes_back_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def fail(self: MixedDistillation, *_: object) -> None:
        seen.append(self.trainer.progress_bar_callback)
        assert not seen[0].is_enabled
        msg = "of the test"
        raise RuntimeError(msg)

    monkeypatch.setattr(MixedDistillation, "training_step", fail)
    with pytest.raises(RuntimeError, match="of the test"):
        run(tmp_path, epochs=1)
    assert is_default(seen[0])
