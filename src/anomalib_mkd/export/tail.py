# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The end of an OpenVINO graph: scales scores and maps by four numbers that stay constants with a name.

Exported with the networks, they would be folded into others, and no threshold could be moved without training again.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import openvino
import torch
from torch import Tensor, nn

from anomalib_mkd.deploy.graph import constants_of
from anomalib_mkd.terminal.quiet import quiet_exporters
from anomalib_mkd.thresholds import soft_scale

if TYPE_CHECKING:
    from anomalib_mkd.thresholds import Scale

OUTPUTS = ("pred_score", "pred_label", "anomaly_map", "pred_mask")


class Raw(NamedTuple):
    """What a graph returns before its tail: raw scores ``(N,)`` and maps ``(N, 1, H, W)``."""

    pred_score: Tensor
    anomaly_map: Tensor


class Tail(nn.Module):
    """Scaling, labels and masks of :class:`SoftPostProcessor`, with thresholds and scales as inputs.

    Args:
        label_above: Place on the scale of scores above which a part is bad.
        mask_above: Place on the scale of maps above which a pixel is.
    """

    def __init__(self, label_above: float, mask_above: float) -> None:
        super().__init__()
        self.label_above = label_above
        self.mask_above = mask_above

    def forward(
        self,
        pred_score: Tensor,
        anomaly_map: Tensor,
        image_threshold: Tensor,
        image_scale: Tensor,
        pixel_threshold: Tensor,
        pixel_scale: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return scaled scores ``(N,)``, labels, scaled maps ``(N, 1, H, W)`` and masks of raw scores and maps."""
        scores = soft_scale((pred_score - image_threshold) / image_scale)
        maps = soft_scale((anomaly_map - pixel_threshold) / pixel_scale)
        labels = ~(scores <= self.label_above)  # NaN is never good
        return scores, labels, maps, ~(maps <= self.mask_above) & labels.reshape(-1, 1, 1, 1)


def add_tail(model: openvino.Model, image: Scale, pixel: Scale, tail: Tail) -> openvino.Model:
    """Add the tail to a graph with the outputs ``pred_score`` and ``anomaly_map``, both raw.

    Args:
        model: The graph; unusable afterwards.
        image: Threshold and scale of scores.
        pixel: Threshold and scale of maps.
        tail: What to add.

    Returns:
        A graph with anomalib's four outputs, and the constants of :func:`constants_of`.
    """
    numbers = constants_of(image, pixel)
    example = {"pred_score": torch.zeros(2), "anomaly_map": torch.zeros(2, 1, 4, 4)}
    with quiet_exporters(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # OpenVINO traces with what torch will drop
        end = openvino.convert_model(tail.eval(), example_input=example | dict.fromkeys(numbers, torch.ones(())))
    for parameter in end.get_parameters():
        name = parameter.output(0).any_name
        if name in numbers:
            constant = openvino.opset13.constant(np.float32(numbers[name]))
            constant.set_friendly_name(name)
            source = constant.output(0)
        else:
            source = model.output(name).get_node().input_value(0)
        parameter.output(0).replace(source)
    results = end.get_results()
    for result, name in zip(results, OUTPUTS, strict=True):
        result.output(0).set_names({name})
        result.input_value(0).set_names({name})
        result.set_friendly_name(name)
    return openvino.Model(results, model.get_parameters(), "anomalib_mkd")
