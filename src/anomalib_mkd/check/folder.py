# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What stops or spoils a training on a folder."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anomalib_mkd.check.configuration import masks_in_order
from anomalib_mkd.check.images import Facts, exact_copies, mask_fault, near_copies, read_all
from anomalib_mkd.check.layout import GOOD, GOOD_WORDS, Layout, Role, find_layout
from anomalib_mkd.check.words import count, listed, shown
from anomalib_mkd.pictures import EXTENSIONS
from anomalib_mkd.thresholds import LEAST_GOOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ENOUGH_GOOD = 20  # with fewer, the threshold hangs on three images
LARGE = 1024  # four times the side that models see by default
MODEL_SIDE = 256

#: Roles of images, and what for.
IMAGES: dict[Role, str] = {
    "train": "good, training",
    "validation": "good, threshold",
    "test": "good, test",
    "bad": "bad, test",
}

Level = Literal["problem", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: ``problem`` stops or spoils a training, ``warning`` may do so, ``note`` is good to know.
        text: What was found; without a remedy a sentence, otherwise what an error says was got.
        remedy: What to do about it, a sentence.
        files: The files concerned, relative to the folder, with what is wrong with each.
    """

    level: Level
    text: str
    remedy: str = ""
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say what was found, with the first files."""
        return f"{self.text} ({listed(self.files)})" if self.files else self.text


@dataclass(frozen=True)
class Check:
    """What a folder is, and what was found in it.

    Attributes:
        layout: Its layout.
        facts: What each of its images and masks is.
        findings: What was found.
    """

    layout: Layout
    facts: dict[Path, Facts] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of a level."""
        return [finding for finding in self.findings if finding.level == level]

    def require(self) -> list[str]:
        """Return the warnings, a sentence each.

        Raises:
            ValueError: If there is a problem; the error names the first.
        """
        root = shown(self.layout.root)
        for finding in self.of("problem"):
            msg = f"Expected a folder of parts to train on, got {finding} in '{root}'. {finding.remedy}"
            raise ValueError(msg)
        return [f"{root}: {finding}. {finding.remedy}" for finding in self.of("warning")]


def check_folder(
    root: Path | str,
    *,
    decode: bool = True,
    track: Callable[[Iterable[Facts], int], Iterable[Facts]] = lambda facts, _: facts,
) -> Check:
    """Check a folder of parts.

    Args:
        root: The folder.
        decode: Whether to decode the images. Without, truncated files, copies and odd masks stay unknown.
        track: Passes the facts on and shows how far it is; its second argument is the number of files.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    layout = find_layout(Path(root))
    files = layout.images(*IMAGES, "mask")
    facts = {each.path: each for each in track(read_all(files, decode=decode), len(files))}
    check = Check(layout, facts)
    findings = [*_layout(check), *_files(check), *_numbers(check), *_likeness(check), *_masks(check, decode=decode)]
    findings += _copies(check) if decode else ()
    return Check(layout, facts, tuple(findings))


def check_layout(root: Path) -> list[str]:
    """Check a folder before a first run, which needs MVTec AD's layout with good and bad parts to test on.

    Returns:
        Warnings, a sentence each.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it cannot be trained and tested on.
    """
    check = check_folder(root)
    warnings = check.require()
    layout = check.layout
    needed: dict[str, Role] = {"train/good": "train", "test/good": "test", "test/<defect>": "bad"}
    missing = [name for name, role in needed.items() if layout.kind != "parts" or not layout.images(role)]
    if missing:
        msg = (
            f"Expected images in {', '.join(needed)} of '{root}', got none in {', '.join(missing)}. Put some there; "
            f"'python -m anomalib_mkd check {root}' says what is there."
        )
        raise ValueError(msg)
    return warnings


# --- what is there ---------------------------------------------------------------------------------------------------


def _layout(check: Check) -> Iterator[Finding]:
    layout = check.layout
    if layout.kind == "categories":
        names = [f"'{shown(name)}'" for name in layout.categories]
        one = shown(layout.root / layout.categories[0])
        remedy = (
            f"Check one of them, such as '{one}'. To train one model on all, 'python -m anomalib_mkd check' writes a "
            "configuration with --write-config FILE; compare takes it as --data FILE."
        )
        yield Finding("problem", f"{count(names, 'folder')} of parts, {listed(names)}, instead of one", remedy)
    elif layout.kind == "nothing":
        yield Finding("problem", "no folder of good parts", f"Put images of good parts into train/{GOOD}.")
    for group in layout.of("bad") if layout.kind == "parts" else ():
        if (name := Path(group.name).name).lower() in GOOD_WORDS:
            remedy = f"Rename it to test/{GOOD}, or, if these parts are bad, to the name of a defect."
            yield Finding("problem", f"'test/{shown(name)}' counts as a defect", remedy)
    yield from _unlike_folder(check) if layout.kind == "folders" else ()
    written = layout.root.resolve() if layout.kind == "depth" else layout.root  # into a configuration
    if layout.kind in {"parts", "depth"} and str(written).encode("utf-8", "replace").decode() != str(written):
        yield Finding("problem", f"the name '{shown(written)}', which is not UTF-8", "Rename the folder.")
    for group in layout.of(*IMAGES):
        if not group.images:
            yield Finding("warning", f"no image in '{shown(group.name)}'", "Put images there or remove the folder.")
    has_depth = layout.kind == "parts" and (layout.root / "depth" / "train" / GOOD).is_dir()
    if has_depth:
        yield Finding("note", "The depth in 'depth' is not for Parts: train Mmrd on DepthFolder with layout: folder.")
    for group in layout.of("left out"):
        if has_depth and group.name.startswith("depth/"):
            continue
        text = f"{count(group.images, 'image')} in '{shown(group.name)}' that nothing reads"
        places = f"train/{GOOD}, test/{GOOD} or test/<defect>" if layout.kind == "parts" else "folders good and bad"
        yield Finding("warning", text, f"What is to be used belongs into {places}.")


def _unlike_folder(check: Check) -> Iterator[Finding]:
    """What anomalib's ``Folder`` refuses, or reads otherwise: all below a folder, but not what is linked there."""
    layout = check.layout
    roles: list[Role] = [*IMAGES, "mask"] if masks_in_order(layout) else [*IMAGES]
    refused, linked, beyond = [], [], []
    for group in layout.of(*roles):
        home = layout.root / group.name
        if not re.fullmatch("[ -~]+", place := str(home.resolve())):
            refused.append(shown(place))
        theirs = {path for path in home.glob("**/*") if path.suffix.lower() in EXTENSIONS and not path.is_dir()}
        linked += [_named(check, path) for path in group.images if path not in theirs]
        beyond += [_named(check, path) for path in sorted(theirs.difference(group.images, group.hidden))]
    places = f"sort the images into train/{GOOD}, test/{GOOD} and test/<defect>, which the datamodule Parts reads"
    if refused:
        text = f"{count(refused, 'folder')} with other letters than those of ASCII, which anomalib's Folder refuses"
        yield Finding("problem", text, f"Rename, or {places}.", (*refused,))
    if linked:
        text = f"{count(linked, 'image')} in linked folders, into which anomalib's Folder does not look"
        yield Finding("problem", text, f"Replace the links by what they link to, or {places}.", (*linked,))
    if beyond:
        text = f"{count(beyond, 'image')} in folders within those of parts, which anomalib's Folder would read, too"
        yield Finding("problem", text, f"Move them out, or {places}.", (*beyond,))


def _files(check: Check) -> Iterator[Finding]:
    layout, facts = check.layout, check.facts.values()
    faulty = [_named(check, each.path, each.fault) for each in facts if each.fault]
    if faulty:
        yield Finding(
            "problem", f"{count(faulty, 'file')} that cannot be read", "Replace or remove what is damaged.", (*faulty,)
        )
    masks = [check.facts[path] for path in layout.images("mask")]  # of any depth in grey
    deep = [_named(check, each.path, each.depth) for each in _images(check) if each.depth]
    deep += [_named(check, each.path, each.depth) for each in masks if each.dropped]
    if deep:
        remedy = "Save 8 bits per channel, all scaled alike: other bits would be lost."
        yield Finding("problem", f"{count(deep, 'image')} of more than 8 bits", remedy, (*deep,))
    several = [_named(check, each.path, f"{each.pages} pages") for each in facts if each.pages > 1]
    if several:
        remedy = "Save each page as a file of its own: the others would not be read."
        yield Finding("problem", f"{count(several, 'image')} of several pages", remedy, (*several,))
    hidden = [_named(check, path) for group in layout.groups for path in group.hidden if not _is_clutter(path)]
    if hidden and layout.kind == "folders":
        remedy = "Remove such files: anomalib's Folder reads them as images."
        yield Finding("problem", f"{count(hidden, 'hidden file')}", remedy, (*hidden,))
    elif hidden:
        yield Finding("note", f"{count(hidden, 'hidden file')} ignored.", files=(*hidden,))
    foreign = [_named(check, path) for group in layout.groups for path in group.foreign]
    if foreign:
        remedy = "Convert to PNG, for example; what is not read is left out."
        yield Finding("warning", f"{count(foreign, 'image')} of a format that is not read", remedy, (*foreign,))
    others = [_named(check, path) for group in layout.groups for path in group.others]
    if others:
        yield Finding(
            "note", f"{count(others, 'file')} ignored, as the names are not those of images.", files=(*others,)
        )
    turned = [_named(check, each.path) for each in _images(check) if each.turned]
    if turned and layout.kind == "parts":
        yield Finding("note", f"{count(turned, 'image')} turned by EXIF data, and read upright.", files=(*turned,))
    elif turned and layout.kind == "depth":
        remedy = "Save it upright: nothing says whether its depth is turned as well."
        yield Finding("problem", f"{count(turned, 'image')} turned by EXIF data", remedy, (*turned,))
    elif turned:
        remedy = "anomalib's Folder ignores that and sees the part lying; save it upright."
        yield Finding("warning", f"{count(turned, 'image')} turned by EXIF data alone", remedy, (*turned,))


def _numbers(check: Check) -> Iterator[Finding]:
    layout = check.layout
    train, test, bad = (layout.images(role) for role in ("train", "test", "bad"))
    where = listed([f"'{shown(group.name)}'" for group in layout.of("train")])
    if layout.kind in {"categories", "nothing"}:
        return
    if len(train) < LEAST_GOOD:
        text = f"{count(train, 'image')} of good parts in {where}"
        yield Finding("problem", text, f"Add some: {LEAST_GOOD} are the least, and {ENOUGH_GOOD} or more train well.")
    elif len(train) < ENOUGH_GOOD:
        text = f"only {count(train, 'image')} of good parts in {where}"
        yield Finding("warning", text, f"Take {ENOUGH_GOOD} or more: one in five sets the threshold.")
    if not test:
        yield Finding("note", "No good parts to test on: one in five training images is held out for the test instead.")
    if not bad:
        yield Finding("note", "No bad parts: training works, but the test cannot say how many are caught.")
    elif not layout.of("mask"):
        yield Finding("note", "No masks: the test compares images, not pixels.")


# --- whether it goes together ----------------------------------------------------------------------------------------


def _likeness(check: Check) -> Iterator[Finding]:
    images = [each for each in _images(check) if not each.fault and not each.depth]
    shapes = Counter(round(each.size[0] / each.size[1], 1) for each in images)
    if len(shapes) > 1:
        usual = shapes.most_common(1)[0][0]
        odd = [each for each in images if round(each.size[0] / each.size[1], 1) != usual]
        files = tuple(_named(check, each.path, f"{each.size[0]} x {each.size[1]}") for each in odd)
        remedy = "Models see a square, so other shapes are stretched differently; crop all alike."
        yield Finding("warning", f"{count(odd, 'image')} of another shape", remedy, files)
    colours = Counter(_is_grey(each) for each in images)
    if len(colours) > 1:
        odd = [each for each in images if _is_grey(each) is min(colours, key=colours.__getitem__)]
        files = tuple(_named(check, each.path) for each in odd)
        kinds = ("grey", "colour") if _is_grey(odd[0]) else ("colour", "grey")
        remedy = "A model may take that for a defect; use one kind of image."
        yield Finding("warning", f"{count(odd, 'image')} in {kinds[0]} where others are in {kinds[1]}", remedy, files)
    large = max((each.size for each in images), default=(0, 0), key=max)
    if max(large) > LARGE:
        across, down = (f"{side / MODEL_SIDE:.2g}" for side in large)
        text = (
            f"Models see {MODEL_SIDE} x {MODEL_SIDE} pixels by default: of {large[0]} x {large[1]}, each rectangle of "
        )
        yield Finding("note", f"{text}{across} x {down} pixels becomes one.")


def _masks(check: Check, *, decode: bool) -> Iterator[Finding]:
    layout, facts = check.layout, check.facts
    pairs = layout.mask_of
    if not pairs:
        return
    without = [_named(check, path) for path, masks in pairs.items() if not masks]
    several = [_named(check, path, f"{len(masks)} masks") for path, masks in pairs.items() if len(masks) > 1]
    used = {mask for masks in pairs.values() for mask in masks}
    unused = [_named(check, path) for path in layout.images("mask") if path not in used]
    level: Level = "warning" if layout.kind == "folders" else "problem"
    where = "ground_truth/<defect>" if layout.kind == "parts" else "its folder"
    remedy = f"Give each mask the name of its image, with or without _mask, in {where}; or remove all masks."
    if without:
        yield Finding(level, f"{count(without, 'image')} of bad parts without a mask", remedy, (*without,))
    if several:
        yield Finding(level, f"{count(several, 'image')} with several masks", remedy, (*several,))
    if unused:
        yield Finding("warning", f"{count(unused, 'mask')} without an image", remedy, (*unused,))
    couples = [(facts[path], facts[mask]) for path, masks in pairs.items() for mask in masks]
    couples = [(image, mask) for image, mask in couples if not image.fault and not mask.fault]
    unequal = [(image, mask) for image, mask in couples if mask.size != image.size]
    upright = {True: " once upright", False: ""}
    sizes = [
        _named(check, mask.path, f"{_pixels(mask)}, its image {_pixels(image)}{upright[image.turned]}")
        for image, mask in unequal
    ]
    if sizes:
        remedy = "Draw it on the image as viewers show it."
        yield Finding(level, f"{count(sizes, 'mask')} of another size than the image", remedy, (*sizes,))
    odd = []
    for image, mask in couples if decode else ():
        fault = mask_fault(mask.path) if mask.size == image.size and not mask.dropped else None
        odd += [_named(check, mask.path, fault)] if fault else []
    if odd:
        remedy = "Draw defects in white on black in the size of the image, as PNG."
        yield Finding("warning", f"{count(odd, 'odd mask')}", remedy, (*odd,))


def _copies(check: Check) -> Iterator[Finding]:
    facts = {each.path: each for each in _images(check) if each.fingerprint and not each.depth}
    role: dict[Path, Role] = {path: group.role for group in check.layout.groups for path in group.images}
    copies = exact_copies(facts.values())
    mixed = [paths for paths in copies if len({role[path] for path in paths}) > 1]
    if mixed:
        files = tuple(" = ".join(_named(check, path) for path in paths) for paths in mixed)
        remedy = "Keep each image in one place: a model knows what it was trained on, and a part is either good or bad."
        yield Finding("problem", f"{count(mixed, 'image')} in two roles at once", remedy, files)
    repeated = [paths for paths in copies if {role[path] for path in paths} == {"train"}]
    if repeated:
        files = tuple(" = ".join(_named(check, path) for path in paths) for paths in repeated)
        yield Finding("warning", f"{count(repeated, 'training image')} repeated", "Keep one of each.", files)
    known = {path for paths in mixed for path in paths}
    train = [each for path, each in facts.items() if role[path] == "train"]
    test = [each for path, each in facts.items() if role[path] in {"test", "bad"} and path not in known]
    near = near_copies(train, test)
    if near:
        files = tuple(f"{_named(check, path)} ~ {_named(check, other)}" for path, other in near)
        remedy = "If they show the same part, the test is too easy: keep all images of a part in one place."
        yield Finding("warning", f"{count(near, 'test image')} almost equal to a training image", remedy, files)


def _images(check: Check) -> list[Facts]:
    """Facts of all images but masks."""
    return [check.facts[path] for path in check.layout.images(*IMAGES)]


def _pixels(facts: Facts) -> str:
    return f"{facts.size[0]} x {facts.size[1]}"


def _is_grey(facts: Facts) -> bool:
    return facts.mode[:1] in {"L", "1", "I", "F"}


def _is_clutter(path: Path) -> bool:
    """Whether a hidden file has no image's name, such as ``.DS_Store``."""
    return path.suffix == ""


def _named(check: Check, path: Path, what: str | None = None) -> str:
    """Name a file relative to the folder, and what is wrong with it."""
    name = shown(path.relative_to(check.layout.root))
    return f"{name}: {what}" if what else name


def rows(check: Check) -> list[dict[str, str | int]]:
    """Return what is in each folder of images, one row each."""
    pairs = check.layout.mask_of
    table = []
    for group in check.layout.of(*IMAGES):
        facts = [each for path in group.images if not (each := check.facts[path]).fault]
        row: dict[str, str | int] = {
            "folder": shown(group.name),
            "images": len(group.images),
            "used as": IMAGES[group.role],
            "format": _most(each.format for each in facts),
            "size": _most(f"{each.size[0]} x {each.size[1]}" for each in facts),
            "channels": _most(_channels(each) for each in facts),
        }
        masks = sum(len(pairs.get(path, ())) == 1 for path in group.images) if group.role == "bad" else ""
        table.append({**row, "masks": masks} if pairs else row)
    return table


CHANNELS = {
    "1": "1 bit",
    "L": "grey, 8 bits",
    "LA": "grey and alpha, 8 bits",
    "P": "palette, 8 bits",
    "RGB": "colour, 8 bits",
    "RGBA": "colour and alpha, 8 bits",
    "CMYK": "CMYK, 8 bits",
    "F": "floating point",
    "I": "grey, 32 bits",
    "I;16": "grey, 16 bits",
    "I;16L": "grey, 16 bits",
    "I;16B": "grey, 16 bits",
}


def _channels(facts: Facts) -> str:
    name = CHANNELS.get(facts.mode, facts.mode)
    return name.replace("8 bits", "16 bits") if facts.dropped else name


def _most(values: Iterable[str]) -> str:
    """Name the one or two most frequent values, and how many others there are."""
    common = Counter(values).most_common()
    if len(common) < 2:
        return "".join(value for value, _ in common)
    return ", ".join(f"{value} ({number})" for value, number in common[:2]) + ", ..." * (len(common) > 2)
