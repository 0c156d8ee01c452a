# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the constructor refuses, what the networks see of a batch, and the paper's preset."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import CenterCrop, Compose, RandomHorizontalFlip

from anomalib_mkd import Mmrd
from anomalib_mkd.models.mmrd.depth_pre_processor import DepthPreProcessor, default_transform

ROOT = Path(__file__).resolve().parents[4]


def build(**arguments: Any) -> Mmrd:
    return Mmrd(**{"pre_trained": False, "visualizer": False, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branches": "both"}, "Expected branches to be 'mmrd' or 'rgb' or 'aux' or 'two_branch', got 'both'"),
        ({"target_fusion": "max"}, "Expected target_fusion to be 'concat' or 'modulation' or 'mean', got 'max'"),
        ({"modality_fusion": "sum"}, "Expected modality_fusion to be 'zmax' or 'rss' or None, got 'sum'"),
        ({"loss": "flat+flat"}, "Expected loss to be"),
        ({"num_prototypes": 0}, "Expected num_prototypes >= 1 as a whole number, got 0"),
        ({"pre_processor": PreProcessor(default_transform())}, "Expected a DepthPreProcessor for branches='mmrd'"),
        (
            {"aux": "normals", "pre_processor": DepthPreProcessor(default_transform())},
            "Expected a pre-processor with the model's aux='normals', got 'depth'",
        ),
        (
            {"pre_processor": DepthPreProcessor(Compose([default_transform((96, 96)), CenterCrop(64)]))},
            r"Expected a transform that keeps the whole photo, as its depth stays whole, got CenterCrop\. Crop",
        ),
        (
            {"pre_processor": DepthPreProcessor(RandomHorizontalFlip()), "branches": "two_branch"},
            r"got RandomHorizontalFlip\. .* flips go to DepthPreProcessor\(augmentation=",
        ),
    ],
)
def test_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.slow
def test_the_papers_preset_names_every_argument_and_predicts_with_the_wide_teacher() -> None:
    preset = yaml.safe_load((ROOT / "configs" / "model" / "mmrd_paper.yaml").read_text(encoding="utf-8"))
    arguments = preset["model"]["init_args"]
    parameters = inspect.signature(Mmrd).parameters
    own = set(parameters) - {"cache_gigabytes", "pre_trained", "weights"}  # of the machine, not of the method
    assert set(arguments) == own - {"pre_processor", "post_processor", "evaluator", "visualizer"}
    model = build(**arguments).model.eval()
    assert model.teacher.channels == {"layer1": 256, "layer2": 512, "layer3": 1024}
    with torch.inference_mode():
        assert model(torch.rand(1, 6, 64, 64)).anomaly_map.isfinite().all()


def test_the_default_pre_processor_makes_what_the_model_asks_for() -> None:
    assert build(aux="normals", branches="aux").pre_processor.aux == "normals"


@pytest.mark.parametrize(
    ("branches", "channels"), [("mmrd", [1, 1, 1, 2, 2, 2]), ("two_branch", [1, 1, 1, 2, 2, 2]), ("aux", [2, 2, 2])]
)
def test_the_networks_see_photo_and_depth_as_far_as_the_branches_need_them(branches: str, channels: list[int]) -> None:
    model = build(branches=branches)
    batch = SimpleNamespace(image=torch.ones(2, 3, 32, 32), depth_map=torch.full((2, 3, 32, 32), 2.0))
    assert model.inputs(batch)[1, :, 0, 0].tolist() == channels
    with pytest.raises(ValueError, match=r"Expected a depth map with every photo for Mmrd, got none.*branches='rgb'"):
        model.inputs(SimpleNamespace(image=batch.image))


def test_an_export_is_checked_on_depth_as_in_training() -> None:
    model = build()
    assert model.example_inputs((40, 60))[1].isfinite().all()  # before training nothing is known
    model.pre_processor.calibrate([600 + torch.rand(40, 60)], (64, 64))
    depth = model.example_inputs((40, 60))[1]
    assert depth.isnan().sum() == 10 * 15
    measured = depth[depth.isfinite()]
    low, high = model.pre_processor.usual_depth
    assert low <= measured.min() < measured.max() <= high


def test_colour_alone_needs_no_depth() -> None:
    model = build(branches="rgb", pre_processor=PreProcessor(default_transform()))
    batch = SimpleNamespace(image=torch.ones(2, 3, 32, 32))
    assert model.inputs(batch) is batch.image
    assert model.input_names == ("image",)
