# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Normal images of a training, read outside its steps: for calibration, and to score them afterwards."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from anomalib.data.utils import LabelName, ValSplitMode
from anomalib.pre_processing import PreProcessor
from torch.utils.data import IterableDataset, Subset

from anomalib_mkd.data.reading import datamodules_of
from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.thresholds import LEAST_GOOD

CALIBRATION_IMAGES = 32
OF_EACH = 16
"""Least number of images of each of several categories, if it has them: a small one needs a threshold, too."""
GOOD_MODES = {ValSplitMode.FROM_DIR, ValSplitMode.FROM_TRAIN}
"""Split modes whose validation images are neither tested nor painted over."""


def good_indices(dataset: Any, most: int) -> list[int]:
    """Choose good items of a data set, evenly spaced in each category, always the same ones.

    Args:
        dataset: ``None`` has no items; without anomalib's ``samples``, all items are good.
        most: Maximum number; each of several categories gets an equal share, or :data:`OF_EACH` if that is more.
    """
    if dataset is None:
        return []
    samples: Any = getattr(dataset, "samples", ())
    if "label_index" not in samples:
        return evenly_spaced(len(dataset), most)
    good = np.flatnonzero(samples["label_index"] == LabelName.NORMAL)
    names = samples.get("category", samples["label_index"]).to_numpy()[good]
    groups = [good[names == name].tolist() for name in dict.fromkeys(names)]
    each = most if len(groups) <= 1 else max(most // len(groups), OF_EACH)
    return [group[index] for group in groups for index in evenly_spaced(len(group), each)]


def normal_batches(module: Any, count: int = CALIBRATION_IMAGES, dataset: Any = None) -> Iterator[Any]:
    """Read pre-processed normal images, evenly spaced over a data set, always the same ones.

    Each batch is also spread over the whole set, which may be sorted by category. It is read as a loader without worker
    processes reads it, so that images a training has cached are not read again.

    Args:
        module: A model in training.
        count: Maximum number of images.
        dataset: Data set to read; ``None`` for the training set.
    """
    loader = module.trainer.train_dataloader
    dataset, size = dataset or loader.dataset, max(2, loader.batch_size or 1)  # statistics need two
    chosen: Subset[Any] = Subset(dataset, evenly_spaced(len(dataset), count))
    batches = math.ceil(len(chosen) / size)
    for first in range(batches):
        batch = loader.collate_fn(chosen.__getitems__([*range(first, len(chosen), batches)]))
        batch = module.trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        if isinstance(module.pre_processor, PreProcessor):
            module.pre_processor.on_validation_batch_start(module.trainer, module, batch, 0)
        yield batch


def check_sized(loader: Any) -> None:
    """Refuse training images that cannot be read again; the training would fail at its end.

    Args:
        loader: The trainer's, for training.

    Raises:
        ValueError: If it is not a single loader, or its data set has no length.
    """
    dataset = getattr(loader, "dataset", loader)
    if isinstance(dataset, IterableDataset) or not (hasattr(loader, "dataset") and hasattr(dataset, "__len__")):
        msg = (
            "Expected one training loader of a data set with a length and an index, since the threshold needs its "
            f"images again, got {type(dataset).__name__}. Pass such a loader."
        )
        raise ValueError(msg)


def check_enough(trainer: Any) -> None:
    """Refuse a training whose good images are too few for a threshold, before it begins.

    Args:
        trainer: With a training loader that :func:`check_sized` lets pass.

    Raises:
        ValueError: If the images to learn, and those held out, are fewer than five in all.
    """
    count = len(trainer.train_dataloader.dataset) + len(held_out(getattr(trainer, "datamodule", None)) or ())
    if count < LEAST_GOOD:
        msg = (
            f"Expected at least {LEAST_GOOD} good images, from which the threshold is estimated, got {count}. Add "
            "good images to the training folder."
        )
        raise ValueError(msg)


def held_out(datamodule: Any) -> Any:
    """Return the validation images if none of them is a test image or shows a defect, otherwise None.

    Args:
        datamodule: The trainer's; ``None`` if it was given loaders instead.
    """
    modes = {getattr(part, "val_split_mode", None) for part in datamodules_of(datamodule)}
    if not modes <= GOOD_MODES:
        return None
    dataset = getattr(datamodule, "val_data", None)  # absent if the data has none
    return dataset if dataset and (dataset.samples["label_index"] == LabelName.NORMAL).all() else None


def count_held_out(datamodule: Any) -> int:
    """Count the good validation images that are not from the test; one painted over counts as the image it was.

    Args:
        datamodule: As for :func:`held_out`.
    """
    count = 0
    for part in datamodules_of(datamodule):
        dataset = getattr(part, "val_data", None)
        if dataset and getattr(part, "val_split_mode", None) in {*GOOD_MODES, ValSplitMode.SYNTHETIC}:
            samples = getattr(dataset, "source_samples", dataset.samples)
            count += int((samples["label_index"] == LabelName.NORMAL).sum())
    return count
