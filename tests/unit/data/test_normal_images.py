# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which images count as normal and as not trained on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from anomalib.data.utils import ValSplitMode
from torch.utils.data import DataLoader, Dataset, IterableDataset

from anomalib_mkd import MixedDistillation
from anomalib_mkd.data.normal_images import check_sized, good_indices, held_out
from anomalib_mkd.functional import evenly_spaced
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]


@pytest.mark.parametrize(
    ("mode", "labels", "there"),
    [("from_dir", [0, 0], True), ("from_train", [0], True), ("from_dir", [0, 1], False), ("same_as_test", [0], False)],
)
def test_held_out_images_are_normal_and_no_test_images(mode: str, labels: list[int], *, there: bool) -> None:
    dataset = SimpleNamespace(samples=pd.DataFrame({"label_index": labels}))
    found = held_out(SimpleNamespace(val_split_mode=ValSplitMode(mode), val_data=dataset))
    assert found is (dataset if there else None)


def test_without_a_datamodule_or_validation_images_there_are_none() -> None:
    assert held_out(None) is None
    assert held_out(SimpleNamespace(val_split_mode=ValSplitMode.FROM_DIR)) is None


def test_those_of_several_categories_count_if_each_holds_some_out() -> None:
    dataset = SimpleNamespace(samples=pd.DataFrame({"label_index": [0, 0]}))
    for mode, there in (("from_train", True), ("same_as_test", False)):
        parts = {
            name: SimpleNamespace(val_split_mode=ValSplitMode(own))
            for name, own in (("bolt", "from_train"), ("nut", mode))
        }
        joined = SimpleNamespace(val_split_mode=ValSplitMode.NONE, datamodules=parts, val_data=dataset)
        assert (held_out(joined) is dataset) is there


def test_of_several_categories_each_has_good_images_chosen() -> None:
    def chosen(most: int, **sizes: int) -> dict[str, list[int]]:
        names = [name for name, size in sizes.items() for _ in range(size)]
        rows = pd.DataFrame({"label_index": [0] * len(names), "category": names}, index=range(9, 9 + len(names)))
        found = good_indices(SimpleNamespace(samples=rows), most)
        return {name: [index for index in found if names[index] == name] for name in sizes}

    unequal = chosen(64, large=300, small=10)
    assert unequal == {"large": [index * 300 // 32 for index in range(32)], "small": list(range(300, 310))}
    assert {len(of) for of in chosen(64, **{f"part{number}": 40 for number in range(30)}).values()} == {16}
    assert [index for of in chosen(64, low=50, high=50).values() for index in of] == evenly_spaced(100, 64)


def test_without_categories_good_images_are_evenly_spaced() -> None:
    rows = pd.DataFrame({"label_index": [0, 1] * 100})
    assert good_indices(SimpleNamespace(samples=rows), 50) == list(range(0, 200, 4))
    assert good_indices([object()] * 200, 50) == list(range(0, 200, 4))
    assert good_indices(None, 50) == []


class Stream(IterableDataset[Any]):
    """The items of a data set, one after the other."""

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return (self.items[index] for index in range(6))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
@pytest.mark.parametrize(("kind", "named"), [("stream", "Stream"), ("list", "list"), ("dict", "dict")])
def test_training_images_that_cannot_be_read_again_are_refused_at_once(tmp_path: Path, kind: str, named: str) -> None:
    data = make_data(tmp_path)
    data.prepare_data()
    data.setup()
    items, collate = data.train_data, data.train_data.collate_fn
    loader: Any = DataLoader(Stream(items) if kind == "stream" else items, 2, collate_fn=collate)
    loaders = {"stream": loader, "list": [loader], "dict": {"good": loader}}[kind]
    engine = make_engine(tmp_path, max_steps=2)
    model = MixedDistillation(weights="quickstart", visualizer=False)
    with pytest.raises(ValueError, match=rf"^Expected one training loader of .*, got {named}\. Pass such"):
        engine.fit(model, train_dataloaders=loaders)
    assert engine.trainer.global_step == 0


def test_a_list_of_items_is_a_data_set() -> None:
    check_sized(DataLoader([1, 2, 3]))  # type: ignore[arg-type]  # torch takes it
