# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Command line of exported models: ``python -m anomalib_mkd.deploy COMMAND MODEL``."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anomalib_mkd.deploy.graph import load, set_thresholds
from anomalib_mkd.deploy.inferencer import Inferencer
from anomalib_mkd.deploy.metadata import Region, write
from anomalib_mkd.deploy.pictures import read_region
from anomalib_mkd.deploy.serving import lay_out
from anomalib_mkd.files import no_formula
from anomalib_mkd.pictures import EXTENSIONS, files_below, is_named_as_image
from anomalib_mkd.terminal.output import print_any_name
from anomalib_mkd.thresholds import FALSE_ALARMS, peak_and_median, scale_from_good

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from anomalib_mkd.deploy.metadata import Metadata
    from anomalib_mkd.thresholds import Scale

MASKS = "ground_truth"
DATA_SET = ("train", "test", MASKS)
"""Folders of a data set in MVTec AD's layout, where bad parts and masks lie beside good ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Arguments; the process's own if ``None``.

    Returns:
        0, or 1 if something given was wrong.
    """
    parser = argparse.ArgumentParser("python -m anomalib_mkd.deploy", description="Use exported OpenVINO models.")
    commands = parser.add_subparsers(dest="command", required=True)
    moved = commands.add_parser("threshold", help="show the thresholds, or move them and rewrite the export")
    moved.add_argument("model", type=Path, metavar="MODEL", help="the .xml file")
    moved.add_argument("--false-alarms", type=float, metavar="SHARE", help="expected share of good parts called bad")
    moved.add_argument("--good", type=Path, metavar="FOLDER", help="new good images, which set the threshold")
    moved.add_argument("--threshold", type=float, metavar="SCORE", help="the score that becomes the threshold")
    moved.add_argument("--region", type=Path, metavar="MASK", help="mask; black or transparent areas are ignored")
    moved.add_argument("--smallest-area", type=int, metavar="PIXELS", help="smallest region that makes a part bad")
    moved.add_argument("--category", metavar="NAME", help="category to adjust, in a model of several")
    shown = commands.add_parser("predict", help="print verdict, score and boxes of images as CSV")
    shown.add_argument("model", type=Path, metavar="MODEL", help="the .xml file")
    shown.add_argument("pictures", type=Path, metavar="IMAGE", nargs="+")
    shown.add_argument("--category", metavar="NAME", help="category of the images, in a model of several")
    served = commands.add_parser("serve", help="write the folders and the configuration of OpenVINO Model Server")
    served.add_argument("model", type=Path, metavar="MODEL", help="the .xml file")
    served.add_argument("folder", type=Path, metavar="FOLDER", help="the server's folder of models")
    served.add_argument("--name", help="name of the model in requests (default: its category or class)")
    served.add_argument("--category", metavar="NAME", help="category to serve, of a model of several")
    options = parser.parse_args(arguments)
    print_any_name()
    try:
        if options.command == "predict":
            return predict(options.model, options.pictures, options.category)
        if options.command == "serve":
            sys.stdout.write(f"Wrote {lay_out(options.model, options.folder, options.name, options.category)}\n")
        else:
            threshold(options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def threshold(options: argparse.Namespace) -> None:
    """Move thresholds, region or smallest area of an export, and print old and new."""
    model, whole = load(options.model)
    old = whole if options.category is None else whole.of_category(options.category)
    if whole.categories and options.region is not None:
        msg = (
            "Expected no --region for a model of several categories, got one. Give it to "
            "Inferencer(path, category=NAME, region=MASK) instead."
        )
        raise ValueError(msg)
    if options.category is not None and options.smallest_area is not None:
        msg = "Expected no --smallest-area with --category, got one: it is the export's. Set it without --category."
        raise ValueError(msg)
    if whole.categories and options.category is None:
        _refuse_common(options, whole)
    region = None if options.region is None else Region.of(read_region(options.region))
    changes: dict[str, Any] = {"region": region, "smallest_area": options.smallest_area}
    if options.good is not None:
        false_alarms = options.false_alarms or old.false_alarms or FALSE_ALARMS
        files = good_files(options.good)
        scores, changes["pixel"] = measure_good(options.model, files, region, false_alarms, options.category)
        changes["good_scores"] = scores
        above = _above(old, scores)
        if above > len(scores) / 2:
            msg = f"{above} of the {len(scores)} good images lie above the old threshold: the light has changed, or "
            sys.stderr.write(msg + "these parts are bad. Look at them.\n")
    new = old.adjusted(threshold=options.threshold, false_alarms=options.false_alarms, **changes)
    counted = np.asarray(new.good_scores)
    sys.stdout.write(f"{'now' if new == old else 'before'}: {_described(old, counted)}\n")
    if new != old:
        whole = new if options.category is None else whole.with_category(options.category, new)
        set_thresholds(model, whole)
        write(options.model, model, whole)
        sys.stdout.write(f"after: {_described(new, counted)}\n")  # now it is on the disk
    if new.region is not None:
        sys.stdout.write(f"region: {100 * new.region.mask.mean():.3g} % of the image\n")
    if options.category is not None:
        sys.stdout.write(f"common: {_described(whole)}\n")
    for name in whole.categories:
        sys.stdout.write(f"category {name!r}: {_described(whole.of_category(name))}\n")


def _described(metadata: Metadata, scores: ArrayLike | None = None) -> str:
    """Describe a threshold and how many of the scores of good images, by default its own, lie above."""
    counted = np.asarray(metadata.good_scores if scores is None else scores)
    share = "" if metadata.false_alarms is None else f", for {100 * metadata.false_alarms:g} % false alarms"
    above = f"{_above(metadata, counted)} of {len(counted)} good images lie above"
    return f"threshold {metadata.image.threshold:.6g}{share}; {above}"


def _above(metadata: Metadata, scores: ArrayLike) -> int:
    """Count the raw scores above a threshold."""
    return int((np.asarray(scores) > metadata.image.raw(metadata.label_above)).sum())


def _refuse_common(options: argparse.Namespace, metadata: Metadata) -> None:
    """Refuse to move the common threshold alone, which is the highest of the categories'."""
    for option in ("good", "threshold"):
        if getattr(options, option) is not None:
            names = ", ".join(map(repr, metadata.categories))
            msg = f"Expected --category with --{option}, one of {names}, got none. Move one category at a time."
            raise ValueError(msg)


def good_files(folder: Path) -> list[Path]:
    """List the images of a folder of good ones, one of each set of copies; print how many are left out.

    Args:
        folder: Good images, in folders of any depth.

    Raises:
        ValueError: If there are none, or the folder is a whole data set.
    """
    files = sorted(filter(is_named_as_image, files_below(folder)))
    if not files:
        msg = f"Expected images ({', '.join(EXTENSIONS)}) in {folder}, got none. Name a folder of good ones."
        raise ValueError(msg)
    inside = [file.relative_to(folder).parent.parts for file in files]
    others = {name for names in inside for name in names if name.lower() in DATA_SET}
    others |= {name for name in folder.resolve().parts[-2:] if name.lower() == MASKS}
    beside = {names[0] for names in inside if names}
    if good := {name for name in beside if name.lower() == "good"}:
        others |= beside - good
    if others:
        msg = (
            f"Expected only good images in {folder}, got the folder {min(others)!r} of a data set. Name a folder of "
            "good images that the model has not learnt, such as test/good."
        )
        raise ValueError(msg)
    different = {_content(file): file for file in reversed(files)}
    if copies := len(files) - len(different):
        sys.stdout.write(f"{copies} of {len(files)} images are copies of others and do not count\n")
    return sorted(different.values())


def _content(file: Path) -> bytes:
    """Return a digest of the content of a file, or its name if it cannot be read."""
    try:
        return sha256(file.read_bytes()).digest()
    except OSError:
        return os.fsencode(file)


def measure_good(
    path: Path, files: Sequence[Path], region: Region | None, false_alarms: float, category: str | None
) -> tuple[list[float], Scale]:
    """Predict on good images.

    Args:
        path: The export's ``.xml`` file.
        files: The images.
        region: The part of the image that is to count; None: the export's own.
        false_alarms: Expected share of good parts called bad.
        category: Of the images, in a model of several.

    Returns:
        Raw scores, and threshold and scale of maps.
    """
    inferencer = Inferencer(path, category=category)
    metadata = inferencer.metadata
    if region is not None:
        inferencer.metadata = metadata = replace(metadata, region=region)
    scores, peaks, medians = [], [], []
    for found in inferencer.predict_many(files):
        own = metadata.region
        inside = found.anomaly_map if own is None else found.anomaly_map[own.fit(own.size, found.anomaly_map.shape)]
        scores.append(float(metadata.image.raw(found.score)))
        peak, median = peak_and_median(metadata.pixel.raw(inside.ravel()))
        peaks.append(peak)
        medians.append(median)
    return scores, scale_from_good(peaks, medians, false_alarms)


def predict(model: Path, pictures: Sequence[Path], category: str | None = None) -> int:
    """Print verdicts as CSV; an image that cannot be read is an error in its row, and does not stop the others."""
    inferencer = Inferencer(model, category=category)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["file", "verdict", "score", "boxes (left top right bottom)"])
    failed = False
    for picture in pictures:
        name = no_formula(picture)
        try:
            found = inferencer.predict(picture)
        except (ValueError, OSError) as error:
            failed = True
            table.writerow([name, "error", "", ""])
            sys.stderr.write(f"{error}\n")
            continue
        boxes = "; ".join(f"{box.left} {box.top} {box.right} {box.bottom}" for box in found.boxes)
        table.writerow([name, "bad" if found.bad else "good", f"{found.score:.4f}", boxes])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
