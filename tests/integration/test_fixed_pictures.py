# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Teacher features are cached only where a training image looks the same in every epoch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from torchvision.transforms.v2 import Compose, RandomHorizontalFlip, Resize

from anomalib_mkd import MixedDistillation
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.filterwarnings(text) for text in NOISE]
SMALL = Resize((64, 64), antialias=True)


class Brighter(Callback):
    """Changes the images of each batch."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        del trainer, pl_module, batch_idx
        batch.image = batch.image * torch.rand(())


def noisy(collate: Any) -> Any:
    """A collate function that changes the images."""

    def collated(items: Any) -> Any:
        batch = collate(items)
        batch.image = batch.image + torch.rand(())
        return batch

    return collated


def said_of_a_training(folder: Path, caplog: pytest.LogCaptureFixture, transform: Any = SMALL, **options: Any) -> str:
    data = make_data(folder, **options.pop("data", {}))
    if options.pop("collate", False):
        data.external_collate_fn = noisy(ImageBatch.collate)
    model = MixedDistillation(
        weights="quickstart", student_width=0.25, visualizer=False, pre_processor=PreProcessor(transform)
    )
    with caplog.at_level(logging.INFO, logger="anomalib_mkd"):
        make_engine(folder, max_steps=1, max_epochs=-1, limit_val_batches=0, **options).fit(model, datamodule=data)
    return "".join(text for text in caplog.messages if text.startswith("The teacher runs in every step"))


def test_fixed_pictures_are_cached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not said_of_a_training(tmp_path, caplog)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"transform": Compose([SMALL, RandomHorizontalFlip(0.5)])}, "RandomHorizontalFlip may change images"),
        ({"data": {"train_augmentations": RandomHorizontalFlip(0.5)}}, "RandomHorizontalFlip may change images"),
        ({"callbacks": [Brighter()]}, "Brighter.on_train_batch_start may change images"),
        ({"collate": True}, "collate_fn may change images"),
    ],
    ids=["transform", "augmentation", "callback", "collate"],
)
def test_what_changes_pictures_is_named(
    options: dict[str, Any], what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert what in said_of_a_training(tmp_path, caplog, **options)
