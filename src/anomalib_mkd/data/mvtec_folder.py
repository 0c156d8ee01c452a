# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Datamodule of folders in MVTec AD's layout, in any image format; anomalib's own reader accepts PNG only."""

from __future__ import annotations

from pathlib import Path

from anomalib import TaskType
from anomalib.data import Folder
from anomalib.data.utils import LabelName, TestSplitMode, ValSplitMode
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import Transform  # noqa: TC002 (jsonargparse resolves the signature)

GOOD = "good"


class MVTecFolder(Folder):
    """One category in MVTec AD's layout: ``train/good``, ``test/good``, ``test/<defect>``, ``ground_truth/<defect>``.

    Images may have any format that torchvision lists (JPEG, PNG, BMP, PPM, PGM, TIFF, WebP). A mask has the name of its
    image, with or without ``_mask``, and may have another format. Without ``ground_truth`` there are no masks; without
    ``test/good``, anomalib moves ``test_split_ratio`` of the training images there.

    Args:
        root: Folder of all categories.
        category: Folder of this category under ``root``.
        train_batch_size: Training batch size.
        eval_batch_size: Validation and test batch size.
        num_workers: Worker processes of the loaders.
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

    Raises:
        FileNotFoundError: If ``train/good`` or ``test`` is missing.
    """

    def __init__(
        self,
        root: Path | str,
        category: str,
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 8,
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
        base = Path(root) / category
        for part in (f"train/{GOOD}", "test"):
            if not (base / part).is_dir():
                msg = (
                    f"Expected the folder {part} in {base}, got none. Set root and category of a data set in MVTec "
                    f"AD's layout; categories in this root: {', '.join(_categories(Path(root))) or 'none'}."
                )
                raise FileNotFoundError(msg)
        defects = sorted(path.name for path in (base / "test").iterdir() if path.is_dir() and path.name != GOOD)
        super().__init__(
            name=type(self).__name__,
            root=base.resolve(),  # as anomalib resolves the images
            normal_dir=f"train/{GOOD}",
            normal_test_dir=f"test/{GOOD}" if (base / "test" / GOOD).is_dir() else None,
            abnormal_dir=[f"test/{defect}" for defect in defects],
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
        self.category = category

    def _setup(self, _stage: str | None = None) -> None:
        """Read the two splits, and match defective images and masks by name; anomalib matches them by order alone.

        Raises:
            ValueError: If a defective image has no mask, or two.
        """
        super()._setup(_stage)
        base = Path(str(self.root))
        if not (base / "ground_truth").is_dir():
            return
        masks = _masks(base)
        for data in (self.train_data, self.test_data):
            samples = data.samples.copy()
            samples["mask_path"] = [
                str(_mask_of(Path(path), masks)) if label == LabelName.ABNORMAL else ""
                for path, label in zip(samples["image_path"], samples["label_index"], strict=True)
            ]
            samples.attrs["task"] = TaskType.SEGMENTATION.value
            data.samples = samples


def _categories(root: Path) -> list[str]:
    """List the names of the categories directly under a root."""
    return sorted(path.parent.parent.name for path in root.glob(f"*/train/{GOOD}"))


def _masks(base: Path) -> dict[tuple[str, str], list[Path]]:
    """List the masks of a category by defect and image name."""
    masks: dict[tuple[str, str], list[Path]] = {}
    for path in sorted((base / "ground_truth").glob("*/*")):
        if path.suffix.lower() in IMG_EXTENSIONS:
            masks.setdefault((path.parent.name, path.stem.removesuffix("_mask")), []).append(path)
    return masks


def _mask_of(image: Path, masks: dict[tuple[str, str], list[Path]]) -> Path:
    found = masks.get((image.parent.name, image.stem), [])
    if len(found) != 1:
        msg = (
            f"Expected the mask of {image} in ground_truth/{image.parent.name}, got {len(found)} files of that name. "
            "Name each mask like its image, with or without _mask."
        )
        raise ValueError(msg)
    return found[0]
