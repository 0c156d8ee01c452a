# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a model predicted of each image: one row per file, and the table ``predictions.csv``."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from anomalib.post_processing import PostProcessor
from PIL import Image

from anomalib_mkd.data.reading import part_of
from anomalib_mkd.files import no_formula, whole
from anomalib_mkd.pictures import BOMBS, upright_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

TEST_FOLDER = "test"
"""Below it, MVTec AD's layout has a folder for each kind of defect."""
RGB_FOLDER = "rgb"
"""Where MVTec 3D-AD's layout has its photos, one folder below the kind of defect."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels; the right and the bottom one lie outside."""


class Prediction(NamedTuple):
    """What a model predicted of one image.

    Attributes:
        file: Path of the image, as the datamodule gave it.
        score: Anomaly score: 0..1 with our post-processor, else of any range. May be NaN.
        bad: The verdict; ``None`` without a threshold.
        threshold: In the unit of the score; ``None`` without one.
        category: Of a datamodule with several; else empty.
        kind: Folder of the image: the kind of defect, or that of the good parts.
        truth: Whether the part is defective; ``None`` if the data does not say.
        box: The highest region of the map of a bad part, in pixels of the file; ``None`` for any other part.
    """

    file: str
    score: float
    bad: bool | None
    threshold: float | None
    category: str = ""
    kind: str = ""
    truth: bool | None = None
    box: Box | None = None

    @property
    def above(self) -> float:
        """Distance of the score from its threshold, which can be compared across categories."""
        return self.score - (self.threshold or 0)


def place_of(path: str | Path, root: str | Path | None = None) -> Path:
    """Return where an image lies below the folder ``test``; without one, its folder and name.

    Args:
        path: The image.
        root: Folder of its data, above which no folder counts; ``None`` if it is not known.

    Example:
        >>> [place_of(path).as_posix() for path in ("metal/test/dent/lot1/000.png", "parts/dented/000.png")]
        ['dent/lot1/000.png', 'dented/000.png']
    """
    path = Path(path)
    below = path.relative_to(Path(root).resolve()) if root and path.is_relative_to(Path(root).resolve()) else path
    folders = below.parent.parts
    if TEST_FOLDER in folders[:-1]:
        return Path(*below.parts[len(folders) - folders[::-1].index(TEST_FOLDER) :])
    return Path(path.parent.name, path.name)


def kind_of(path: str | Path, root: str | Path | None = None) -> str:
    """Return the kind of defect of a part: its folder below ``test``, else the name of its image's folder.

    Args:
        path: The image.
        root: As for :func:`place_of`.

    Example:
        >>> kind_of("metal/test/dent/000.png"), kind_of("metal/test/dent/lot1/000.png"), kind_of("dent/rgb/000.png")
        ('dent', 'dent', 'dent')
    """
    folder = Path(path).parent
    return folder.parent.name if folder.name == RGB_FOLDER else folder.name and place_of(path, root).parts[0]


def thresholds(post_processor: Any) -> tuple[float | None, float | None]:
    """Return the thresholds of scores and of pixels; ``None`` for one that no validation has set.

    Without one, anomalib still compares: raw scores with 0.5.

    Args:
        post_processor: A model's; ``None`` if it has none.
    """
    if not isinstance(post_processor, PostProcessor) or not post_processor.enable_thresholding:
        return None, None
    image, pixel = (
        None if math.isnan(raw) else float(scaled)
        for raw, scaled in (
            (post_processor.image_threshold, post_processor.normalized_image_threshold),
            (post_processor.pixel_threshold, post_processor.normalized_pixel_threshold),
        )
    )
    return image, pixel


def verdict(score: float | None, label: float | None, threshold: float | None) -> bool | None:
    """Return whether a part is called bad; ``None`` without a threshold, and never good if its score is not finite.

    Args:
        score: As predicted.
        label: Other than 0 if the post-processor calls it bad.
        threshold: Of the scores.
    """
    if score is not None and not math.isfinite(score):
        return True
    return None if threshold is None or label is None else bool(label)


def highest_region(anomaly_map: Tensor, threshold: float | None) -> Box:
    """Find the box of the connected region around a map's highest pixel.

    The region's pixels reach the threshold. Where not even the highest one does, because the score is a mean over
    several, they are in the upper half of the map's range.

    Args:
        anomaly_map: ``(H, W)``, finite.
        threshold: Of pixels, in the unit of the map; ``None`` if there is none.

    Returns:
        Box in pixels of the map.

    Example:
        >>> import torch
        >>> values = torch.zeros(4, 6)
        >>> values[1:3, 2:5] = 0.8
        >>> highest_region(values, 0.5), highest_region(values, 0.9)
        ((2, 1, 5, 3), (2, 1, 5, 3))
    """
    values = anomaly_map.float().cpu().numpy()
    reached = threshold is not None and values.max() >= threshold
    level = threshold if reached else (values.max() + values.min()) / 2
    _, regions, boxes, _ = cv2.connectedComponentsWithStats((values >= level).astype(np.uint8))
    left, top, width, height, _ = boxes[regions.flat[values.argmax()]].tolist()
    return left, top, left + width, top + height


def predictions_of(
    batch: Any,
    categories: Sequence[str | None],
    threshold: float | None,
    pixel_threshold: float | None = None,
    *,
    data: Any = None,
    boxes: Callable[[str], bool] = lambda _: True,
) -> list[Prediction]:
    """List the predictions of a batch.

    Args:
        batch: A batch of N images after the model's post-processor. Labels and truth may be missing.
        categories: N categories; ``None`` for an image without one.
        threshold: Of the scores; ``None`` if there is none.
        pixel_threshold: Of the maps, for the boxes; ``None`` if there is none.
        data: Datamodule; its root, or that of a category, is taken as for :func:`place_of`.
        boxes: Whether the map of a file shows all of it as viewers do, so that a box has its place there.

    Returns:
        N predictions. A score that is not finite is never good.
    """
    count = len(batch.image_path)
    scores = batch.pred_score.flatten().tolist()
    labels = [None] * count if batch.pred_label is None else batch.pred_label.flatten().tolist()
    truths = [None] * count if batch.gt_label is None else batch.gt_label.flatten().bool().tolist()
    maps = [None] * count if batch.anomaly_map is None else batch.anomaly_map.flatten(0, -3)
    rows = []
    for path, score, label, truth, category, anomaly_map in zip(
        batch.image_path, scores, labels, truths, categories, maps, strict=True
    ):
        bad = verdict(score, label, threshold)
        box = None
        if bad and anomaly_map is not None and boxes(str(path)) and torch.isfinite(anomaly_map).all():
            box = _in_file(highest_region(anomaly_map, pixel_threshold), anomaly_map.shape, path)
        kind = kind_of(path, getattr(part_of(data, category), "root", None))
        rows.append(Prediction(str(path), score, bad, threshold, category or "", kind, truth, box))
    return rows


def _in_file(box: Box, shape: Sequence[int], path: str | Path) -> Box | None:
    """Scale a box from a map's pixels, of ``shape`` (H, W), to those of its upright file; ``None`` if there is no such file."""
    try:
        with Image.open(path) as picture:  # reads the header only
            width, height = upright_size(picture)
    except (OSError, *BOMBS):  # images that come from elsewhere than files, or were read without Pillow's limit
        return None
    across, down = width / shape[1], height / shape[0]
    left, top, right, bottom = box  # rounded outwards: a box is never empty
    return math.floor(left * across), math.floor(top * down), math.ceil(right * across), math.ceil(bottom * down)


HEADER = ("file", "score", "label", "threshold", "category", "truth", "kind", "x0", "y0", "x1", "y1")


def write_csv(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write the table of predictions, whole or not at all.

    Labels and truth read ``good`` or ``bad``; what is unknown stays empty. Numbers have enough digits to order scores.

    Args:
        path: Final name of the file.
        predictions: The rows.
    """
    rows = []
    for row in predictions:
        threshold = "" if row.threshold is None else f"{row.threshold:.6g}"
        numbers = f"{row.score:.6g}", word(row.bad), threshold
        kind = "" if row.truth is None else row.kind
        rows.append([no_formula(row.file), *numbers, row.category, word(row.truth), kind, *(row.box or [""] * 4)])
    write_table(path, HEADER, rows)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, whole or not at all; names of files need not be Unicode.

    Args:
        path: Final name of the file.
        header: Names of the columns.
        rows: One value per column.
    """
    with (
        whole(path) as unfinished,
        unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file).writerows([header, *rows])


def word(bad: bool | None) -> str:  # the value itself
    """Name a verdict or a truth; empty if unknown.

    Example:
        >>> word(True), word(False), word(None)
        ('bad', 'good', '')
    """
    return "" if bad is None else ("good", "bad")[bad]
