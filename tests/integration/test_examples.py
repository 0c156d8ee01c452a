# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The programs in ``examples/``, run as a user runs them, on a hand-made export."""

from __future__ import annotations

import builtins
import csv
import errno
import os
import queue
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from openvino.utils import get_cmake_path
from PIL import Image

from anomalib_mkd.pictures import EXTENSIONS
from anomalib_mkd.thresholds import Fitted, Scale
from tests.exports import METADATA, picture, write_export

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = Path(__file__).parents[2] / "examples"
SPOT = (slice(5, 10), slice(10, 30))
PATIENCE = 240
"""Seconds for what takes one or two on an idle machine."""


@pytest.fixture
def export(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return write_export(tmp_path / "model")


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    (tmp_path / "camera").mkdir()
    return tmp_path / "camera"


def save(path: Path, *, bad: bool, number: int = 0) -> None:
    """Write an image at once, as unlike others of its kind as ``number``."""
    array = picture(spot=SPOT if bad else None)
    array[-1, :30] = 40 + number % 50
    unfinished = path.with_suffix(".part")
    Image.fromarray(array).save(unfinished, format="PNG")
    unfinished.rename(path)


def read_results(path: Path) -> list[tuple[str, str]]:
    """Return name and verdict of every row."""
    if not path.exists():
        return []
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return [(row["name"], row["verdict"]) for row in csv.DictReader(file) if row["verdict"]]
    with closing(sqlite3.connect(path)) as base:
        return list(base.execute("SELECT name, verdict FROM results"))


def start(
    export: Path, camera: Path, results: Path, words: Sequence[str] = (), **options: Any
) -> subprocess.Popen[str]:
    command = [sys.executable, EXAMPLES / "watch_folder.py", export, camera, results, "--settle", "0.2", "--queue", "4"]
    return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, **options)  # noqa: S603


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout)


def test_twenty_lines_predict(export: Path, tmp_path: Path) -> None:
    save(tmp_path / "good.png", bad=False)
    save(tmp_path / "bad.png", bad=True)
    command = [sys.executable, EXAMPLES / "predict.py", export, tmp_path / "good.png", tmp_path / "bad.png"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    assert found.stdout.splitlines() == [
        f"{tmp_path / 'good.png'}: good, score 0.12",
        f"{tmp_path / 'bad.png'}: bad, score 0.92",
        "  10,5 to 30,10: 100 pixels, highest 0.83",
    ]


def test_the_examples_know_categories(export: Path, camera: Path, tmp_path: Path) -> None:
    own = Fitted(Scale(0.9, 0.1), METADATA.pixel, ())
    export = write_export(export.parent, categories={"shiny": own, "dull": own._replace(image=METADATA.image)})
    array = np.full((20, 20, 3), 200, np.uint8)  # between both thresholds
    Image.fromarray(array).save(camera / "part.png")
    command = [sys.executable, EXAMPLES / "predict.py", export, camera / "part.png"]
    for words, verdict in (([], "bad"), (["--category", "dull"], "bad"), (["--category", "shiny"], "good")):
        found = subprocess.run([*command, *words], check=True, capture_output=True, text=True)  # noqa: S603
        assert f": {verdict}, score" in found.stdout
        assert ("No category was given" in found.stderr) is (not words)
        results = tmp_path / f"{words[-1:]}.csv"
        with start(export, camera, results, words, stderr=subprocess.PIPE) as process:
            assert next(lines_of(process)) == f"part.png: {verdict}\n"
            process.send_signal(signal.SIGTERM)
            assert ("No category was given" in process.communicate(timeout=PATIENCE)[1]) is (not words)


def test_names_that_a_terminal_cannot_show(export: Path, camera: Path, tmp_path: Path) -> None:
    options = {"encoding": "cp1252", "env": {**os.environ, "PYTHONIOENCODING": "cp1252"}}
    save(camera / "Ω.png", bad=False)
    (tmp_path / "Ψ.png").write_text("no image")
    files = [camera / "Ω.png", tmp_path / "Ψ.png", camera / "Ω.png"]
    command = [sys.executable, EXAMPLES / "predict.py", export, *files]
    found = subprocess.run(command, check=False, capture_output=True, text=True, **options)  # noqa: S603
    assert found.returncode == 1
    assert found.stdout == f"{camera}/\\u03a9.png: good, score 0.12\n"
    assert found.stderr.startswith(f"Expected a readable image in {tmp_path}/\\u03a8.png")
    assert found.stderr.count("\n") == 1
    with start(export, camera, tmp_path / "results.csv", **options) as process:
        assert next(lines_of(process)) == "\\u03a9.png: good\n"
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".sqlite"])
def test_no_picture_is_lost_or_judged_twice_over_kills(export: Path, camera: Path, tmp_path: Path, suffix: str) -> None:
    """Kill -9 after a random number of verdicts, a random moment later, while images come in."""
    results, chance, kills = tmp_path / f"results{suffix}", random.Random(0), 5  # noqa: S311
    expected: dict[str, str] = {}
    killed = threading.Event()

    def shoot() -> None:
        """Until the last kill: a watcher that has nothing left to judge would never be killed."""
        while not killed.is_set() or len(expected) < 60:
            number = len(expected)
            name, bad = f"{number:04}.png", number % 3 == 0
            save(camera / name, bad=bad, number=number)
            expected[name] = "bad" if bad else "good"
            time.sleep(0.05)

    shooting = threading.Thread(target=shoot, daemon=True)
    shooting.start()
    for _ in range(kills):
        with start(export, camera, results) as process:
            for _, _ in zip(range(chance.randrange(1, 9)), lines_of(process)):  # noqa: B905
                pass
            time.sleep(chance.random() * 0.05)
            process.kill()
        found = read_results(results)
        assert len({name for name, _ in found}) == len(found)
    killed.set()
    shooting.join()
    with start(export, camera, results) as process:
        deadline = time.monotonic() + PATIENCE
        while len(read_results(results)) < len(expected) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)  # for a second verdict, if there were one
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert sorted(read_results(results)) == sorted(expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".sqlite"])
def test_half_written_unreadable_and_replaced_pictures(export: Path, camera: Path, tmp_path: Path, suffix: str) -> None:
    results = tmp_path / f"results{suffix}"
    save(tmp_path / "whole.png", bad=True)
    content = (tmp_path / "whole.png").read_bytes()
    (camera / "folder, of\nodd 'names' ü").mkdir()
    save(camera / "folder, of\nodd 'names' ü" / 'a "part".png', bad=False)
    (camera / "broken.png").write_bytes(content[:60])
    Image.fromarray(np.full((8, 8), 9000, np.uint16)).save(camera / "deep.png")
    (camera / "notes.txt").write_text("not an image")
    with start(export, camera, results) as process, (camera / "slow.png").open("wb") as file:
        for byte in range(0, len(content), 20):  # slower than it settles, faster than it would be taken
            file.write(content[byte : byte + 20])
            file.flush()
            time.sleep(0.05)
        file.close()
        lines = lines_of(process)
        seen = {next(lines).rsplit(": ", 1)[0] for _ in range(4)}
        save(camera / "slow.png", bad=False)
        assert next(lines) == "slow.png: good\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert len(seen) == 4
    assert sorted(read_results(results)) == [
        ("broken.png", "error"),
        ("deep.png", "error"),
        ("folder, of odd 'names' ü/a \"part\".png", "good"),
        ("slow.png", "bad"),
        ("slow.png", "good"),
    ]


def load_watcher() -> Any:
    specification = spec_from_file_location("watch_folder", EXAMPLES / "watch_folder.py")
    assert specification is not None
    assert specification.loader is not None
    module = module_from_spec(specification)
    sys.modules["watch_folder"] = module
    specification.loader.exec_module(module)
    return module


def test_a_full_queue_holds_the_watcher_back(camera: Path) -> None:
    module = load_watcher()
    for number in range(6):
        save(camera / f"{number}.png", bad=False)
        os.utime(camera / f"{number}.png", (number, 9 - number))
    waiting: queue.Queue[Any] = queue.Queue(2)
    stop = threading.Event()
    watcher = module.Watcher(camera, set().__contains__, waiting, stop, settle=0, poll=0.01)
    watcher.start()
    deadline = time.monotonic() + PATIENCE
    while waiting.qsize() < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert waiting.qsize() == len(watcher.passed_on) == 2
    names = [waiting.get(timeout=PATIENCE)[0].name for _ in range(6)]
    assert names == [f"{number}.png" for number in (5, 4, 3, 2, 1, 0)]  # oldest first
    stop.set()
    watcher.join(PATIENCE)
    assert not watcher.is_alive()
    assert watcher.failure is None


def test_folders_may_be_taken_away_while_the_watcher_looks(camera: Path) -> None:
    module = load_watcher()
    watcher = module.Watcher(camera, set().__contains__, queue.Queue(9), threading.Event(), settle=0, poll=0.01)
    (camera / "gone").mkdir()
    save(camera / "gone" / "0.png", bad=False)
    save(camera / "1.png", bad=False)
    found = [*watcher.files()]
    shutil.rmtree(camera / "gone")
    assert [bool(watcher.key(path)) for path in sorted(found)] == [True, False]
    assert [*watcher.files()] == [camera / "1.png"]


def test_all_that_other_commands_read_is_judged(
    camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load_watcher()
    (tmp_path / "elsewhere").mkdir()
    (camera / "linked").symlink_to(tmp_path / "elsewhere")
    names = [f"0{suffix}" for suffix in EXTENSIONS] + ["linked/1.PGM"]
    for name in names:
        Image.fromarray(picture()).convert("L").save(camera / name)
    for name in ("a.txt", "b.txt", "ä.gif", "._0.png", ".hidden"):
        (camera / name).touch()
    waiting: queue.Queue[Any] = queue.Queue(99)
    watcher = module.Watcher(camera, set().__contains__, waiting, threading.Event(), settle=0, poll=0.01)
    for _ in range(2):
        watcher.look()
    found = [waiting.get() for _ in range(waiting.qsize())]
    assert sorted(key.name for key, _ in found) == sorted(names)
    assert all(isinstance(image, np.ndarray) for _, image in found)
    lines = sorted(capsys.readouterr().err.splitlines())  # "a" or "b" comes first
    assert [line[1:] for line in lines] == [
        f"{suffix}: skipped, like all '{suffix}' files" for suffix in (".txt", ".gif")
    ]


HEADER = "name,size,changed,verdict,score,boxes,seconds,message\n"


@pytest.mark.parametrize(
    "text",
    [
        "part,station\n7,b",
        "part,station",
        HEADER + "0.png,99,1.79602E+18,good,0.1,,0.2,\n",
        HEADER + "\n",
        HEADER + "ü\n",
        "CREATE TABLE results (part, station)",
        "CREATE TABLE results (name, size, changed)",
    ],
)
def test_another_table_is_not_appended_to(
    export: Path, camera: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Nor one that a spreadsheet changed."""
    module = load_watcher()
    path = camera.parent / ("parts.sqlite" if text.startswith("CREATE") else "parts.csv")
    if text.startswith("CREATE"):
        with closing(sqlite3.connect(path)) as base:
            base.execute(text)
    else:
        path.write_text(text, encoding="latin-1")
    monkeypatch.setattr(sys, "argv", ["watch_folder.py", str(export), str(camera), str(path)])
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(module, "Watcher", None)  # not to be reached
    with pytest.raises(SystemExit):
        module.main()
    assert re.search(r"error: Expected results of this program.* in .*parts\.\w+, got another", capsys.readouterr().err)
    if path.suffix == ".csv":
        assert path.read_text(encoding="latin-1") == text


def test_a_line_that_a_power_cut_left_unfinished_is_removed(tmp_path: Path) -> None:
    module = load_watcher()
    path = tmp_path / "results.csv"
    row = module.Row("ä, b.png", 9, 8, "good", 0.1, "", 0.2, "")
    with closing(module.CsvResults(path)) as results:
        results.add(row)
    whole = path.read_bytes()
    path.write_bytes(whole + "ü".encode()[:1])
    with closing(module.CsvResults(path)) as results:
        assert results.done == {module.Key("ä, b.png", 9, 8)}
    assert path.read_bytes() == whole


def looking(module: Any, camera: Path) -> tuple[Any, queue.Queue[Any]]:
    """A watcher that looks when told to."""
    waiting: queue.Queue[Any] = queue.Queue(99)
    return module.Watcher(camera, set().__contains__, waiting, threading.Event(), settle=0, poll=0.01), waiting


def test_what_may_not_be_read_yet_is_tried_again(
    camera: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, closed = load_watcher(), True
    (camera / "shut").mkdir()
    for name in ("0.png", "1.png", "shut/2.png"):
        save(camera / name, bad=False)
    read, scan, clock = builtins.open, os.scandir, [0.0]

    def opened(path: Any, *args: Any) -> Any:
        if closed and str(path).endswith("1.png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, *args)

    def scanned(path: Any) -> Any:
        if closed and str(path).endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(os, "scandir", scanned)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    watcher, waiting = looking(module, camera)
    for _ in range(3):
        watcher.look()
        clock[0] += 1
    assert [waiting.get()[0].name for _ in range(waiting.qsize())] == ["0.png"]
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"{name}: cannot be read yet (Permission denied), trying again" for name in ("1.png", "shut")
    ]
    clock[0] += module.AGAIN
    watcher.look()
    key, found = waiting.get_nowait()
    assert key.name == "1.png"
    assert "PermissionError" in str(found)
    closed = False
    watcher.look()
    key, found = waiting.get_nowait()
    assert key.name == "shut/2.png"
    assert isinstance(found, np.ndarray)
    assert not capsys.readouterr().err
    closed = True
    watcher.look()
    assert capsys.readouterr().err == "shut: cannot be read yet (Permission denied), trying again\n"
    assert waiting.empty()


def test_a_picture_that_can_be_read_again_is_judged(camera: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_watcher()
    save(camera / "0.png", bad=False)
    watcher, waiting = looking(module, camera)

    def refuse(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as context:
        context.setattr(module, "read_picture", refuse)
        watcher.look()
    watcher.look()
    _, found = waiting.get_nowait()
    assert isinstance(found, np.ndarray)
    assert waiting.empty()


def test_links_that_lead_nowhere_and_pipes_are_named_once(camera: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = load_watcher()
    (camera / "loop.png").symlink_to("loop.png")
    (camera / "dangling.png").symlink_to("nothing.png")
    os.mkfifo(camera / "pipe.png")
    save(camera / "part.png", bad=False)
    watcher, waiting = looking(module, camera)
    for _ in range(2):
        watcher.look()
    assert [waiting.get()[0].name for _ in range(waiting.qsize())] == ["part.png"]
    lines = sorted(capsys.readouterr().err.splitlines())
    assert [line.split(":")[0] for line in lines] == ["dangling.png", "loop.png", "pipe.png"]
    assert lines[2] == "pipe.png: cannot be read yet (not a regular file), trying again"
    (camera / "dangling.png").unlink()
    save(camera / "dangling.png", bad=True)
    watcher.look()
    assert waiting.get_nowait()[0].name == "dangling.png"


@pytest.mark.parametrize("suffix", [".csv", ".sqlite"])
def test_a_folder_that_vanishes_ends_the_watcher(export: Path, camera: Path, tmp_path: Path, suffix: str) -> None:
    """A service manager starts it again."""
    save(camera / "part.png", bad=False)
    results = tmp_path / f"results{suffix}"
    with start(export, camera, results, stderr=subprocess.PIPE) as process:
        assert next(lines_of(process)) == "part.png: good\n"
        camera.rename(tmp_path / "elsewhere")
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert error.startswith(f"Expected the folder {camera} to stay mounted, got [Errno 2]")
    assert error.count("\n") == 1
    assert read_results(results) == [("part.png", "good")]


def test_another_disk_in_the_folders_place_ends_the_watcher(camera: Path) -> None:
    """As where a share was unmounted, whose empty mount point would be watched for ever."""
    watcher, _ = looking(load_watcher(), camera)
    watcher.look()
    watcher.device += 1
    with pytest.raises(OSError, match="to stay mounted, got another disk in its place"):
        watcher.look()


@pytest.mark.parametrize("suffix", [".csv", ".sqlite"])
def test_memory_is_of_files_in_the_folder_alone(camera: Path, tmp_path: Path, suffix: str) -> None:
    module = load_watcher()
    kind = module.CsvResults if suffix == ".csv" else module.SqliteResults
    for number in range(9):
        save(camera / f"{number}.png", bad=False)
    for run in range(2):
        with closing(kind(tmp_path / f"results{suffix}")) as results:
            waiting: queue.Queue[Any] = queue.Queue(99)
            asked: list[Any] = []
            watcher = module.Watcher(
                camera,
                lambda key, asked=asked, results=results: asked.append(key) or results.has(key),
                waiting,
                threading.Event(),
                0,
                0.01,
            )
            watcher.look()
            assert waiting.qsize() == (0 if run else 9)
            while not waiting.empty():
                key, _ = waiting.get()
                results.add(module.Row(*key, "good", 0.1, "", 0.2, ""))
                watcher.passed_on.discard(key)
            asked.clear()
            watcher.look()
            assert not asked  # what is in the folder and known costs no question
            assert waiting.empty()
            (camera / "0.png").rename(tmp_path / "0.png")
            watcher.look()
            assert (len(watcher.seen), len(watcher.passed_on), len(watcher.since)) == (8, 0, 0)
            (tmp_path / "0.png").rename(camera / "0.png")  # came back: looked up
            watcher.look()
            assert waiting.empty()


def test_a_name_is_no_formula_in_a_table(export: Path, camera: Path, tmp_path: Path) -> None:
    names = ["=1+1.png", "+2.png", "-3.png", "@4.png", "5.png"]
    for name in names:
        save(camera / name, bad=False)
    results = tmp_path / "results.csv"
    for _ in range(2):  # the second start knows them
        with start(export, camera, results) as process:
            for _ in names if not results.exists() else ():
                next(lines_of(process))
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
    rows = [name for name, _ in read_results(results)]
    assert sorted(rows) == sorted([*(f"./{name}" for name in names[:4]), "5.png"])
    assert all((camera / name).is_file() for name in rows)


@pytest.mark.slow
def test_cpp_agrees(export: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a C++ compiler")
    if not get_cmake_path():
        pytest.skip("the installed OpenVINO has no C++ headers")
    build = tmp_path / "build"
    configured = ["cmake", "-S", EXAMPLES / "cpp", "-B", build, f"-DOpenVINO_DIR={get_cmake_path()}"]
    for command in (configured, ["cmake", "--build", build]):
        found = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        assert found.returncode == 0, found.stdout + found.stderr
    Image.fromarray(picture(spot=SPOT)).save(tmp_path / "bad.ppm")
    Image.fromarray(picture(30, 30)).save(tmp_path / "good.ppm")

    def predict(model: Path, *names: str) -> subprocess.CompletedProcess[str]:
        command = [build / "predict", model, *(tmp_path / name for name in names)]
        return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603

    found = predict(export, "bad.ppm", "good.ppm")
    assert found.returncode == 0, found.stderr
    for line, raw in zip(found.stdout.splitlines(), (1.0, 0.2), strict=True):
        name, verdict, score = line.replace(", score", ":").split(": ")
        assert verdict == Path(name).stem
        assert float(score) == pytest.approx(METADATA.image.scaled(raw), rel=1e-4)
    (tmp_path / "cut.ppm").write_bytes((tmp_path / "bad.ppm").read_bytes()[:-1])
    for model, name, message in (
        (export, "cut.ppm", "Expected a whole PPM file"),
        (write_export(tmp_path, smallest_area=3), "bad.ppm", "Expected a model without region and smallest area"),
    ):
        refused = predict(model, name)
        assert refused.returncode == 1
        assert message in refused.stderr
