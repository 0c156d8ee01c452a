# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Predict on every image that a camera writes into a folder, once each: over restarts, power cuts and kill -9.

An image is its name, size and time of last change. Its row is on the disk before the image counts as done, and no
row is written twice, so a watcher that was killed goes on where it was. The folder itself is the long queue: in memory
wait at most ``--queue`` images, and sizes and times of the files there. One watcher per file of results.
"""

from __future__ import annotations

import argparse
import csv
import os
import queue
import signal
import sqlite3
import stat
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib_mkd.deploy import Inferencer
from anomalib_mkd.files import no_formula
from anomalib_mkd.pictures import files_below, is_named_as_image, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AGAIN = 10
"""Seconds for which a file that the system does not let read is tried again."""


class Key(NamedTuple):
    """What makes an image one that was seen: another size or time is another image."""

    name: str
    size: int
    changed: int


class Row(NamedTuple):
    """One result; ``seconds`` are those from the file's last change to the verdict."""

    name: str
    size: int
    changed: int
    verdict: str
    score: float | None
    boxes: str
    seconds: float
    message: str


def another_table(path: Path) -> ValueError:
    """Say that a file holds no results of this program, or changed ones."""
    return ValueError(f"Expected results of this program, unchanged, in {path}, got another table. Name another file.")


class SqliteResults:
    """Rows in a table ``results`` of SQLite, whose key is the image."""

    def __init__(self, path: Path) -> None:
        self.base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)  # a statement, a transaction
        self.lock = threading.Lock()
        try:
            self.base.execute("PRAGMA journal_mode=WAL")
            self.base.execute("PRAGMA synchronous=FULL")
            self.base.execute(
                f"CREATE TABLE IF NOT EXISTS results ({', '.join(Row._fields)}, PRIMARY KEY (name, size, changed))"
            )
            columns = self.base.execute("SELECT * FROM results LIMIT 0").description
        except sqlite3.Error:
            self.close()
            raise
        if [name for name, *_ in columns] != [*Row._fields]:
            self.close()
            raise another_table(path)

    def has(self, key: Key) -> bool:
        """Return whether an image is done."""
        with self.lock:
            found = self.base.execute("SELECT 1 FROM results WHERE name = ? AND size = ? AND changed = ?", key)
            return found.fetchone() is not None

    def add(self, row: Row) -> None:
        """Write one row to the disk."""
        with self.lock:
            self.base.execute(f"INSERT OR IGNORE INTO results VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608

    def close(self) -> None:
        """Close the file."""
        self.base.close()


class CsvResults:
    """Rows in a CSV file, a line each; a line that a power cut left unfinished is removed.

    All images that are done stay in memory.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        try:
            header, *rows = list(csv.reader(whole.decode().splitlines())) or [[*Row._fields]]
            self.done = {Key(no_formula(row[0]), int(row[1]), int(row[2])) for row in rows}
        except (ValueError, IndexError, csv.Error) as error:  # a spreadsheet rounds numbers and adds empty lines
            raise another_table(path) from error
        if header != [*Row._fields] or not (whole or ",".join(header).encode().startswith(text)):
            raise another_table(path)
        if whole != text:
            os.truncate(path, len(whole))
        self.file = path.open("a", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file, lineterminator="\n")
        if not whole:
            self._write(Row._fields)

    def has(self, key: Key) -> bool:
        """Return whether an image is done."""
        return key._replace(name=no_formula(key.name)) in self.done

    def add(self, row: Row) -> None:
        """Write one row to the disk."""
        row = row._replace(name=no_formula(row.name))
        self._write(row)
        self.done.add(Key(*row[:3]))

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _write(self, cells: tuple[Any, ...]) -> None:
        self.writer.writerow(cells)
        self.file.flush()
        os.fsync(self.file.fileno())


class Watcher(threading.Thread):
    """Finds complete new images, oldest first, reads them, and waits while the queue is full.

    Args:
        folder: What the camera writes to; folders inside count, linked ones, too.
        is_done: Tells whether an image is not to be read.
        waiting: Receives key and image, or key and the error of reading it.
        stop: Ends the thread.
        settle: Seconds for which a file must not have changed.
        poll: Seconds between looks.
    """

    def __init__(
        self,
        folder: Path,
        is_done: Callable[[Key], bool],
        waiting: queue.Queue[Any],
        stop: threading.Event,
        settle: float,
        poll: float,
    ) -> None:
        super().__init__(daemon=True)
        self.folder, self.is_done, self.waiting, self.stop = folder, is_done, waiting, stop
        self.settle, self.poll = settle, poll
        self.device = folder.stat().st_dev
        self.passed_on: set[Key] = set()  # and not done
        self.seen: dict[str, tuple[int, int]] = {}  # of files in the folder: size and time, once done or passed on
        self.since: dict[Key, float] = {}
        self.refused: dict[Key, float] = {}
        self.foreign: set[str] = set()
        self.said: set[str] = set()
        self.saying: set[str] = set()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Look until told to stop."""
        try:
            while not self.stop.is_set():
                self.look()
                self.stop.wait(self.poll)
        except BaseException as error:  # noqa: BLE001  # the main thread raises it
            self.failure = error

    def look(self) -> None:
        """Pass on what is new and complete.

        Raises:
            OSError: If the folder is gone, or another disk is in its place.
        """
        self.check_folder()
        seen, new = {}, []
        for path in self.files():
            if (state := self.state(path)) is None:
                continue
            if self.seen.get(str(path)) != state:
                key = self.named(path, state)
                if key not in self.passed_on and not self.is_done(key):
                    new.append((key, path))
                    continue
            seen[str(path)] = state
        self.seen = seen
        new.sort(key=lambda entry: (entry[0].changed, entry[0].name))
        now = time.monotonic()
        self.since = {key: self.since.get(key, now) for key, _ in new}
        self.refused = {key: self.refused[key] for key, _ in new if key in self.refused}
        for key, path in new:
            if self.stop.is_set():
                return
            if now - self.since[key] >= self.settle and (found := self.read(key, path)) is not None:
                self.pass_on(key, found, str(path))
        self.said, self.saying = self.saying, set()  # what went well in between is said again

    def read(self, key: Key, path: Path) -> Any:
        """Read an image: an error if it is damaged, None if it is gone, in writing, or to be tried again."""
        try:
            found: Any = read_picture(path)
        except FileNotFoundError:
            return None  # renamed or taken away
        except (ValueError, OSError) as error:
            found = error
            cause = error.__cause__ or error
            if isinstance(cause, OSError) and cause.errno is not None:  # of the system, not of a decoder
                self.say(path, cause)
                if time.monotonic() - self.refused.setdefault(key, time.monotonic()) < AGAIN:
                    return None
        return found if self.key(path) == key else None  # otherwise it is another image now

    def check_folder(self) -> None:
        """Stop if nothing can be found any more, as when a share is lost."""
        try:
            gone = "another disk in its place" if self.folder.stat().st_dev != self.device else ""
            os.scandir(self.folder).close()
        except OSError as error:
            gone = str(error)
        if gone:
            msg = f"Expected the folder {self.folder} to stay mounted, got {gone}. Mount it, and start again."
            raise OSError(msg)

    def files(self) -> Iterator[Path]:
        """List what has the name of an image; of other files, hidden ones apart, the first of a suffix is named."""
        for path in files_below(self.folder, unlisted=self.unlisted):
            if is_named_as_image(path):
                yield path
            elif not path.name.startswith(".") and path.suffix not in self.foreign:
                self.foreign.add(path.suffix)
                sys.stderr.write(printable(f"{path.name}: skipped, like all '{path.suffix}' files") + "\n")

    def unlisted(self, error: OSError) -> None:
        """Name a folder that cannot be listed, unless it was taken away."""
        if not isinstance(error, FileNotFoundError):
            self.say(Path(error.filename), error)

    def say(self, path: Path, reason: OSError | str) -> None:
        """Name what cannot be read, once until it can."""
        self.saying.add(str(path))
        if str(path) not in self.said:
            self.said.add(str(path))
            place, reason = path.relative_to(self.folder), getattr(reason, "strerror", None) or reason
            sys.stderr.write(printable(f"{place}: cannot be read yet ({reason}), trying again") + "\n")

    def state(self, path: Path) -> tuple[int, int] | None:
        """Return size and time of last change; None if it is gone, or no file that can be read."""
        try:
            state = path.stat()
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or path.is_symlink():  # otherwise it was taken away
                self.say(path, error)
            return None
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for forever
            self.say(path, "not a regular file")
            return None
        return state.st_size, state.st_mtime_ns

    def named(self, path: Path, state: tuple[int, int]) -> Key:
        """Identify an image."""
        return Key(printable(str(path.relative_to(self.folder))), *state)

    def key(self, path: Path) -> Key | None:
        """Identify an image as it is now; None if it is gone."""
        state = self.state(path)
        return None if state is None else self.named(path, state)

    def pass_on(self, key: Key, found: Any, place: str) -> None:
        """Wait for room in the queue."""
        while not self.stop.is_set():
            if self.waiting.full():
                self.stop.wait(0.01)
                continue
            self.passed_on.add(key)  # before the main thread can be done with it
            self.waiting.put((key, found))
            self.seen[place] = key.size, key.changed
            return


def printable(text: str) -> str:
    """Make one line of a text, which UTF-8 can write: names of files may be anything."""
    return " ".join(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").splitlines())


def result(inferencer: Inferencer, key: Key, found: Any) -> Row:
    """Predict on an image; what cannot be read or predicted on is an error in its row, not lost."""
    verdict, score, boxes, message = "error", None, "", ""
    try:
        if isinstance(found, Exception):
            raise found
        prediction = inferencer.predict(found)
        verdict, score = "bad" if prediction.bad else "good", round(prediction.score, 4)
        boxes = "; ".join(f"{box.left} {box.top} {box.right} {box.bottom}" for box in prediction.boxes)
    except (
        ValueError,
        OSError,
    ) as error:  # a failing device is none of these: it ends the watcher, and nothing is lost
        message = printable(str(error))
    return Row(*key, verdict, score, boxes, round(time.time() - key.changed / 1e9, 3), message)


def main() -> int:
    """Watch until a signal to stop: the image in work is finished, those waiting are left for the next start."""
    parser = argparse.ArgumentParser(description="Predict on every image that appears in a folder, once each.")
    parser.add_argument("model", type=Path, help="the .xml file of an export")
    parser.add_argument("folder", type=Path, help="what the camera writes to")
    parser.add_argument("results", type=Path, help="a file ending in .csv, or .sqlite")
    parser.add_argument("--queue", type=int, default=8, metavar="IMAGES", help="read ahead (default: %(default)s)")
    parser.add_argument("--settle", type=float, default=0.5, metavar="SECONDS", help="unchanged for (default: 0.5)")
    parser.add_argument("--poll", type=float, default=0.1, metavar="SECONDS", help="between looks (default: 0.1)")
    parser.add_argument("--category", metavar="NAME", help="category of the images, in a model of several")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be anything
    if options.results.suffix not in {".csv", ".sqlite"} or not options.folder.is_dir():
        parser.error(f"expected a folder and a .csv or .sqlite, got {options.folder} and {options.results}")
    if options.queue < 1:
        parser.error(f"expected a --queue of at least 1, got {options.queue}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        inferencer = Inferencer(options.model, category=options.category)
        results = (CsvResults if options.results.suffix == ".csv" else SqliteResults)(options.results)
        waiting: queue.Queue[Any] = queue.Queue(options.queue)
        watcher = Watcher(options.folder, results.has, waiting, stop, options.settle, options.poll)
    except (ValueError, OSError, sqlite3.Error) as error:
        parser.error(str(error))
    watcher.start()
    while not stop.is_set():
        try:
            key, found = waiting.get(timeout=0.2)
        except queue.Empty:
            if watcher.failure is None:
                continue
            if not isinstance(watcher.failure, OSError):
                raise watcher.failure from None
            results.close()
            sys.stderr.write(printable(str(watcher.failure)) + "\n")
            return 1
        row = result(inferencer, key, found)
        results.add(row)
        watcher.passed_on.discard(key)  # only now: the row is on the disk
        print(f"{row.name}: {row.verdict}", flush=True)
    watcher.join()
    results.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
