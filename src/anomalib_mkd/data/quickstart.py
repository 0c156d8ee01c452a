# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Datamodule of the embedded quick-start data, which draws its images instead of downloading them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anomalib.data import AnomalibDataModule, MVTecADDataset
from anomalib.data.utils import Split, TestSplitMode, ValSplitMode
from torchvision.transforms.v2 import Transform  # noqa: TC002 (jsonargparse resolves the signature)

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.data.parts import check_validation
from anomalib_mkd.data.synthetic import Recipe, make_dataset


class Quickstart(AnomalibDataModule):
    """A small data set drawn from a seed: woven ``fabric``, brushed ``metal`` and a turned steel ``washer``.

    Defects are scratches, dents and stains with exact masks. The data shows that an installation works and what a
    heat map looks like; its metrics do not transfer to real products.

    Args:
        root: Folder of the data set; a category is drawn into ``root/category`` in MVTec AD's layout when it is first
            needed.
        category: ``"fabric"``, ``"metal"`` or ``"washer"``.
        train_batch_size: Training batch size.
        eval_batch_size: Validation and test batch size.
        num_workers: Worker processes of the loaders. The images are small, so none is fastest.
        train_augmentations: Augmentations of the training images.
        val_augmentations: Augmentations of the validation images.
        test_augmentations: Augmentations of the test images.
        augmentations: Augmentations for stages without their own.
        test_split_mode: How the test set is made.
        test_split_ratio: Share of images to test on, if the mode needs one.
        val_split_mode: How the validation set is made. The default uses normal training images, so that thresholds
            never come from the test set.
        val_split_ratio: Share of images to validate on.
        seed: Seed of the split.
        data_seed: Seed of the images.
        image_size: Side of the images in pixels, 64 or more.
        train_images: Number of normal training images, validation included.
        test_good: Number of normal test images.
        per_defect: Number of test images of each defect.

    Example:
        >>> datamodule = Quickstart(category="washer")
        >>> datamodule.name, datamodule.category
        ('Quickstart', 'washer')
    """

    def __init__(
        self,
        root: Path | str = "./datasets/quickstart",
        category: Literal["fabric", "metal", "washer"] = "washer",
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
        data_seed: int = 0,
        image_size: int = 192,
        train_images: int = 60,
        test_good: int = 12,
        per_defect: int = 8,
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
        self.root = Path(root)
        self.category = category
        self.recipe = Recipe(category, data_seed, image_size, train_images, test_good, per_defect)

    def prepare_data(self) -> None:
        """Draw the category unless it exists."""
        make_dataset(self.root, self.recipe)

    def _setup(self, _stage: str | None = None) -> None:
        """Read the two splits; anomalib divides them further."""
        check_validation(self.val_split_mode)
        self.train_data = MVTecADDataset(root=self.root, category=self.category, split=Split.TRAIN)
        self.test_data = MVTecADDataset(root=self.root, category=self.category, split=Split.TEST)
