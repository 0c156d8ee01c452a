# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Progress with the time that is left: one bar for a whole training instead of one per epoch."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, TypeGuard

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from rich import get_console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from rich.console import Console

LINES = 10
"""Greatest number of lines, after the first, that a bar becomes where it cannot be drawn, as in a file."""
LINE_SECONDS = 2.0
"""Shortest time between two of these lines."""
REDRAW_SECONDS = 0.2
"""Shortest time between two updates of a bar that is drawn."""


def duration(seconds: float) -> str:
    """Write a duration as one says it.

    Args:
        seconds: 0 or more.

    Example:
        >>> duration(8.4), duration(65), duration(3725)
        ('8 s', '1 min 5 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Clock:
    """Estimate of the time left, from the mean speed since the first update.

    The first unit of work is left out of the speed where possible: it fills caches.

    Args:
        total: Units of work.
        now: Clock in seconds.
    """

    def __init__(self, total: float, now: float) -> None:
        self.total = total
        self.start = self.updated = now
        self.done = 0.0
        self.first: tuple[float, float] | None = None

    def update(self, done: float, now: float) -> None:
        """Note how much is done; the first note may be that a resumed training has already done a part."""
        self.done, self.updated = done, now
        if self.first is None:
            self.first = (done, now)

    def left(self, now: float) -> float | None:
        """Return the seconds left, or ``None`` while they are unknown."""
        if self.first is None or self.done <= self.first[0] or math.isinf(self.total):
            return None
        pace = (self.updated - self.first[1]) / (self.done - self.first[0])
        return max(0.0, pace * (self.total - self.done) - (now - self.updated))


class TimeLeft(ProgressColumn):
    """The time left, which counts down between updates."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def render(self, task: Task) -> Text:
        """Show the time left, or the time taken at the end."""
        if task.finished:
            return Text(duration(task.finished_time or 0.0))
        left = self.clock.left(time.monotonic())
        return Text("" if left is None else f"about {duration(left)} left")


class Bar:
    """A bar on a terminal or in a notebook; elsewhere a few lines.

    Args:
        title: What is being done.
        total: Units of work.
        unit: Name of a unit, in the plural; empty shows a percentage instead of a count.
        console: Where to draw; rich's own, which anomalib's log lines share, by default.
    """

    def __init__(self, title: str, total: float, unit: str = "", console: Console | None = None) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.console = console or get_console()
        self.clock = Clock(total, time.monotonic())
        self.written_at, self.written_share, self.drawn_at = -math.inf, 0.0, -math.inf
        self.progress: Progress | None = None
        if self.console.is_interactive or self.console.is_jupyter:
            count = "{task.completed:.0f}/{task.total:.0f} " + unit if unit else "{task.percentage:>3.0f} %"
            self.progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn(count, markup=False),
                TimeLeft(self.clock),
                TextColumn("{task.fields[note]}", markup=False),
                console=self.console,
                refresh_per_second=4,
            )
            self.task = self.progress.add_task(title, total=None if math.isinf(total) else total, note="")
            self.progress.start()

    def update(self, done: float, note: str = "", title: str | None = None) -> None:
        """Show how much is done.

        Args:
            done: Units of work.
            note: What to show behind the time.
            title: What is being done now; as before by default.
        """
        now = time.monotonic()
        changed = title is not None and title != self.title
        self.title = title or self.title
        self.clock.update(done, now)
        ended = done >= self.total
        if self.progress is not None:
            if changed or ended or now - self.drawn_at >= REDRAW_SECONDS:
                self.drawn_at = now
                self.progress.update(self.task, completed=done, description=self.title, note=note)
            if ended:
                self.close()  # at once: what is printed next would tear a bar that is still drawn
            return
        share = 0.0 if math.isinf(self.total) else done / self.total
        due = int(LINES * share) > int(LINES * self.written_share) and now - self.written_at >= LINE_SECONDS
        first = self.written_at == -math.inf
        if (first or due or changed or ended) and self.written_share < 1:
            self.written_at, self.written_share = now, share
            self._write_line(done, note, now)

    def _write_line(self, done: float, note: str, now: float) -> None:
        count = f"{done:.0f} of {self.total:.0f} {self.unit}" if self.unit else f"{100 * done / self.total:.0f} %"
        left = self.clock.left(now)
        if done >= self.total:
            last = f"took {duration(now - self.clock.start)}"
        else:
            last = "" if left is None else f"about {duration(left)} left"
        line = f"{self.title}: " + ", ".join(part for part in (count, note, last) if part)
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.progress is not None:
            self.progress.stop()


class RunProgress(Callback):
    """One bar over all steps of a training, and one over each test and prediction.

    It takes the place of Lightning's default bar, which starts again at each epoch. A bar that the user chose stays,
    and without one, as with ``enable_progress_bar=False``, this callback shows nothing.
    """

    def __init__(self) -> None:
        self.default: RichProgressBar | None = None
        self.bar: Bar | None = None
        self.done = 0

    @property
    def shows(self) -> bool:
        """Whether it shows anything."""
        return self.default is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Switch off the default bar."""
        del pl_module, stage
        bar = trainer.progress_bar_callback
        if is_default(bar):
            bar.disable()
            self.default = bar

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the trainer as it was found."""
        del trainer, pl_module, stage
        self._close()
        if self.default is not None:
            self.default.enable()
            self.default = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        del exception
        self.teardown(trainer, pl_module, "")

    def _open(self, trainer: Trainer, title: str, total: float, unit: str) -> None:
        self._close()
        self.done = 0
        if self.shows and trainer.is_global_zero:
            self.bar = Bar(title, total, unit)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    # --------------------------------------------------------------------------------------------------- training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the training."""
        del pl_module
        self._open(trainer, "Training", trainer.estimated_stepping_batches, "steps")
        if self.bar is not None and trainer.global_step:
            self.bar.update(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step and the loss."""
        del pl_module, outputs, batch, batch_idx
        if self.bar is not None:
            loss = trainer.progress_bar_metrics.get("train_loss_step")
            self.bar.update(trainer.global_step, "" if loss is None else f"loss {loss:.3g}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of the training."""
        del trainer, pl_module
        self._close()

    # ----------------------------------------------------------------------------------------- test and prediction

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the test."""
        del pl_module
        self._open(trainer, "Testing", sum(trainer.num_test_batches), "batches")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the prediction."""
        del pl_module
        self._open(trainer, "Predicting", sum(trainer.num_predict_batches), "batches")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        del trainer, pl_module, outputs, batch, batch_idx, dataloader_idx
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.done)

    on_predict_batch_end = on_test_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    on_predict_end = on_test_end


def is_default(bar: Callback | None) -> TypeGuard[RichProgressBar]:
    """Return whether Lightning, and not the user, chose a progress bar: then none of its settings differs.

    Example:
        >>> is_default(RichProgressBar()), is_default(RichProgressBar(leave=True)), is_default(None)
        (True, False, False)
    """
    return type(bar) is RichProgressBar and _settings(bar) == _settings(RichProgressBar())


def _settings(bar: RichProgressBar) -> dict[str, object]:
    """Return the values of a bar that its constructor sets."""
    return {
        name: value for name, value in vars(bar).items() if isinstance(value, (bool, int, dict, RichProgressBarTheme))
    }
