# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Datamodule of images with depth: MVTec 3D-AD, 3D-ADAM, Eyecandies, and your own folders."""

from __future__ import annotations

from pathlib import Path

from anomalib.data import AnomalibDataModule
from anomalib.data.utils import Split, TestSplitMode, ValSplitMode
from torchvision.transforms.v2 import Transform  # noqa: TC002 (jsonargparse resolves the signature)

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.data.depth.dataset import DepthDataset
from anomalib_mkd.data.depth.layouts import DepthLayout, list_samples
from anomalib_mkd.depth.preparation import FILL_ITERATIONS, INLIER_DISTANCE, REMOVAL_DISTANCE, Plane
from anomalib_mkd.depth.source import DepthSource, Serve

#: Focal length of the cameras that rendered Eyecandies, in pixels at its 512x512.
EYECANDIES_FOCAL_LENGTH = 711.11


class DepthFolder(AnomalibDataModule):
    """One category of images with depth; ``batch.depth_map`` is float32 with NaN where a point is missing.

    ``depth="height"`` returns ``(B, 1, H, W)``: heights above the background plane, as computed by
    :func:`anomalib_mkd.depth.prepare_depth`. ``depth="points"`` returns ``(B, 3, H, W)``: x, y, z as scanned.

    Layouts, each under ``root/category``; images and masks may have any format, depth may be TIFF, 16-bit PNG or NumPy;
    files are matched by name:

    - ``mvtec3d``: ``{train/good, validation/good, test/<label>}/{rgb, xyz, gt}``; in 3D-ADAM, ``ground_truth``.
    - ``eyecandies``: ``{train, val, test_public}/data/``, as published; labels are read from the masks.
    - ``folder``: ``{train/good, validation/good, test/<label>}``, masks in ``ground_truth/<label>``, and depth in
      ``depth/train/good`` and so on.

    Validation uses the layout's validation images, if there are any, and otherwise held-out normal training images,
    never the test set. Without normal test images, anomalib moves a fifth of the training images there.

    This replaces anomalib's ``MVTec3D`` and ``ADAM3D``, which validate on the test set and whose training items cannot
    be read with pandas 3: there ``astype("str")`` leaves the missing mask of a normal image a float, which the item
    rejects. We do not patch them; ``Folder3D``, which fills these fields, works for points.

    Args:
        root: Folder of all categories.
        category: Folder of this category under ``root``.
        layout: ``mvtec3d``, ``eyecandies`` or ``folder``.
        train_batch_size: Training batch size. The default is that of the published figures.
        eval_batch_size: Validation and test batch size.
        num_workers: Worker processes of the loaders. With none, images are read once and kept; more pay off where they
            do not fit in memory.
        depth: What to return: ``height`` or ``points``.
        plane: How the background plane is found: ``ransac``, ``corners`` or ``none``.
        inlier_distance: How far a point of the plane may lie from it, in the scans' unit (default: metres).
        removal_distance: Points closer to the plane than this are background, same unit. 0 keeps the height of every
            point: for flat products that fill the image.
        fill_iterations: Holes of the foreground up to twice as many pixels wide are filled.
        depth_scale: Unit per step of depth stored as integers, for example 0.001 for millimetres.
        focal_length: In pixels; turns depth maps into points.
        cache_dir: Folder for prepared maps. None prepares them on each read.
        val_split_ratio: Share of training images to validate on, if there is no validation folder.
        seed: Seed of that split.
        train_augmentations: Not supported: they would change the image but not the depth.
        val_augmentations: Not supported.
        test_augmentations: Not supported.
        augmentations: Not supported.

    Raises:
        ValueError: If an argument is out of range, or augmentations are given.
    """

    def __init__(
        self,
        root: Path | str,
        category: str,
        layout: DepthLayout = "mvtec3d",
        train_batch_size: int = 8,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        depth: Serve = "height",
        plane: Plane = "ransac",
        inlier_distance: float = INLIER_DISTANCE,
        removal_distance: float = REMOVAL_DISTANCE,
        fill_iterations: int = FILL_ITERATIONS,
        depth_scale: float | None = None,
        focal_length: float | None = None,
        cache_dir: Path | str | None = None,
        val_split_ratio: float = 0.2,
        seed: int | None = 0,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
    ) -> None:
        check_arguments(locals(), optional=("depth_scale", "focal_length", "seed"), layout=DepthLayout, depth=Serve)
        given = (train_augmentations, val_augmentations, test_augmentations, augmentations)
        if any(each is not None for each in given):
            msg = (
                "Expected no augmentations for a datamodule with depth, got some, which would not change the depth. "
                "Use the augmentations of DepthPreProcessor."
            )
            raise ValueError(msg)
        eyecandies = layout == "eyecandies"
        if eyecandies and depth_scale is not None:
            msg = f"Expected no depth_scale for Eyecandies, got {depth_scale}. Leave it out: each scan has its own."
            raise ValueError(msg)
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            test_split_mode=TestSplitMode.FROM_DIR,
            test_split_ratio=0.2,
            val_split_mode=ValSplitMode.FROM_TRAIN,
            val_split_ratio=val_split_ratio,
            seed=seed,
        )
        self.root = Path(root)
        self.category = category
        self.layout = layout
        self.source = DepthSource(
            serve=depth,
            scale="eyecandies" if eyecandies else depth_scale,
            focal_length=EYECANDIES_FOCAL_LENGTH if eyecandies and focal_length is None else focal_length,
            plane=plane,
            inlier_distance=inlier_distance,
            removal_distance=removal_distance,
            fill_iterations=fill_iterations,
            cache_dir=cache_dir,
        )

    def prepare_data(self) -> None:
        """Prepare the depth maps that the cache lacks."""
        self.source.fill_cache(list(list_samples(self._base, self.layout)["depth_path"]))

    def _setup(self, _stage: str | None = None) -> None:
        """Read the existing splits; anomalib makes the others."""
        samples = list_samples(self._base, self.layout)
        train, validation, test = (
            DepthDataset(samples[samples["split"] == split.value], self.source)
            for split in (Split.TRAIN, Split.VAL, Split.TEST)
        )
        self.train_data, self.test_data = train, test
        if len(validation):
            self.val_data = validation
            self.val_split_mode = ValSplitMode.FROM_DIR

    @property
    def _base(self) -> Path:
        return (self.root / self.category).resolve()  # as anomalib resolves images
