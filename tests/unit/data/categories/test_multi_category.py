# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Several categories as one datamodule; nothing is trained here."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from anomalib.data import MPDD, AnomalibDataModule, Folder, MVTecAD, UCSDped, Visa, get_datamodule
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import OmegaConf
from torchvision.transforms.v2 import RandomHorizontalFlip, Resize

import anomalib_mkd.models  # noqa: F401  (registers)
from anomalib_mkd.data import MultiCategory, Parts, Quickstart
from tests.category_folders import draw_category

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/dent"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three categories of different size, format, colour mode and number of images."""
    draw_category(tmp_path / "bolt", train=10)
    draw_category(tmp_path / "nut", suffix=".png", size=48, mode="L")
    draw_category(tmp_path / "washer", suffix=".png", mask="{}.png")
    return tmp_path


def ready(*arguments: object, **options: object) -> MultiCategory:
    data = MultiCategory(*arguments, num_workers=0, **options)
    data.prepare_data()
    data.setup()
    return data


def sizes(data: MultiCategory) -> dict[str, dict[str, int]]:
    subsets = {"train": data.train_data, "val": data.val_data, "test": data.test_data}
    return {name: dict(Counter(subset.category_per_item)) for name, subset in subsets.items()}


def test_anomalib_lists_it() -> None:
    assert MultiCategory in AnomalibDataModule.__subclasses__()


def test_folders_of_any_format(root: Path) -> None:
    data = ready(categories=["bolt", "nut"], root=root, train_batch_size=12)
    assert (data.name, data.category, data.task) == ("MultiCategory", "", "segmentation")
    assert sizes(data) == {
        "train": {"bolt": 8, "nut": 4},
        "val": {"bolt": 2, "nut": 1},
        "test": {"bolt": 4, "nut": 4},
    }
    batch = next(iter(data.train_dataloader()))
    assert batch.image.shape == (12, 3, 64, 64)
    assert Counter(data.categories_of(batch)) == {"bolt": 8, "nut": 4}


def test_evaluation_batches_hold_one_category(root: Path) -> None:
    data = ready(categories=["bolt", "nut", "washer"], root=root, eval_batch_size=3)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert sum(len(batch) for batch in batches) == len(loader.dataset)
        for batch in batches:
            assert len({*data.categories_of(batch)}) == 1
            assert len(batch) <= 3


def test_classes_of_anomalib(root: Path) -> None:
    """By name, by path and as they are; with their own defaults and with ours."""
    for name in ("MVTecAD", "anomalib.data.MVTecAD", MVTecAD):
        data = ready(name, ["nut", "washer"], root)
        assert sizes(data)["val"] == {"nut": 4, "washer": 4}  # anomalib's default: the test set
    data = ready("MVTecAD", ["nut", "washer"], root, val_split_mode="from_train", val_split_ratio=0.4, seed=1)
    assert sizes(data)["val"] == {"nut": 2, "washer": 2}


def test_layouts_of_visa_and_mpdd(tmp_path: Path) -> None:
    draw_category(tmp_path / "visa_pytorch" / "candle", defects={"bad": 2}, suffix=".JPG", mask="{}.png")
    draw_category(tmp_path / "visa_pytorch" / "pcb1", defects={"bad": 2}, suffix=".JPG", mask="{}.png")
    data = ready(Visa, ["candle", "pcb1"], tmp_path)
    assert sizes(data)["test"] == {"candle": 4, "pcb1": 4}
    draw_category(tmp_path / "tubes", suffix=".png")
    draw_category(tmp_path / "connector", suffix=".png")
    assert sizes(ready(MPDD, ["tubes", "connector"], tmp_path))["test"] == {"connector": 4, "tubes": 4}


def test_roots_of_folder(root: Path) -> None:
    data = ready("Folder", ["bolt", "washer"], root, options=FOLDER, val_split_mode="same_as_test")
    assert sizes(data)["test"] == {"bolt": 4, "washer": 4}
    assert data.task == "classification"


def test_whole_datamodules(root: Path, tmp_path: Path) -> None:
    """Of different classes, objects or configurations of them, under their own names or others."""
    own = Quickstart(tmp_path / "drawn", "metal", image_size=64, train_images=10, test_good=2, per_defect=1)
    folder = Folder(name="folder", root=root / "bolt", **FOLDER)
    configuration = {"class_path": "MVTecAD", "init_args": {"root": str(root), "category": "nut"}}
    data = ready(datamodules=[own, folder, configuration])
    assert data.categories == ["metal", "folder", "nut"]
    assert sizes(data)["test"] == {"metal": 5, "folder": 2, "nut": 4}  # anomalib's Folder validates on half of it
    renamed = MultiCategory(datamodules=[own, folder], categories=["a", "b"])
    assert renamed.categories == ["a", "b"]


def test_configurations_as_the_benchmark_command_reads_them(root: Path) -> None:
    config = OmegaConf.create(
        {"class_path": "MultiCategory", "init_args": {"root": str(root), "categories": ["bolt", "nut"]}}
    )
    assert get_datamodule(config).categories == ["bolt", "nut"]
    nested = {"class_path": "MVTecAD", "init_args": {"root": str(root), "category": "nut"}}
    config = {"class_path": "MultiCategory", "init_args": {"datamodules": [nested]}}
    assert isinstance(get_datamodule(config).datamodules["nut"], MVTecAD)


def test_one_category(root: Path) -> None:
    assert ready(categories="nut", root=root).categories == ["nut"]
    assert MultiCategory(categories=["nut"], root=root).categories == ["nut"]


def test_the_last_part_of_a_path_is_the_name(tmp_path: Path) -> None:
    draw_category(tmp_path / "a" / "bolt")
    draw_category(tmp_path / "b" / "nut")
    assert ready(categories=["a/bolt", "b/nut"], root=tmp_path).categories == ["bolt", "nut"]


def test_balanced_drawing(root: Path) -> None:
    data = ready(categories=["bolt", "nut"], root=root, balanced=True, train_batch_size=4)
    torch.manual_seed(0)
    drawn = Counter(name for _ in range(40) for batch in data.train_dataloader() for name in data.categories_of(batch))
    assert drawn.total() == 40 * 12  # an epoch stays as long
    assert abs(drawn["nut"] / drawn.total() - 0.5) < 0.07  # 4 of 12 images
    assert len(data.train_dataloader()) == 3


def test_every_datamodule_keeps_its_augmentations(root: Path) -> None:
    flip = RandomHorizontalFlip()
    data = ready(
        datamodules=[Parts(root, "bolt", train_augmentations=flip), Parts(root, "nut")],
    )
    assert data.train_data.parts["bolt"].augmentations is flip
    assert data.train_data.parts["nut"].augmentations is None
    shared = ready(categories=["bolt", "nut"], root=root, augmentations=flip)
    assert shared.train_data.augmentations is flip


def test_the_models_resize_is_one_object(root: Path) -> None:
    """So that a cache knows that all images are fixed, whatever their category."""

    class Model(torch.nn.Module):
        pre_processor = torch.nn.Module()

    Model.pre_processor.transform = Resize((32, 32))
    data = MultiCategory(
        categories=["bolt", "nut"], root=root, train_batch_size=12, train_augmentations=Resize((40, 40))
    )
    data.trainer = type("Trainer", (), {"model": Model()})()
    data.setup("fit")
    assert isinstance(data.train_data.augmentations, Resize)
    assert next(iter(data.train_dataloader())).image.shape == (12, 3, 32, 32)


def test_without_validation_images_there_is_no_loader(root: Path) -> None:
    data = ready(categories=["bolt", "nut"], root=root, val_split_mode="none")
    assert data.val_dataloader() == []
    some = ready(datamodules=[Parts(root, "bolt", val_split_mode="none"), Parts(root, "nut")])
    assert set(some.val_data.category_per_item) == {"nut"}


def test_foreign_images_have_no_category(root: Path) -> None:
    data = ready(categories=["bolt"], root=root)
    batch = next(iter(data.test_dataloader()))
    assert data.threshold_categories(batch) == [None] * 4
    data = ready(categories=["bolt"], root=root, thresholds="category")
    assert data.threshold_categories(batch) == ["bolt"] * 4
    batch.image_path = ["elsewhere.png"] * 4
    assert data.categories_of(batch) == [None] * 4
    batch.image_path = None
    assert data.categories_of(batch) == [None] * 4


# ---------------------------------------------------------------------------------------------------------- errors


def test_unknown_categories_name_the_known_ones(root: Path) -> None:
    """Anomalib would download the whole data set and then find no such folder."""
    MultiCategory("MVTecAD", "all", root=root)  # the command line would bury the error
    with pytest.raises(ValueError, match=r"categories of MVTecAD, got 'all', .*Choose from: bottle, cable"):
        ready("MVTecAD", "all", root=root)
    with pytest.raises(ValueError, match=r"categories of Visa, got 'all', .*Choose from: candle, "):
        ready("Visa", ["candle", "all"])
    with pytest.raises(ValueError, match="fabric or metal or washer, got 'all'"):
        ready("Quickstart", ["all"], root=root)
    with pytest.raises(FileNotFoundError, match="bolt, nut, washer"):
        ready(categories="all", root=root).setup()
    with pytest.raises(FileNotFoundError, match=r"Expected the folder .*all, got none.*bolt, nut, washer"):
        ready("Folder", ["bolt", "all"], root, options=FOLDER)


def test_a_missing_folder_is_named(root: Path) -> None:
    """Of a data set that anomalib knows and cannot download."""
    draw_category(root / "tubes", suffix=".png")
    with pytest.raises(FileNotFoundError, match="connector"):
        ready("MPDD", ["tubes", "connector"], root)


@pytest.mark.parametrize("given", [{}, {"categories": []}, {"datamodules": []}])
def test_nothing_given(given: dict[str, list[str]], root: Path) -> None:
    with pytest.raises(ValueError, match=r"at least one, got 0 names and 0 datamodules. List the categories"):
        ready(**given, **({} if "datamodules" in given else {"root": root}))


def test_names_twice(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"distinct names .*, got 'nut' in .*List each once; name .* \[part_a, part_b\]"
    ):
        ready(categories=["nut", "bolt", "nut"], root=root)
    with pytest.raises(
        ValueError, match=r"distinct names .*, got 'nut' in .* by categories, such as \[part_a, part_b\]"
    ):
        ready(datamodules=[Parts(root, "nut"), MVTecAD(root, "nut")])
    with pytest.raises(ValueError, match="got 1 names and 2 datamodules"):
        ready(datamodules=[Parts(root, "nut"), MVTecAD(root, "nut")], categories=["a"])
    with pytest.raises(ValueError, match=r"got '\.\.' in "):
        ready(datamodules=[Parts(root, "nut")], categories=[".."])


def test_an_image_in_two_categories(root: Path) -> None:
    data = MultiCategory(datamodules=[Parts(root, "nut"), MVTecAD(root, "nut")], categories=["a", "b"])
    with pytest.raises(ValueError, match=r"each image in one category, got .*nut.* in 'a' and 'b'"):
        data.setup()


def test_classes_that_do_not_fit(root: Path) -> None:
    with pytest.raises(TypeError, match=r"datamodule class, got 'MVTec'. Use a dotted path, or one of: .*MVTecAD"):
        ready("MVTec", ["bottle"])
    with pytest.raises(TypeError, match="datamodule class"):
        ready("pathlib.Path", ["bottle"])
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        ready("nowhere.MVTecAD", ["bottle"])
    with pytest.raises(ValueError, match=r"argument category or name, got Kolektor\. List whole datamodules"):
        ready("Kolektor", ["bottle"], root)
    with pytest.raises(ValueError, match=r"arguments of Folder, got none for \['normal_dir'\]"):
        ready("Folder", ["bolt"], root)
    with pytest.raises(ValueError, match=r"arguments of Parts, got none for \['root'\]"):
        ready(categories=["bolt"])
    with pytest.raises(ValueError, match=r"unknown ones \['normal_dir'\]"):
        ready("MVTecAD", ["nut"], root, options={"normal_dir": "good"})
    with pytest.raises(ValueError, match=r"Expected num_workers, train_batch_size beside options, .* Move it out\."):
        ready("MVTecAD", ["nut"], root, options={"train_batch_size": 2, "num_workers": 3})
    with pytest.raises(TypeError, match="datamodules of images, got UCSDped"):
        ready(datamodules=[UCSDped()])
    with pytest.raises(TypeError, match="datamodules of images, got str"):
        ready(datamodules=["MVTecAD"])


def test_arguments_that_exclude_each_other(root: Path) -> None:
    one = Parts(root, "nut")
    with pytest.raises(ValueError, match="no seed, root with datamodules"):
        ready(datamodules=[one], seed=3, root=root)
    with pytest.raises(ValueError, match="thresholds to be 'global' or 'category' or None, got 'both'"):
        ready(datamodules=[one], thresholds="both")


def test_thresholds_per_category_need_one_process(root: Path) -> None:
    data = MultiCategory(categories=["nut"], root=root, num_workers=0, thresholds="category")
    data.trainer = SimpleNamespace(world_size=2, callbacks=[], lightning_module=None)
    with pytest.raises(ValueError, match=r"one process for thresholds='category', got 2\. Set devices=1"):
        data.setup(TrainerFn.FITTING)


def test_without_a_trainer_it_can_be_split_once_for_all(root: Path) -> None:
    data = MultiCategory(categories=["nut"], root=root, seed=None)
    data.prepare_data()
    data.setup(TrainerFn.FITTING)
    before = data.train_data
    data.setup(TrainerFn.TESTING)
    assert data.train_data is before


def test_a_datamodule_without_a_trainer_can_be_torn_down(root: Path) -> None:
    data = ready(categories=["nut"], root=root)
    data.teardown("fit")
    assert len(data.test_data) == 4
