# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Datamodule of one folder of parts, with images of any format and masks paired by name."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataModule, ImageItem
from anomalib.data.utils import LabelName, Split, TestSplitMode, ValSplitMode
from torchvision.transforms.v2 import Transform  # noqa: TC002 (jsonargparse resolves the signature)

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.check import check_folder, find_layout
from anomalib_mkd.data.reading import UprightDataset, image_of, mask_of

if TYPE_CHECKING:
    from anomalib.data import DatasetItem

    from anomalib_mkd.check import Layout

logger = logging.getLogger(__name__)


class PartsDataset(UprightDataset):
    """Images, upright, and masks of one split.

    Args:
        samples: anomalib's columns ``image_path``, ``label_index``, ``mask_path`` and ``split``, and its attribute
            ``task``.
        augmentations: Augmentations of the images and their masks.

    Raises:
        ValueError: If a file cannot be read, has more than 8 bits, or is a mask of another size; the error names it.
    """

    def __init__(self, samples: pd.DataFrame, augmentations: Transform | None = None) -> None:
        super().__init__(augmentations)
        self.samples = samples

    def __getitem__(self, index: int) -> DatasetItem[Any]:
        """Read an image with its label and mask."""
        row = self.samples.iloc[index]
        image = image_of(row.image_path)
        mask = mask_of(row, image.shape[-2:]) if self.task == TaskType.SEGMENTATION else None
        if self.augmentations is not None:
            image, mask = self.augmentations(image, mask)
        return ImageItem(
            image=image,
            gt_mask=mask,
            gt_label=torch.tensor(row.label_index),
            image_path=row.image_path,
            mask_path=row.mask_path,
        )


class Parts(AnomalibDataModule):
    """One folder of parts in MVTec AD's layout: ``train/good``, ``test/good``, ``test/<defect>``, ``ground_truth/...``.

    Images may have any format that torchvision lists (JPEG, PNG, BMP, PPM, PGM, TIFF, WebP). A mask has the name of its
    image, with or without ``_mask``, may have another format, and lies in ``ground_truth/<defect>``. Photos that EXIF
    data turns are read upright. Only ``train/good`` is required. Without ``ground_truth`` there are no masks; without
    ``test/good``, ``test_split_ratio`` of the training images are held out for the test.

    Args:
        root: The folder, or the folder of all categories.
        category: Folder of this category under ``root``. Default: ``root`` is the folder itself.
        train_batch_size: Training batch size. The default is that of the published figures.
        eval_batch_size: Validation and test batch size.
        num_workers: Worker processes of the loaders. With none, images are read once and kept; more pay off where they
            do not fit in memory. In Docker they need ``--shm-size 2g``.
        train_augmentations: Augmentations of the training images.
        val_augmentations: Augmentations of the validation images.
        test_augmentations: Augmentations of the test images.
        augmentations: Augmentations for stages without their own.
        test_split_mode: How the test set is made.
        test_split_ratio: Share of training images to test on, if there are no other normal ones.
        val_split_mode: How the validation set is made. The default uses normal training images, so that thresholds
            never come from the test set.
        val_split_ratio: Share of images to validate on.
        seed: Seed of the split.

    ``prepare_data`` and ``setup`` raise what follows, not the constructor, whose errors the command line buries.

    Raises:
        FileNotFoundError: If ``train/good`` is missing.
        ValueError: If a problem stops or spoils a training.
    """

    def __init__(
        self,
        root: Path | str,
        category: str | None = None,
        train_batch_size: int = 8,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        test_split_mode: TestSplitMode | str = TestSplitMode.FROM_DIR,
        test_split_ratio: float = 0.2,
        val_split_mode: ValSplitMode | str = ValSplitMode.FROM_TRAIN,
        val_split_ratio: float = 0.2,
        seed: int | None = 0,
    ) -> None:
        check_arguments(locals(), optional=["seed"])
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            test_split_mode=test_split_mode,
            test_split_ratio=test_split_ratio,
            val_split_mode=val_split_mode,
            val_split_ratio=val_split_ratio,
            seed=seed,
        )
        self.root = (Path(root) / (category or "")).resolve()  # as anomalib resolves images
        self.category = category or self.root.name
        self._given = Path(root)

    @cached_property
    def _layout(self) -> Layout:
        """The checked layout; errors as for the class."""
        if not self._given.exists():
            msg = f"Expected a folder of parts, got root='{self._given}', which is not there. Check its path."
            raise FileNotFoundError(msg)
        if not self.root.is_dir() or find_layout(self.root).kind != "parts":
            there = find_layout(self._given).categories if self._given.is_dir() else ()
            msg = (
                f"Expected the folder train/good in '{self.root}', got none. Set root to a folder in MVTec AD's "
                f"layout, or category to one of its folders: {', '.join(there) or 'there is none'}."
            )
            raise FileNotFoundError(msg)
        check = check_folder(self.root, decode=False)
        for warning in check.require():
            logger.warning(warning)
        return check.layout

    def _setup(self, _stage: str | None = None) -> None:
        """Read the two splits; anomalib divides them further."""
        check_validation(self.val_split_mode)
        self.train_data = PartsDataset(_samples(self._layout, Split.TRAIN))
        self.test_data = PartsDataset(_samples(self._layout, Split.TEST))


def check_validation(mode: ValSplitMode) -> None:
    """Refuse to read validation images from a folder of their own.

    Raises:
        ValueError: If that is the mode; anomalib would fail later, with an AttributeError.
    """
    if mode == ValSplitMode.FROM_DIR:
        others = ", ".join(each.value for each in ValSplitMode if each != mode)
        msg = f"Expected val_split_mode to be one of {others}, got from_dir. Set one: there is no validation folder."
        raise ValueError(msg)


def _samples(layout: Layout, split: Split) -> pd.DataFrame:
    """List the images of a split in anomalib's columns."""
    masks = layout.mask_of
    rows = [
        (str(path), label, str(masks[path][0]) if path in masks else "", split.value)
        for role, label in (("train", LabelName.NORMAL), ("test", LabelName.NORMAL), ("bad", LabelName.ABNORMAL))
        if (role == "train") is (split == Split.TRAIN)
        for path in layout.images(role)  # type: ignore[arg-type]
    ]
    samples = pd.DataFrame(rows, columns=["image_path", "label_index", "mask_path", "split"])
    samples["label_index"] = samples["label_index"].astype("Int64")
    samples.attrs["task"] = (TaskType.SEGMENTATION if masks else TaskType.CLASSIFICATION).value
    return samples
