# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What an exported model knows about itself: a JSON file beside its graph, and the same inside the graph.

An export is three files that belong together: ``model.xml``, ``model.bin`` and ``model.json``. They are written whole
or not at all, and refused if one of them is not the one that was written with the others.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import shutil
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.files import whole_folder
from anomalib_mkd.thresholds import FALSE_ALARMS, Fitted, Scale, scale_from_good, strictest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

FORMAT = 1
"""Number of the format; raised whenever an older reader would misread a newer file."""
RT_INFO = ["anomalib_mkd", "metadata"]
"""Place of the JSON inside the graph."""
PRECISION = "f32"
"""What is not in 8 bits is computed in it: bf16, the default of CPUs that have it, would change verdicts."""
PRECISION_INFO = ["anomalib_mkd", "inference_precision"]
"""Its place inside the graph, for programs that read no JSON."""
SUFFIXES = (".xml", ".bin", ".json")


@dataclass(frozen=True)
class Region:
    """The part of the image that counts.

    Attributes:
        size: Height and width of the images, in pixels.
        pixels: The mask: its bits, row after row, compressed by zlib and written in base 64.

    Example:
        >>> Region.of([[True, False, True]]).mask.tolist()
        [[True, False, True]]
    """

    size: tuple[int, int]
    pixels: str

    @classmethod
    def of(cls, mask: ArrayLike) -> Region:
        """Make a region of a mask ``(H, W)``, whose pixels other than 0 are inside.

        Raises:
            ValueError: If the mask has another shape, or nothing is inside.
        """
        inside = np.asarray(mask)
        if inside.ndim != 2 or not (inside != 0).any():
            what = "nothing inside" if inside.ndim == 2 else f"the shape {inside.shape}"
            msg = f"Expected a region (H, W) with pixels other than 0 inside it, got {what}. Mark the part that counts."
            raise ValueError(msg)
        packed = zlib.compress(np.packbits(inside != 0).tobytes(), 9)
        return cls((inside.shape[0], inside.shape[1]), base64.b64encode(packed).decode())

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The mask ``(H, W)``."""
        bits = np.frombuffer(zlib.decompress(base64.b64decode(self.pixels)), np.uint8)
        height, width = self.size
        return np.unpackbits(bits, count=height * width).reshape(self.size).astype(bool)

    def fit(self, size: Sequence[int], wanted: Sequence[int]) -> NDArray[np.bool_]:
        """Return which pixels of a map have their centre inside.

        Args:
            size: Height and width of the image.
            wanted: Height and width of the map.

        Raises:
            ValueError: If region and image differ in size, or no pixel of the map is inside.
        """
        if self.size != tuple(size):
            msg = (
                f"Expected an image of the region's size, {self.size[0]}x{self.size[1]} (height x width), got "
                f"{size[0]}x{size[1]}. Draw the region on an image of this size."
            )
            raise ValueError(msg)
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.int64) for old, new in zip(size, wanted, strict=True)
        )
        fitted: NDArray[np.bool_] = self.mask[np.ix_(rows, columns)]
        if not fitted.any():
            msg = f"Expected a region that the model's map of {wanted[0]}x{wanted[1]} can show, got none. Enlarge it."
            raise ValueError(msg)
        return fitted


@dataclass(frozen=True)
class Input:
    """One input of the graph, ``(N, channels, H, W)`` in float32.

    Attributes:
        channels: 3 for a photo or points, 1 for heights.
        size: Height and width, None for any.
        range: Values of black and white of a photo; lowest and highest depth in training, None if unknown.
    """

    channels: int
    size: tuple[int, int] | None = None
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Metadata:
    """What an export knows about itself.

    Attributes:
        model: Class name.
        arguments: Arguments of the model.
        versions: Distribution to version, of what made the export.
        date: When it was made, ISO 8601 in UTC.
        precision: Of the stored weights: ``f32``, ``f16`` or ``int8``.
        inputs: Inputs of the graph by name: ``image``, and ``depth`` for a model of photo and depth.
        image: Threshold and scale of scores.
        pixel: Threshold and scale of maps.
        false_alarms: Share of good parts that the threshold of scores was chosen to call bad; None: another rule.
        good_scores: Raw scores of the good images that set the threshold, ascending, or evenly spaced among them.
        score_share: A raw score is the mean of that highest share of the raw map, 0 its maximum; None: of no map.
        categories: Name to own thresholds, of a model that learnt several categories; empty: ``image`` and
            ``pixel`` hold for all.
        own_false_alarms: Name to ``false_alarms`` of each category that was moved alone.
        region: The part of the image that counts; None: all of it.
        smallest_area: Pixels that the largest region above the pixel threshold needs for a part to be bad; 0: none.
        label_above: Scaled score above which a part is bad: 0.5, or 1 - the sensitivity that the model was given.
        mask_above: Likewise, of the scaled map.
    """

    model: str
    arguments: dict[str, Any]
    versions: dict[str, str]
    date: str
    precision: str
    inputs: dict[str, Input]
    image: Scale
    pixel: Scale
    false_alarms: float | None
    good_scores: tuple[float, ...]
    score_share: float | None
    categories: dict[str, Fitted] = field(default_factory=dict)
    own_false_alarms: dict[str, float | None] = field(default_factory=dict)
    region: Region | None = None
    smallest_area: int = 0
    label_above: float = 0.5
    mask_above: float = 0.5

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON knows it, with the format's number first."""
        content = dataclasses.asdict(self) | {"categories": {name: _plain(of) for name, of in self.categories.items()}}
        return {"format": FORMAT, **json.loads(json.dumps(content, allow_nan=False))}

    @classmethod
    def from_json(cls, content: dict[str, Any], place: Path | str) -> Metadata:
        """Read what :meth:`to_json` returned.

        Args:
            content: The parsed JSON.
            place: Where it is from, for the message.

        Raises:
            ValueError: If something is missing, or of another format.
        """
        try:
            number = content["format"]
            content = {"own_false_alarms": {}, **content}  # missing in the first exports of this format
            values = {each.name: content[each.name] for each in dataclasses.fields(cls)} if number == FORMAT else {}
            if values:
                values["inputs"] = {name: Input(**_known(Input, given)) for name, given in values["inputs"].items()}
                values |= _fitted(values)._asdict()
                values["categories"] = {name: _fitted(of) for name, of in values["categories"].items()}
                values["region"] = values["region"] and Region(**_known(Region, values["region"]))
                return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"Expected all that an export writes in {place}, got {type(error).__name__}: {error}. Export again."
            raise ValueError(msg) from error
        msg = f"Expected format {FORMAT} in {place}, got {number!r}. Use the anomalib-mkd that exported it."
        raise ValueError(msg)

    def of_category(self, category: str) -> Metadata:
        """Return a copy with the thresholds of one category.

        Raises:
            ValueError: If the model has no thresholds of that kind.
        """
        if category not in self.categories:
            known = ", ".join(map(repr, self.categories)) or "none: it was trained on a single category"
            msg = f"Expected a category of the model, got {category!r}. It knows {known}."
            raise ValueError(msg)
        share = self.own_false_alarms.get(category, self.false_alarms)
        own = self.categories[category]._asdict()
        return dataclasses.replace(self, **own, false_alarms=share, categories={}, own_false_alarms={})

    def without_category(self) -> str:
        """Say what it means that no category was chosen for a model that learnt several."""
        own = ", ".join(f"{name!r} {of.image.threshold:.4g}" for name, of in self.categories.items())
        return (
            f"No category was given, so the common threshold {self.image.threshold:.4g} applies; it misses defects of "
            f"categories whose own is lower ({own}). Choose one with category=NAME or --category NAME."
        )

    def with_category(self, category: str, moved: Metadata) -> Metadata:
        """Return a copy in which one category has the thresholds of what came from :meth:`of_category`.

        The common ones become the highest of all.
        """
        own = Fitted(moved.image, moved.pixel, moved.good_scores)
        categories = {**self.categories, category: own}
        shares = {name: self.own_false_alarms.get(name, self.false_alarms) for name in categories}
        shares[category] = moved.false_alarms
        highest = max(categories, key=lambda name: categories[name].image.threshold)
        return dataclasses.replace(
            self,
            **strictest(list(categories.values()))._asdict(),
            false_alarms=shares[highest],
            categories=categories,
            own_false_alarms={name: share for name, share in shares.items() if share != shares[highest]},
        )

    def adjusted(
        self,
        *,
        threshold: float | None = None,
        false_alarms: float | None = None,
        good_scores: ArrayLike | None = None,
        pixel: Scale | None = None,
        region: Region | None = None,
        smallest_area: int | None = None,
    ) -> Metadata:
        """Return a copy with another threshold, region or smallest area.

        Of the thresholds of categories, only ``false_alarms`` moves all, and the common one becomes the highest of
        them; otherwise start from :meth:`of_category`.

        Args:
            threshold: The score of this export, 0..1, that becomes the limit: ``label_above``.
            false_alarms: Expected share of good parts called bad, above 0 and below 0.5.
            good_scores: Raw scores of new good images, in the new region if there is one; replace the stored ones.
            pixel: Threshold and scale of maps, from the same new images.
            region: The part of the image that counts.
            smallest_area: See :class:`Metadata`.

        Raises:
            ValueError: If a value is out of range, two exclude each other, or the model has no region to give.
        """
        check_arguments(locals(), optional=("threshold", "false_alarms", "smallest_area"))
        changes: dict[str, Any] = {}
        if threshold is not None and (false_alarms is not None or good_scores is not None):
            msg = "Expected one rule for the threshold, got threshold and false_alarms. Set one of them."
            raise ValueError(msg)
        if region is not None:
            self._check_region(fitted=good_scores is not None)
            changes["region"] = region
        if smallest_area is not None:
            changes["smallest_area"] = smallest_area
        if threshold is not None:
            raw = self.image.threshold + float(self.image.raw(threshold) - self.image.raw(self.label_above))
            changes |= {"image": Scale(raw, self.image.scale), "false_alarms": None}
        if good_scores is not None:
            changes["good_scores"] = tuple(np.sort(np.asarray(good_scores, np.float64)).tolist())
        if false_alarms is not None or good_scores is not None:
            share = false_alarms or self.false_alarms or FALSE_ALARMS
            scores = changes.get("good_scores", self.good_scores)
            if good_scores is None and not scores:
                msg = (
                    "Expected stored scores of good parts for false_alarms, got none: the threshold is the one of best "
                    "F1. Measure good images: python -m anomalib_mkd.deploy threshold MODEL --good FOLDER."
                )
                raise ValueError(msg)
            changes |= {"image": scale_from_good(scores, scores, share), "false_alarms": share}
        if false_alarms is not None and self.categories:
            others = {
                name: of._replace(image=scale_from_good(of.good_scores, of.good_scores, false_alarms))
                for name, of in self.categories.items()
            }
            changes |= {"categories": others, "own_false_alarms": {}}
            if good_scores is None:
                highest = strictest(list(others.values()))
                changes |= {"image": highest.image, "good_scores": highest.good_scores}
        if pixel is not None:
            changes["pixel"] = pixel
        return dataclasses.replace(self, **changes)

    def _check_region(self, *, fitted: bool) -> None:
        """Refuse a region where scores are no function of the map, or that leaves the threshold of another one."""
        if self.score_share is None:
            msg = f"Expected a model that scores by its map, got {self.model}. Leave out region, or crop the images."
            raise ValueError(msg)
        if self.categories:
            msg = f"Expected the category of the images with region, got none of {', '.join(self.categories)}. Set it."
            raise ValueError(msg)
        if self.region is not None and not fitted:
            msg = (
                "Expected no region beside the model's own, whose scores set its threshold, got another one. Set it "
                "with good images: python -m anomalib_mkd.deploy threshold MODEL --region MASK --good FOLDER."
            )
            raise ValueError(msg)


def read(path: Path | str) -> Metadata:
    """Read the metadata of an export, and check that its three files belong together.

    Args:
        path: The ``.xml`` file.

    Raises:
        FileNotFoundError: If one of the three is missing.
        ValueError: If one is damaged or from another export.
    """
    path = Path(path)
    if path.suffix != ".xml":
        msg = f"Expected the .xml file of an export, got {path}. Name that one; its .bin and .json lie beside it."
        raise ValueError(msg)
    finish(path)
    for suffix in SUFFIXES:
        if not path.with_suffix(suffix).is_file():
            msg = (
                f"Expected {path.with_suffix(suffix)}, got no such file. Export the model again by this version of "
                "anomalib-mkd, with its own post-processor and not anomalib's, and copy its .xml, .bin and .json "
                "together."
            )
            raise FileNotFoundError(msg)
    place = path.with_suffix(".json")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        digests = {Path(name).suffix: digest for name, digest in content["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"Expected the JSON of an export in {place}, got {type(error).__name__}: {error}. Export again."
        raise ValueError(msg) from error
    for suffix in (".xml", ".bin"):
        file = path.with_suffix(suffix)
        if _digest(file) != digests.get(suffix):
            msg = (
                f"Expected {file} as it was written with {place.name}, got other content. It is damaged or of another "
                "export: copy all three files again, or export again."
            )
            raise ValueError(msg)
    return Metadata.from_json(content, place)


def write(path: Path | str, model: openvino.Model, metadata: Metadata) -> None:
    """Write a model with its metadata: all three files, or none.

    A kill at any moment leaves the old export or the new one: :func:`read` finishes what was complete.

    Args:
        path: The ``.xml`` file, in a folder that exists.
        model: The graph; gets the metadata as runtime information.
        metadata: What it knows about itself.

    Raises:
        OSError: If the folder is not writable or full.
    """
    path = Path(path)
    content = metadata.to_json()
    model.set_rt_info(json.dumps(content), RT_INFO)
    model.set_rt_info(PRECISION, PRECISION_INFO)
    try:
        with _replacing(path) as folder:
            openvino.save_model(model, folder / path.name, compress_to_fp16=False)
            graph = [folder / path.with_suffix(suffix).name for suffix in (".xml", ".bin")]
            content["files"] = {file.name: _digest(file) for file in graph}
            lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
            description = folder / path.with_suffix(".json").name
            description.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
            for file in (*graph, description):
                _sync(file)
    except (OSError, RuntimeError) as error:  # OpenVINO raises the latter
        msg = f"Expected to write an export into {path.parent}, got {error}. Free space, or choose another folder."
        raise OSError(msg) from error


def publish(folder: Path, path: Path) -> None:
    """Move an export from a folder of the same disk to its place: all three files, or none.

    Args:
        folder: Has the three files, and may have others, which stay.
        path: The ``.xml`` file.
    """
    with _replacing(path) as unfinished:
        for suffix in SUFFIXES:
            name = path.with_suffix(suffix).name
            (folder / name).replace(unfinished / name)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Provide a folder whose three files replace those of an export when the block succeeds."""
    finish(path)
    with whole_folder(_complete(path)) as unfinished:
        yield unfinished
    _move(path)


def _complete(path: Path) -> Path:
    return path.with_name(f".{path.stem}.complete")


def finish(path: Path) -> None:
    """Move a complete export that a killed process left to its final names, unless a newer one is there by now."""
    complete = _complete(path)
    if not complete.is_dir():
        return
    if _is_newer(path, complete):
        logger.warning("An interrupted change of %s was dropped: the export there is newer.", path)
        shutil.rmtree(complete, ignore_errors=True)
        return
    if any((complete / path.with_suffix(suffix).name).exists() for suffix in SUFFIXES):
        logger.warning("An interrupted change of %s is complete now.", path)
    _move(path)


def _move(path: Path) -> None:
    """Move a complete new export to its final names."""
    complete = _complete(path)
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):  # moved already
            (complete / path.with_suffix(suffix).name).replace(path.with_suffix(suffix))
    with suppress(OSError):
        complete.rmdir()


def _is_newer(path: Path, complete: Path) -> bool:
    """Return whether the export in place is newer than what a killed process left.

    The JSON moves last. Its time alone proves nothing, since links and permissions change it; but if some files had
    moved already, the three in place match only if all come from another export.
    """
    place = path.with_suffix(".json")
    try:
        there, left = place.stat(), (complete / place.name).stat()
        if max(there.st_mtime_ns, there.st_ctime_ns) <= max(left.st_mtime_ns, left.st_ctime_ns):
            return False
        files = json.loads(place.read_text(encoding="utf-8"))["files"]
        return all(_digest(path.with_name(name)) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _digest(file: Path) -> str:
    hashed = sha256()
    with file.open("rb") as opened:
        while part := opened.read(1 << 20):
            hashed.update(part)
    return hashed.hexdigest()


def _plain(fitted: Fitted) -> dict[str, Any]:
    return {**fitted._asdict(), **{kind: dataclasses.asdict(getattr(fitted, kind)) for kind in ("image", "pixel")}}


def _fitted(given: dict[str, Any]) -> Fitted:
    return Fitted(Scale(**given["image"]), Scale(**given["pixel"]), tuple(given["good_scores"]))


def _known(kind: type[Input | Region], given: dict[str, Any]) -> dict[str, Any]:
    """Return the values of fields that a class has, lists as tuples; older exports hold more."""
    known = {each.name: given[each.name] for each in dataclasses.fields(kind) if each.name in given}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
