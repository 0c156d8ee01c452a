# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which folders hold good parts, bad parts and masks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from anomalib_mkd.pictures import EXTENSIONS, files_below, is_named_as_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Images that have to be converted first.
FOREIGN = (".heic", ".heif", ".avif", ".gif", ".jp2", ".jxl", ".dng", ".raw", ".cr2", ".nef", ".arw", ".svg", ".exr")

GOOD = "good"
TRAIN_WORDS = {"train", "training"}
TEST_WORDS = {"test", "testing", "val", "valid", "validation"}
GOOD_WORDS = {GOOD, "ok", "io", "normal", "pass", "passed", "defect_free"}
MASK_WORDS = {"ground_truth", "groundtruth", "gt", "mask", "masks", "label", "labels"}
OUTPUTS = {"results", "compare_results", "quickstart_results"}
"""Folders that anomalib and our commands write images into when they are called in a folder of parts."""

Kind = Literal["parts", "folders", "depth", "categories", "nothing"]
Role = Literal["train", "validation", "test", "bad", "mask", "left out"]


@dataclass(frozen=True)
class Group:
    """One folder's files, subfolders included.

    Attributes:
        name: The folder relative to the root, ``"."`` for the root itself.
        role: What its images are for. All but ``bad`` and ``mask`` are good parts.
        images: Files with the name of an image.
        hidden: Those of a hidden name, such as macOS's ``._000.jpg``; no images of parts.
        foreign: Images of a format that is not read.
        others: All other files.
    """

    name: str
    role: Role
    images: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What a folder is.

    Attributes:
        root: The folder.
        kind: ``parts`` for MVTec AD's layout, which :class:`anomalib_mkd.data.Parts` reads; ``folders`` for any other
            names, which anomalib's ``Folder`` reads; ``depth`` for images with depth; ``categories`` for a folder of
            such folders; ``nothing`` if no images of good parts were recognised.
        groups: Its folders with files.
        categories: Names of the categories.
    """

    root: Path
    kind: Kind
    groups: tuple[Group, ...] = ()
    categories: tuple[str, ...] = ()

    def of(self, *roles: Role) -> tuple[Group, ...]:
        """Return the groups of a role."""
        return tuple(group for group in self.groups if group.role in roles)

    def images(self, *roles: Role) -> list[Path]:
        """Return the images of a role."""
        return [path for group in self.of(*roles) for path in group.images]

    @property
    def mask_of(self) -> dict[Path, list[Path]]:
        """Pair each image of a bad part with the masks of its name; empty without masks.

        A mask has the name of its image, with or without ``_mask``, and lies in the folder of its defect. Outside MVTec
        AD's layout, where no such folders are agreed on, any folder of masks will do.
        """
        masks = defaultdict(list)
        for group in self.of("mask"):
            for path in group.images:
                masks[self._key(group, path)].append(path)
        bad = [(group, path) for group in self.of("bad") for path in group.images] if masks else []
        return {path: masks.get(self._key(group, path), []) for group, path in bad}

    def _key(self, group: Group, path: Path) -> tuple[str, str]:
        """Kind of defect and name, by which an image and its mask belong together."""
        folder = self.root / group.name
        if self.kind == "parts":
            return folder.name, path.relative_to(folder).with_suffix("").as_posix().removesuffix("_mask")
        return folder.parent.name if self.kind == "depth" else "", path.stem.removesuffix("_mask")


def find_layout(root: Path) -> Layout:
    """Recognise a folder's layout by the names of its folders, without opening a file.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not root.is_dir():
        msg = f"Expected a folder, got '{root}', which is {'a file' if root.exists() else 'not there'}. Name a folder."
        raise FileNotFoundError(msg)
    if (root / "train" / GOOD / "rgb").is_dir():
        return Layout(root, "depth", tuple(_depth(root)))
    if (root / "train" / GOOD).is_dir():
        return Layout(root, "parts", tuple(_parts(root)))
    categories = tuple(sorted(path.parents[1].name for path in root.glob(f"*/train/{GOOD}") if path.is_dir()))
    if categories:
        return Layout(root, "categories", categories=categories)
    groups = tuple(_folders(root))
    return Layout(root, "folders" if any(group.role == "train" for group in groups) else "nothing", groups)


def _parts(root: Path) -> Iterator[Group]:
    """MVTec AD's layout: roles by place."""
    roles: dict[Path, Role] = {root / "train" / GOOD: "train", root / "test" / GOOD: "test"}
    roles |= {folder: "bad" for folder in _subfolders(root / "test") if folder.name != GOOD}
    roles |= {folder: "mask" for folder in _subfolders(root / "ground_truth") if folder.name != GOOD}
    for folder, role in roles.items():
        if folder.is_dir():
            yield _group(root, folder, role, files_below(folder))
    yield from _rest(root, roles)


def _depth(root: Path) -> Iterator[Group]:
    """MVTec 3D-AD's layout: a folder per kind of file below each defect."""
    splits: tuple[Role, ...] = ("train", "validation", "test")
    for split in splits:
        for folder in _subfolders(root / split):
            role: Role = split if folder.name == GOOD else "bad" if split == "test" else "left out"
            for inner in _subfolders(folder):
                if inner.name == "rgb" or (inner.name in {"gt", "ground_truth"} and role == "bad"):
                    yield _group(root, inner, role if inner.name == "rgb" else "mask", files_below(inner))


def _folders(root: Path) -> Iterator[Group]:
    """Any other layout: roles by the words in the names."""
    found: dict[Path, list[Path]] = {}
    for file in files_below(root, OUTPUTS):
        found.setdefault(file.parent, []).append(file)
    roles = {folder: _role(folder.relative_to(root).parts) for folder in found if _has_images(found[folder])}
    if "train" not in roles.values():  # no name says "good"; a folder of images alone is one of good parts
        plain = [folder for folder in roles if folder == root or (roles[folder] != "mask" and not _is_test(folder))]
        named = [folder for folder in plain if folder.name.lower() in TRAIN_WORDS]
        roles.update(dict.fromkeys(named or (plain if len(plain) == 1 else ()), "train"))
    for folder in sorted(roles):
        above = next((parent for parent in folder.parents if roles.get(parent) == roles[folder]), None)
        if above is None:
            inside = [other for other in found if other == folder or roles.get(other) == roles[folder]]
            files = [file for other in inside if other.is_relative_to(folder) for file in found[other]]
            yield _group(root, folder, roles[folder], files)


def _role(names: tuple[str, ...]) -> Role:
    """Read a role from the names of a folder and of those above it."""
    words = {name.lower() for name in names}
    if words & MASK_WORDS:
        return "mask"
    if words & GOOD_WORDS:
        return "test" if words & TEST_WORDS else "train"
    if not names or names[-1].lower() in TRAIN_WORDS | TEST_WORDS:
        return "left out"
    return "bad"


def _rest(root: Path, known: Iterable[Path]) -> Iterator[Group]:
    """Images in places of MVTec AD's layout that nothing reads."""
    taken = set(known)
    found: dict[Path, list[Path]] = {}
    for file in files_below(root, OUTPUTS):
        if taken.isdisjoint(file.parents):
            found.setdefault(file.parent, []).append(file)
    for folder, files in sorted(found.items()):
        if _has_images(files):
            yield _group(root, folder, "left out", files)


def _group(root: Path, folder: Path, role: Role, files: Iterable[Path]) -> Group:
    kinds: dict[str, list[Path]] = {"images": [], "hidden": [], "foreign": [], "others": []}
    for file in sorted(files):
        suffix = file.suffix.lower()
        kind = "images" if suffix in EXTENSIONS else "foreign" if suffix in FOREIGN else "others"
        kinds["hidden" if file.name.startswith(".") else kind].append(file)
    return Group(folder.relative_to(root).as_posix(), role, **{kind: tuple(paths) for kind, paths in kinds.items()})


def _is_test(folder: Path) -> bool:
    return folder.name.lower() in TEST_WORDS


def _has_images(files: Iterable[Path]) -> bool:
    return any(map(is_named_as_image, files))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))
