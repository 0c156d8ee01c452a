# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A bar with the time that is left, or a few lines where none can be drawn; light, so that it comes at once."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from rich import get_console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

LINES = 10
"""Greatest number of lines, after the first, that a bar becomes where it cannot be drawn, as in a file."""
LINE_SECONDS = 2.0
"""Shortest time between two of these lines."""
SILENT_SECONDS = 30.0
"""Longest time without a line while something is done, whatever its share."""
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


def say(line: str) -> None:
    """Print a line at once, above a bar if one is drawn."""
    console = get_console()
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.file.flush()


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

    def __init__(self, clock: Clock, about: str) -> None:
        super().__init__()
        self.clock, self.about = clock, about

    def render(self, task: Task) -> Text:
        """Show the time left, or the time taken at the end."""
        if task.finished:
            return Text(duration(task.finished_time or 0.0))
        left = self.clock.left(time.monotonic())
        return Text("" if left is None else f"{self.about} {duration(left)} left")


class Bar:
    """A bar on a terminal or in a notebook; elsewhere a few lines.

    Args:
        title: What is being done.
        total: Units of work.
        unit: Name of a unit, in the plural, or what a percentage is of: ``"% of the run"``.
        console: Where to draw; rich's own, which anomalib's log lines share, by default.
        about: What to say before the time left.
    """

    def __init__(
        self, title: str, total: float, unit: str, console: Console | None = None, *, about: str = "about"
    ) -> None:
        self.title, self.total, self.unit, self.about = title, total, unit, about
        self.percent = unit.startswith("%")
        self.console = console or get_console()
        self.clock = Clock(total, time.monotonic())
        self.written_at, self.written_share, self.drawn_at = -math.inf, 0.0, -math.inf
        self.progress: Progress | None = None
        if self.console.is_interactive or self.console.is_jupyter:
            share = "{task.percentage:>3.0f} " if self.percent else "{task.completed:.0f}/{task.total:.0f} "
            self.progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn(share + unit, markup=False),
                TimeLeft(self.clock, about),
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
        silent = now - self.written_at
        due = silent >= (LINE_SECONDS if int(LINES * share) > int(LINES * self.written_share) else SILENT_SECONDS)
        first = self.written_at == -math.inf
        if (first or due or changed or ended) and self.written_share < 1:
            self.written_at, self.written_share = now, share
            self._write_line(done, note, now)

    def _write_line(self, done: float, note: str, now: float) -> None:
        count = f"{100 * done / self.total:.0f}" if self.percent else f"{done:.0f} of {self.total:.0f}"
        left = self.clock.left(now)
        if done >= self.total:
            last = f"took {duration(now - self.clock.start)}"
        else:
            last = "" if left is None else f"{self.about} {duration(left)} left"
        line = f"{self.title}: " + ", ".join(part for part in (f"{count} {self.unit}", note, last) if part)
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.progress is not None:
            self.progress.stop()
