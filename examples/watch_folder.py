# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Predict on every image that a camera writes into a folder, once each: over restarts, power cuts and kill -9.

An image is its name, size and time of last change. Its row is on the disk before the image counts as done, and no
row is written twice, so a watcher that was killed goes on where it was. The folder itself is the long queue: in memory
wait at most ``--queue`` images. One watcher per file of results.
"""

from __future__ import annotations

import argparse
import csv
import os
import queue
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomalib_mkd.deploy import Inferencer
from anomalib_mkd.pictures import files_below, is_named_as_image, read_picture

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        self.base = sqlite3.connect(path, isolation_level=None)  # every statement is a transaction
        self.base.execute("PRAGMA journal_mode=WAL")
        self.base.execute("PRAGMA synchronous=FULL")
        self.base.execute(
            f"CREATE TABLE IF NOT EXISTS results ({', '.join(Row._fields)}, PRIMARY KEY (name, size, changed))"
        )
        if [column[0] for column in self.base.execute("SELECT * FROM results LIMIT 0").description] != [*Row._fields]:
            raise another_table(path)

    def keys(self) -> Iterator[Key]:
        """Return the images that are done."""
        return (Key(*row) for row in self.base.execute("SELECT name, size, changed FROM results"))

    def add(self, row: Row) -> None:
        """Write one row to the disk."""
        self.base.execute(f"INSERT OR IGNORE INTO results VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608

    def close(self) -> None:
        """Close the file."""
        self.base.close()


class CsvResults:
    """Rows in a CSV file, a line each; a line that a power cut left unfinished is removed."""

    def __init__(self, path: Path) -> None:
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        try:
            header, *rows = list(csv.reader(whole.decode().splitlines())) or [[*Row._fields]]
            self.done = [Key(row[0], int(row[1]), int(row[2])) for row in rows]
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

    def keys(self) -> Iterator[Key]:
        """Return the images that are done."""
        return iter(self.done)

    def add(self, row: Row) -> None:
        """Write one row to the disk."""
        self._write(row)

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
        done: Images not to read.
        waiting: Receives key and image, or key and the error of reading it.
        stop: Ends the thread.
        settle: Seconds for which a file must not have changed.
        poll: Seconds between looks.
    """

    def __init__(
        self, folder: Path, done: set[Key], waiting: queue.Queue[Any], stop: threading.Event, settle: float, poll: float
    ) -> None:
        super().__init__(daemon=True)
        self.folder, self.done, self.waiting, self.stop = folder, done, waiting, stop
        self.settle, self.poll = settle, poll
        self.passed_on: set[Key] = set()
        self.since: dict[Key, float] = {}
        self.foreign: set[str] = set()
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
        """Pass on what is new and complete."""
        new = sorted(
            ((key, path) for path in self.files() if (key := self.key(path)) and self.is_new(key)),
            key=lambda entry: (entry[0].changed, entry[0].name),
        )
        self.passed_on -= self.done
        now = time.monotonic()
        self.since = {key: self.since.get(key, now) for key, _ in new}
        for key, path in new:
            if self.stop.is_set():
                return
            if now - self.since[key] < self.settle:
                continue
            try:
                found: Any = read_picture(path)
            except FileNotFoundError:
                continue  # renamed or taken away
            except (ValueError, OSError) as error:
                found = error
            if self.key(path) == key:  # otherwise it was still being written: another image now
                self.pass_on(key, found)

    def files(self) -> Iterator[Path]:
        """List what has the name of an image; of other files, hidden ones apart, the first of a suffix is named."""
        for path in files_below(self.folder):
            if is_named_as_image(path):
                yield path
            elif not path.name.startswith(".") and path.suffix not in self.foreign:
                self.foreign.add(path.suffix)
                sys.stderr.write(printable(f"{path.name}: not read, as all files of the suffix '{path.suffix}'") + "\n")

    def key(self, path: Path) -> Key | None:
        """Identify an image; None if it is gone."""
        try:
            state = path.stat()
        except FileNotFoundError:
            return None
        return Key(printable(str(path.relative_to(self.folder))), state.st_size, state.st_mtime_ns)

    def is_new(self, key: Key) -> bool:
        """Return whether an image is neither done nor waiting."""
        return key not in self.done and key not in self.passed_on

    def pass_on(self, key: Key, found: Any) -> None:
        """Wait for room in the queue."""
        while not self.stop.is_set():
            try:
                self.waiting.put((key, found), timeout=0.2)
            except queue.Full:
                continue
            self.passed_on.add(key)
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
        done = set(results.keys())
    except (ValueError, OSError, sqlite3.Error) as error:
        parser.error(str(error))
    waiting: queue.Queue[Any] = queue.Queue(options.queue)
    watcher = Watcher(options.folder, done, waiting, stop, options.settle, options.poll)
    watcher.start()
    while not stop.is_set():
        try:
            key, found = waiting.get(timeout=0.2)
        except queue.Empty:
            if watcher.failure is not None:
                raise watcher.failure from None
            continue
        row = result(inferencer, key, found)
        results.add(row)
        done.add(key)  # only now: the row is on the disk
        print(f"{row.name}: {row.verdict}", flush=True)
    watcher.join()
    results.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
