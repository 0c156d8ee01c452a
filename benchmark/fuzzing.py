# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Odd images, folders, arrays and arguments, drawn by hypothesis and put to the doors where a user's input comes in.

Nothing stops at the first fault: each kind of it is listed once, with the shortest input that showed it. A door answers
an input with a clear sentence, handles it, raises a raw error, or is wrong in silence.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import hypothesis
import numpy as np
from anomalib.deploy import ExportType
from hypothesis import strategies as st
from PIL import Image, ImageOps

from anomalib_mkd.check import check_folder
from anomalib_mkd.data import Parts
from anomalib_mkd.deploy import Inferencer
from benchmark.battery import SUBJECTS, fit, make_engine

logger = logging.getLogger(__name__)

Answer = Literal["clear", "handled", "raw", "wrong"]
WORDS: dict[Answer, str] = {
    "clear": "clear sentence",
    "handled": "handled",
    "raw": "raw error",
    "wrong": "wrong in silence",
}
CLEAR = (ValueError, TypeError, OSError)
"""An error of these kinds is clear if it says what was expected, and what it got."""
EXAMPLES = 25
"""Inputs between two looks at the clock."""
OURS = ("MixedDistillation", "Dcam", "Mkd", "Mmrd")


class WrongError(Exception):
    """An answer that contradicts the input, without a word."""


class RejectedError(Exception):
    """An input that cannot be made, such as a JPEG of 16 bits."""


@dataclass
class Found:
    """What one door answered.

    Args:
        counts: How often it gave each kind of answer.
        kinds: Of what is raw or wrong: its text without numbers, to the shortest input, the text and the count.
    """

    counts: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def add(self, answer: Answer, given: object, text: str) -> None:
        """Count an answer."""
        self.counts[answer] += 1
        if answer in {"raw", "wrong"}:
            key, shown = f"{answer}: {re.sub(r'[0-9][0-9.e+-]*', '#', text)}", repr(given)
            before, said, times = self.kinds.get(key, (shown, text, 0))
            self.kinds[key] = (shown, text, times + 1) if len(shown) < len(before) else (before, said, times + 1)


Door: TypeAlias = "Callable[[Any], None]"


def judge(door: Door, given: Any, found: Found) -> None:
    """Put an input to a door, and note the answer."""
    try:
        door(given)
    except RejectedError:
        hypothesis.reject()
    except WrongError as error:
        found.add("wrong", given, str(error))
    except Exception as error:  # noqa: BLE001  # every error is an answer
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        is_clear = isinstance(error, CLEAR) and "Expected" in str(error) and "got" in str(error)
        found.add("clear" if is_clear else "raw", given, text)
    else:
        found.add("handled", given, "")


def explore(door: Door, inputs: st.SearchStrategy[Any], *, seed: int, seconds: float) -> Found:
    """Put inputs to a door until the time is over.

    Args:
        door: Raises an error, or returns if all is well.
        inputs: What it is given.
        seed: Of the inputs.
        seconds: Time.
    """
    found, end, turn = Found(), time.monotonic() + seconds, 0
    while time.monotonic() < end:

        @hypothesis.seed(1_000_000 * seed + turn)
        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(inputs)
        def put(given: Any) -> None:
            judge(door, given, found)

        put()
        turn += 1
    return found


# --------------------------------------------------------------------------------------------------- images and folders

PLACES = ("train/good", "test/good", "test/dent", "ground_truth/dent")
SUFFIXES = (".png", ".jpg", ".JPG", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".gif", ".txt")
MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "YCbCr", "I;16", "I", "F")
NAMES = ("0", "x y", "._0", "\u00e4\u6587", "a.b", ".hidden", "-n", "x" * 200, "0_mask")
DAMAGES = ("none", "none", "none", "cut", "flipped", "empty", "text", "folder", "link")


@dataclass(frozen=True)
class Drawn:
    """A file in a folder of parts that is otherwise in order."""

    place: str
    name: str
    suffix: str
    mode: str
    size: tuple[int, int]
    orientation: int
    damage: str
    at: float

    def write(self, root: Path) -> Path:
        """Write the file below a folder."""
        path = root / self.place / (self.name + self.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        special: dict[str, Callable[[], Any]] = {
            "folder": path.mkdir,
            "link": lambda: path.symlink_to(root / "nowhere.png"),
            "empty": path.touch,
            "text": lambda: path.write_text("no image", encoding="utf-8"),
        }
        if self.damage in special:
            path.unlink(missing_ok=True)
            special[self.damage]()
            return path
        exif = Image.Exif()
        exif[0x0112] = self.orientation
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind = {"exif": exif} if self.orientation > 1 else {}
                noise(self.mode, self.size).save(path, format=None if self.suffix != ".txt" else "PNG", **kind)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise RejectedError from error
        data = bytearray(path.read_bytes())
        place = int(self.at * len(data))
        if self.damage == "cut":
            path.write_bytes(data[:place])
        elif self.damage == "flipped":
            data[min(place, len(data) - 1)] ^= 0xFF
            path.write_bytes(data)
        return path


def noise(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Draw noise of a size (width, height) that differs from corner to corner."""
    width, height = size
    base = np.random.default_rng(seed).random((height, width, 3)) * np.linspace(0.2, 1, height)[:, None, None]
    if mode == "I;16":
        return Image.fromarray((base[..., 0] * 65535).astype(np.uint16))
    if mode in {"I", "F"}:
        return Image.fromarray((base[..., 0] * 255).astype(np.int32 if mode == "I" else np.float32))
    return Image.fromarray((base * 255).astype(np.uint8)).convert(mode)


drawn = st.builds(
    Drawn,
    place=st.sampled_from(PLACES),
    name=st.sampled_from(NAMES),
    suffix=st.sampled_from(SUFFIXES),
    mode=st.sampled_from(MODES),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    orientation=st.integers(1, 8),
    damage=st.sampled_from(DAMAGES),
    at=st.floats(0, 1),
)


@contextmanager
def folder_with(picture: Drawn) -> Iterator[tuple[Path, Path]]:
    """Make a folder of sound parts and one drawn file; yield both."""
    with tempfile.TemporaryDirectory(prefix="fuzz_") as work:
        root = Path(work) / "part"
        for place, count in {"train/good": 6, "test/good": 2, "test/dent": 1}.items():
            (root / place).mkdir(parents=True)
            for number in range(count):
                noise("RGB", (64, 64), len(place) + number).save(root / place / f"{number}.png")
        (root / "ground_truth/dent").mkdir(parents=True)
        mask = np.zeros((64, 64), np.uint8)
        mask[9:20, 9:30] = 255
        Image.fromarray(mask).save(root / "ground_truth/dent/0.png")
        yield root, picture.write(root)


def reference(path: Path) -> Any:
    """Read an image upright, as floats ``(3, H, W)`` in 0..1; None if nobody can, or its range is not known."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                return np.repeat(np.asarray(image, np.float32)[None] / 65535, 3, axis=0)
            return (
                None
                if image.mode in {"I", "F"}
                else np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            )
    except Exception:  # noqa: BLE001  # whatever a reader raises
        return None


def is_picture(path: Path) -> bool:
    """Return whether a training would take a file for an image."""
    return path.suffix.lower() in SUFFIXES[:-2] and not path.name.startswith(".") and not path.is_dir()


def check_door(picture: Drawn) -> None:
    """Check the folder: what cannot be read, or not as it is meant, is named."""
    with folder_with(picture) as (root, path):
        check = check_folder(root)
        named = any(path.name[:40] in file for finding in check.findings for file in (*finding.files, finding.text))
        if is_picture(path) and reference(path) is None and not named and picture.place != "ground_truth/dent":
            raise WrongError(f"check_folder says nothing about {why(picture)}")  # noqa: EM102, TRY003


def why(picture: Drawn) -> str:
    """Name what is odd about a file."""
    return f"damage {picture.damage}" if picture.damage != "none" else f"mode {picture.mode}"


class Said(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())

    def about(self, path: Path, word: str = "") -> bool:
        """Return whether a message names a file, and holds a word."""
        name = f"{path.parent.name}/{path.name}"[:40]
        return any(name in message and word in message for message in self.messages)


def parts_door(picture: Drawn) -> None:
    """Read every image and mask through ``Parts``, and compare with what Pillow reads."""
    said, log = Said(), logging.getLogger("anomalib_mkd")
    log.addHandler(said)
    try:
        with folder_with(picture) as (root, path):
            data = Parts(root, num_workers=0)
            data.setup()
            items = [item for each in (data.train_data, data.val_data, data.test_data) for item in each]  # type: ignore[attr-defined]
            for item in items:
                compare(item, Path(item.image_path), said)
            read = {Path(item.image_path) for item in items}
            taken = picture.place == "ground_truth/dent" or path in read or not is_picture(path)
            if not taken and not said.about(path):
                raise WrongError(f"Parts leaves out an image of {why(picture)}")  # noqa: EM102, TRY003
    finally:
        log.removeHandler(said)


def compare(item: Any, path: Path, said: Said) -> None:
    """Compare an item with its file, unless a warning says what is odd about it."""
    image, expected = item.image.numpy(), reference(path)
    if not np.isfinite(image).all():
        raise WrongError("Parts gives an image that is not finite")  # noqa: EM101, TRY003
    if item.gt_mask is not None and tuple(item.gt_mask.shape[-2:]) != image.shape[1:] and not said.about(path, "mask"):
        raise WrongError("Parts gives a mask of another size than its image's")  # noqa: EM101, TRY003
    if said.about(path, "turned"):
        return
    with Image.open(path) as opened:
        mode, turned = opened.mode, opened.getexif().get(0x0112, 1) > 1
    if expected is None:
        raise WrongError(f"Parts gives values to an image of mode {mode}")  # noqa: EM102, TRY003
    if image.shape != expected.shape or np.abs(image - expected).max() > 2.5 / 255:
        what = "turned" if turned else f"of mode {mode}"
        raise WrongError(f"Parts gives other values to an image {what}, {path.suffix.lower()}")  # noqa: EM102, TRY003


# ----------------------------------------------------------------------------------------------------------- inferencer

TYPES = (
    "uint8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    ">f4",
    "bool",
    "complex64",
    "object",
)
FORMS = ("HWC", "CHW", "HW", "HW1", "1HWC", "HWCC", "flat", "list", "BGRA", "strided", "frozen", "PIL")
SPOILS = ("none", "none", "nan", "inf", "negative", "above", "of 255", "no height", "1 pixel")


@dataclass(frozen=True)
class Array:
    """An image as an array."""

    dtype: str
    form: str
    spoilt: str
    size: tuple[int, int]

    def base(self) -> Any:
        """Return the image that it stands for, ``(H, W, 3)`` in 0..1."""
        height, width = {"no height": (0, 9), "1 pixel": (1, 1)}.get(self.spoilt, self.size)
        picture = np.random.default_rng(height).random((height, width, 3)) * 0.3
        picture[height // 3 : height // 2, : width // 2] = 0.9
        return picture if self.form not in {"HW", "HW1"} else np.repeat(picture[..., :1], 3, axis=2)

    def build(self) -> Any:
        """Build the array."""
        picture = self.base()
        kind = np.dtype(self.dtype)
        if self.spoilt == "of 255":
            picture = picture * 255
        elif kind.kind in "iu":
            picture = picture * {"uint8": 255, "uint16": 65535}.get(self.dtype, 255)
        array = np.round(picture).astype(kind) if kind.kind in "iu" else picture.astype(kind)
        bad = {"nan": math.nan, "inf": math.inf, "negative": -1, "above": 3}.get(self.spoilt)
        if bad is not None:
            if kind.kind not in "fcO":
                raise RejectedError
            array[0, 0] = bad
        return self.shaped(array)

    def shaped(self, array: Any) -> Any:
        """Bring an array ``(H, W, 3)`` into the form."""
        if self.form == "PIL":
            if self.dtype != "uint8" or not array.size:
                raise RejectedError
            return Image.fromarray(array)
        if self.form == "frozen":
            array.flags.writeable = False
        if self.form == "strided":
            array = np.repeat(array, 2, axis=0)[::2]
        make: dict[str, Callable[[Any], Any]] = {
            "CHW": lambda a: a.transpose(2, 0, 1),
            "HW": lambda a: a[..., 0],
            "HW1": lambda a: a[..., :1],
            "1HWC": lambda a: a[None],
            "HWCC": lambda a: np.concatenate([a, a], axis=2),
            "BGRA": lambda a: np.concatenate([a, a[..., :1]], axis=2),
            "flat": lambda a: a.ravel(),
            "list": lambda a: a.tolist(),
        }
        return make.get(self.form, lambda a: a)(array)


arrays = st.builds(
    Array,
    dtype=st.sampled_from(TYPES),
    form=st.sampled_from(FORMS),
    spoilt=st.sampled_from(SPOILS),
    size=st.tuples(st.integers(2, 90), st.integers(5, 90)),
)


def inferencer_door(inferencer: Inferencer) -> Door:
    """Build the door of an inferencer."""

    def door(array: Array) -> None:
        given = array.build()
        if isinstance(given, list) and not given:
            raise RejectedError  # no image at all
        answer = inferencer.predict(given)
        prediction = answer[0] if isinstance(answer, list) else answer
        what = f"{array.dtype} as {array.form}, {array.spoilt}"
        if array.spoilt in {"nan", "inf", "negative", "above"} and not prediction.bad:
            raise WrongError(f"the inferencer calls an image good: {what}")  # noqa: EM102, TRY003
        if array.spoilt in {"nan", "inf", "negative", "above"}:
            return
        expected = inferencer.predict(array.base().astype(np.float32))
        if not math.isfinite(prediction.score) or abs(prediction.score - expected.score) > 0.01:
            text = f"the inferencer scores {what}: {prediction.score:.3f} instead of {expected.score:.3f}"
            raise WrongError(text)

    return door


def exported(folder: Path) -> Inferencer:
    """Train and export a tiny model, and load the export."""
    subject = SUBJECTS["MixedDistillation"]
    own = folder / "model"
    own.mkdir()
    module = subject.build()
    fit(module, own, subject.data(own, train_images=20))
    path = make_engine(own).export(module, ExportType.OPENVINO, export_root=own)
    return Inferencer(path or "")


# ------------------------------------------------------------------------------------------------------------ arguments

VALUES: tuple[Any, ...] = (
    *(None, True, False, math.nan, math.inf, -math.inf, -1, 0, 1, 3, -0.0, 0.5, 2.5, 1e-300, 1e30, 10**400),
    *(
        "a",
        "",
        "0.5",
        "sum",
        "none",
        "auto",
        "quickstart",
        "layer1",
        b"x",
        (),
        [],
        {},
        ["layer1"],
        ["layer1", "layer1"],
    ),
    *(["layer3", "layer1"], [1], ("layer2", None), {"a": 1}, Path("missing"), np.float32(0.5), np.nan, np.int64(3)),
    *(np.array([1.0]), 1j, range(2)),
)
ANOMALIBS = {"pre_processor", "post_processor", "evaluator", "visualizer"}


@dataclass(frozen=True)
class Call:
    """A model's name and arguments beyond those that keep it small."""

    model: str
    arguments: tuple[tuple[str, Any], ...]


def calls() -> st.SearchStrategy[Call]:
    """Draw models with one or two odd arguments."""

    def of(model: str) -> st.SearchStrategy[Call]:
        names = sorted(inspect.signature(SUBJECTS[model].model).parameters.keys() - ANOMALIBS)
        one = st.tuples(st.sampled_from(names), st.sampled_from(VALUES))
        return st.builds(
            Call, st.just(model), st.lists(one, min_size=1, max_size=2, unique_by=lambda p: p[0]).map(tuple)
        )

    return st.sampled_from(OURS).flatmap(of)


def fits(value: Any, annotation: Any) -> bool:
    """Return whether a value is what an annotation says, and finite if it is a number."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return any(value is part or (type(value) is type(part) and value == part) for part in parts)
    if annotation in {float, int}:
        number = isinstance(value, (int, np.integer)) or (
            annotation is float and isinstance(value, (float, np.floating))
        )
        return number and not isinstance(value, bool) and abs(value) < 1e18 and math.isfinite(value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value)
    if parts:
        return any(fits(value, part) for part in parts)
    return value is None if annotation is type(None) else isinstance(value, annotation)


def arguments_door(call: Call) -> None:
    """Construct a model, and refuse that a value of another type, or one that is not finite, is accepted."""
    subject = SUBJECTS[call.model]
    hints = get_type_hints(subject.model.__init__)
    subject.model(**{**subject.arguments, **dict(call.arguments)})
    for name, value in call.arguments:
        if not fits(value, hints[name]):
            shown = repr(value) if len(repr(value)) < 40 else f"a number of {len(repr(value))} digits"
            raise WrongError(f"{call.model} accepts {name}={shown}")  # noqa: EM102, TRY003


# ----------------------------------------------------------------------------------------------------------- the report


def fuzz_doors(file: Path, *, seed: int, minutes: float, source: str) -> dict[str, Found]:
    """Explore every door, and append what was found to a file.

    Args:
        file: Markdown.
        seed: Of the inputs.
        minutes: Time for all doors together.
        source: Commit of the code.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz_") as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doors: dict[str, tuple[Door, st.SearchStrategy[Any]]] = {
            "check_folder": (check_door, drawn),
            "Parts": (parts_door, drawn),
            "Inferencer": (inferencer_door(exported(Path(work))), arrays),
            "arguments": (arguments_door, calls()),
        }
        found = {
            name: explore(door, inputs, seed=seed, seconds=60 * minutes / len(doors))
            for name, (door, inputs) in doors.items()
        }
    with file.open("a", encoding="utf-8") as stream:
        stream.write(described(found, f"Seed {seed}, {minutes:g} minutes, commit {source}"))
    return found


def described(found: dict[str, Found], title: str) -> str:
    """Describe what was found as a section of a Markdown page."""
    lines = ["", f"## {title}", "", f"| Door | Inputs | {' | '.join(WORDS.values())} |", "| --- |" + " ---: |" * 5]
    for name, own in found.items():
        cells = (own.counts.total(), *(own.counts[answer] for answer in WORDS))
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    for name, own in found.items():
        for key, (given, text, times) in sorted(own.kinds.items()):
            answer = WORDS[key.partition(":")[0]]  # type: ignore[index]
            shown = (text.replace("`", "'"), (given if len(given) < 300 else given[:300] + "...").replace("`", "'"))
            lines.append(
                ("\n" if lines[-1].startswith("|") else "") + f"- {name}, {answer} ({times}): `{shown[0]}` `{shown[1]}`"
            )
    return "\n".join(lines) + "\n"
