# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Which images count as normal and as not trained on."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from anomalib.data.utils import ValSplitMode

from anomalib_mkd.data.normal_images import held_out


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
