# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One training on several categories, with results per category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence  # noqa: TC003 (jsonargparse resolves the signature)
from functools import cached_property
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any, Literal

from anomalib.data import AnomalibDataModule
from anomalib.data.utils import TestSplitMode, ValSplitMode  # noqa: TC002
from anomalib.visualization import ImageVisualizer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, SequentialSampler, WeightedRandomSampler
from torchvision.transforms.v2 import Transform  # noqa: TC002

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.data.categories.datamodules import build_datamodules, name_datamodules
from anomalib_mkd.data.categories.joined import CategoryBatchSampler, JoinedDataset
from anomalib_mkd.data.categories.post_processor import by_category
from anomalib_mkd.data.categories.raw_predictions import RawPredictions
from anomalib_mkd.data.categories.results import CategoryEvaluator, CategoryVisualizer
from anomalib_mkd.post_processor import SoftPostProcessor

if TYPE_CHECKING:
    from lightning.pytorch import Callback

SUBSETS = ("train", "val", "test")


class MultiCategory(AnomalibDataModule):
    """Several categories, or several datamodules of anomalib, as one: for one model that serves them all.

    Every category keeps its own files, splits and augmentations. The model receives images without their category. The
    test of any anomalib model then reports ``image_AUROC/bottle`` and so on, with the mean over categories as
    ``image_AUROC``, and saves its heat maps in one folder per category.

    Args:
        datamodule: Class of every category's datamodule: a name in ``anomalib.data`` or ``anomalib_mkd.data``, a
            dotted path, or the class itself. Default: folders in MVTec AD's layout with images of any format. A class
            without ``category``, such as anomalib's ``Folder``, gets ``root/category`` as its root.
        categories: Categories of that class. With ``datamodules``: other names for them.
        root: Root of that class. Default: its own.
        datamodules: Whole datamodules instead, of any classes.
        options: Further arguments of that class, the same for every category.
        train_batch_size: Training batch size; batches mix all categories. The default is that of the published figures.
        eval_batch_size: Validation and test batch size; each batch holds one category.
        num_workers: Worker processes of the loaders. With none, images are read once and kept; more pay off where they
            do not fit in memory.
        train_augmentations: Augmentations of the training images.
        val_augmentations: Augmentations of the validation images.
        test_augmentations: Augmentations of the test images.
        augmentations: Augmentations for stages without their own.
        test_split_mode: How each category's test set is made. Default: that class's.
        test_split_ratio: Share of images to test on, if the mode needs one. Default: that class's.
        val_split_mode: How each category's validation set is made. Default: that class's, which for many datamodules of
            anomalib is the test set.
        val_split_ratio: Share of images to validate on. Default: that class's.
        seed: Seed of the splits. Default: that class's.
        balanced: Whether to sample every category equally often in training, however many images it has; the length of
            an epoch does not change.
        thresholds: "global" sets one pair of thresholds and one normalisation for all; "category" adds a set per
            category, used where the category of an image is known: in tests and predictions with this datamodule, and
            in OpenVINO exports of our models by ``Inferencer(path, category=...)``. Default: "category" for a model
            whose thresholds come from good parts alone, trained in one process, otherwise "global".

    ``prepare_data`` and ``setup`` raise these errors, not the constructor, whose errors the command line buries.

    Raises:
        ValueError: If a category is unknown or named twice, there is none, or arguments exclude each other.
        FileNotFoundError: If a category's folder is missing and anomalib has nothing to download.
        TypeError: If a class is not a datamodule of images.

    Example:
        >>> data = MultiCategory("Quickstart", ["metal", "washer"], val_split_mode="from_train")
        >>> data.categories, data.datamodules["washer"].category
        (['metal', 'washer'], 'washer')
    """

    train_data: JoinedDataset
    val_data: JoinedDataset
    test_data: JoinedDataset

    def __init__(
        self,
        datamodule: str | type[AnomalibDataModule] = "Parts",
        categories: Sequence[str] | str | None = None,
        root: Path | str | None = None,
        datamodules: Sequence[AnomalibDataModule] | None = None,
        options: dict[str, Any] | None = None,
        train_batch_size: int = 8,
        eval_batch_size: int = 32,
        num_workers: int = 0,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        test_split_mode: TestSplitMode | str | None = None,
        test_split_ratio: float | None = None,
        val_split_mode: ValSplitMode | str | None = None,
        val_split_ratio: float | None = None,
        seed: int | None = None,
        balanced: bool = False,
        thresholds: Literal["global", "category"] | None = None,
    ) -> None:
        check_arguments(
            locals(),
            optional=("test_split_ratio", "val_split_ratio", "seed", "thresholds"),
            thresholds=Literal["global", "category"],
        )
        super().__init__(train_batch_size, eval_batch_size, num_workers)
        shared = {
            "train_augmentations": train_augmentations,
            "val_augmentations": val_augmentations,
            "test_augmentations": test_augmentations,
            "augmentations": augmentations,
            "test_split_mode": test_split_mode,
            "test_split_ratio": test_split_ratio,
            "val_split_mode": val_split_mode,
            "val_split_ratio": val_split_ratio,
            "seed": seed,
            **(options or {}),
        }
        shared = {name: value for name, value in shared.items() if value is not None}
        names = [categories] if isinstance(categories, str) else list(categories or ())
        self._given = datamodule, names, root, datamodules, shared
        self.balanced = balanced
        self.thresholds = thresholds
        self._by_category = thresholds == "category"
        self._category_by_path: dict[str, str] = {}

    @cached_property
    def datamodules(self) -> dict[str, AnomalibDataModule]:
        """Datamodule of each category; errors as for the class."""
        datamodule, names, root, datamodules, shared = self._given
        if own := sorted({"train_batch_size", "eval_batch_size", "num_workers"} & {*shared}):
            msg = f"Expected {', '.join(own)} beside options, whose loaders are not used, got it in them. Move it out."
            raise ValueError(msg)
        if datamodules is None:
            return name_datamodules(names, build_datamodules(datamodule, names, root, shared))
        if given := [*shared, *([] if root is None else ["root"])]:
            msg = f"Expected no {', '.join(given)} with datamodules, got both. Set them in the datamodules instead."
            raise ValueError(msg)
        return name_datamodules(names, datamodules)

    @property
    def categories(self) -> list[str]:
        """Names of the categories."""
        return list(self.datamodules)

    def categories_of(self, batch: Any) -> list[str | None]:
        """Return the category of each image of a batch; None for an image that is not from this datamodule."""
        if batch.image_path is None:
            return [None] * len(batch)
        return [self._category_by_path.get(str(path)) for path in batch.image_path]

    def threshold_categories(self, batch: Any) -> list[str | None]:
        """Return the category whose thresholds apply to each image of a batch; None for the global ones."""
        return self.categories_of(batch) if self._by_category else [None] * len(batch)

    # -------------------------------------------------------------------------------------------------------- data

    def prepare_data(self) -> None:
        """Let every datamodule download or draw its data."""
        for datamodule in self.datamodules.values():
            datamodule.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Join the data, and set up results per category."""
        super().setup(stage)
        if isinstance(stage, TrainerFn) and self.trainer is not None:  # called by a trainer, not by the user
            self._stand_in()

    def _setup(self, _stage: str | None = None) -> None:
        """Let every datamodule make its own splits, and join them."""
        for datamodule in self.datamodules.values():
            datamodule.setup(_stage)
        self._category_by_path = {}
        for subset in SUBSETS:
            parts = self._parts(subset)
            if parts:
                joined = JoinedDataset(parts)
                setattr(self, f"{subset}_data", joined)
                self._remember(joined)

    def _parts(self, subset: str) -> dict[str, Any]:
        """Return the data sets of a subset, by category; not every datamodule has a validation set."""
        parts = {name: getattr(each, f"{subset}_data", None) for name, each in self.datamodules.items()}
        return {name: part for name, part in parts.items() if part is not None}

    def _remember(self, joined: JoinedDataset) -> None:
        for path, category in zip(joined.samples["image_path"], joined.category_per_item, strict=True):
            other = self._category_by_path.setdefault(str(path), category)
            if other != category:
                msg = f"Expected each image in one category, got {path} in {other!r} and {category!r}. Remove one."
                raise ValueError(msg)

    def _create_test_split(self) -> None:
        """Do nothing: every datamodule has made its own test set."""

    def _create_val_split(self) -> None:
        """Do nothing: every datamodule has made its own validation set."""

    def _update_augmentations(self) -> None:
        """Let every datamodule add the model's resizing; equal augmentations share one object."""
        for datamodule in self.datamodules.values():
            datamodule.trainer = self.trainer
            datamodule._update_augmentations()  # noqa: SLF001  # the step of anomalib's own setup
        for subset in SUBSETS:
            made: dict[int, Transform | None] = {}
            for name, part in self._parts(subset).items():
                own = getattr(self.datamodules[name], f"{subset}_augmentations")
                part.augmentations = made.setdefault(id(own), part.augmentations)

    # ----------------------------------------------------------------------------------------------------- loaders

    def train_dataloader(self) -> Any:
        """Return a loader that mixes all categories, balanced on request."""
        if not self.balanced:
            return super().train_dataloader()
        categories = self.train_data.category_per_item
        sizes = Counter(categories)
        return DataLoader(
            self.train_data,
            batch_size=self.train_batch_size,
            sampler=WeightedRandomSampler([1 / sizes[category] for category in categories], len(categories)),
            num_workers=self.num_workers,
            collate_fn=self.external_collate_fn or self.train_data.collate_fn,
        )

    def val_dataloader(self) -> Any:
        """Return a loader of the validation images by category; an empty list if there are none."""
        return self._evaluation_loader(self.val_data) if hasattr(self, "val_data") else []

    def test_dataloader(self) -> Any:
        """Return a loader of the test images by category."""
        return self._evaluation_loader(self.test_data)

    def _evaluation_loader(self, data: JoinedDataset) -> DataLoader[Any]:
        batches = CategoryBatchSampler(
            sampler=SequentialSampler(data),
            batch_size=self.eval_batch_size,
            drop_last=False,
            categories=data.category_per_item,
        )
        return DataLoader(
            data,
            batch_sampler=batches,
            num_workers=self.num_workers,
            collate_fn=self.external_collate_fn or data.collate_fn,
        )

    # ----------------------------------------------------------------------------------------------------- results

    def _stand_in(self) -> None:
        """Replace the model's own callbacks in the trainer by ones that know the categories."""
        trainer: Any = self.trainer
        model = trainer.lightning_module
        others: dict[int, Callback] = {}
        if self.thresholds is None:
            own = model.post_processor
            from_good = type(own) is SoftPostProcessor and own.false_alarms is not None
            self._by_category = from_good and trainer.world_size == 1
        if self._by_category:
            if trainer.world_size > 1:
                msg = f"Expected one process for thresholds='category', got {trainer.world_size}. Set devices=1."
                raise ValueError(msg)
            own = model.post_processor
            model.post_processor = by_category(own)
            others[id(own)] = model.post_processor
        if model.evaluator is not None:
            raw = RawPredictions()
            trainer.callbacks.insert(0, raw)
            others[id(model.evaluator)] = CategoryEvaluator(model.evaluator, raw, self.categories, self.categories_of)
        if isinstance(model.visualizer, ImageVisualizer):
            others[id(model.visualizer)] = CategoryVisualizer(model.visualizer, self.categories_of)
        trainer.callbacks[:] = [others.get(id(callback), callback) for callback in trainer.callbacks]

    def _stand_back(self) -> None:
        """Restore the model's own callbacks in the trainer: its next data may have no categories."""
        callbacks: list[Any] = getattr(self.trainer, "callbacks", [])
        callbacks[:] = [
            callback.original if isinstance(callback, (CategoryEvaluator, CategoryVisualizer)) else callback
            for callback in callbacks
            if not isinstance(callback, RawPredictions)
        ]

    def teardown(self, stage: str) -> None:
        """Clean up after a run."""
        self._stand_back()
        for datamodule in self.datamodules.values():
            datamodule.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """Clean up after a failed run."""
        del exception
        self._stand_back()
