# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Running a model through anomalib's engine in a test: on the CPU, silent, writing into a folder of the test's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomalib.engine import Engine

from anomalib_mkd.data import Quickstart

if TYPE_CHECKING:
    from pathlib import Path

# What Lightning says about a machine, about itself and about a frozen teacher, in every training.
NOISE = (
    "ignore:.*does not have many workers:UserWarning",
    "ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning",
    "ignore:Found .* in eval mode at the start of training:UserWarning",
    "ignore:The dirpath has changed:UserWarning",
    "ignore:.max_epochs. was not set:UserWarning",
    "ignore:.pin_memory. argument is set as true:UserWarning",
)


def make_engine(folder: Path, **arguments: Any) -> Engine:
    """An engine that reports to nobody."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Engine(default_root_dir=folder, accelerator="cpu", devices=1, **quiet, **arguments)


def make_data(root: Path, **arguments: Any) -> Quickstart:
    """Eight training images of metal of 64 pixels, two of them for validation, and five to test on."""
    tiny = {"image_size": 64, "train_images": 8, "test_good": 2, "per_defect": 1, "train_batch_size": 3}
    return Quickstart(root, category="metal", **{**tiny, "eval_batch_size": 4, **arguments})
