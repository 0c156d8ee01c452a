# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The tail of an OpenVINO graph does what our post-processor does in torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino
import pytest
import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_mkd.deploy.graph import core
from anomalib_mkd.export.tail import OUTPUTS, Raw, Tail, add_tail
from anomalib_mkd.post_processor import SoftPostProcessor
from anomalib_mkd.thresholds import Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE, PIXEL = Scale(0.5, 0.2), Scale(0.7, 0.3)


class Peak(nn.Module):
    def forward(self, image: Tensor) -> Raw:
        maps = image.mean(dim=1, keepdim=True)
        return Raw(maps.amax(dim=(1, 2, 3)), maps)


def raw_graph() -> openvino.Model:
    graph = openvino.convert_model(Peak(), example_input=torch.rand(2, 3, 8, 8))
    graph.input(0).set_names({"image"})
    for output, name in zip(graph.outputs, Raw._fields, strict=True):
        output.set_names({name})
    return graph


def predicted(graph: openvino.Model, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {output.any_name: value for output, value in compiled({"image": images}).to_dict().items()}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("sensitivity", [0.5, 0.7])
def test_it_scales_and_labels_as_the_post_processor(sensitivity: float) -> None:
    post_processor = SoftPostProcessor(image_sensitivity=sensitivity)
    post_processor.set_scales(IMAGE, PIXEL)
    images = torch.rand(6, 3, 5, 7) * torch.linspace(0.1, 1.2, 6).view(-1, 1, 1, 1)
    raw = Peak()(images)
    expected = post_processor(InferenceBatch(pred_score=raw.pred_score, anomaly_map=raw.anomaly_map))
    found = predicted(add_tail(raw_graph(), IMAGE, PIXEL, Tail(1 - sensitivity, 0.5)), images.numpy())
    assert set(found) == set(OUTPUTS)
    assert 0 < expected.pred_label.sum() < 6
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], getattr(expected, name).numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_is_not_finite_is_bad() -> None:
    images = np.full((1, 3, 4, 4), np.nan, np.float32)
    assert predicted(add_tail(raw_graph(), IMAGE, PIXEL, Tail(0.5, 0.5)), images)["pred_label"].tolist() == [True]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_its_four_numbers_are_constants_with_names() -> None:
    graph = add_tail(raw_graph(), IMAGE, PIXEL, Tail(0.5, 0.5))
    constants = {node.get_friendly_name(): node for node in graph.get_ops() if node.get_type_name() == "Constant"}
    for kind, scale in (("image", IMAGE), ("pixel", PIXEL)):
        assert constants[f"{kind}_threshold"].data == np.float32(scale.threshold)
        assert constants[f"{kind}_scale"].data == np.float32(scale.scale)
