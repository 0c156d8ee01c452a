# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A hand-made export: its raw map is the mean of an image's colours, its raw score the maximum of the map.

It scales and labels as our exports do, so a white part of an image is a defect.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from openvino import opset13 as ops

from anomalib_mkd.deploy.metadata import Input, Metadata, write
from anomalib_mkd.thresholds import Scale

if TYPE_CHECKING:
    from pathlib import Path

METADATA = Metadata(
    model="MixedDistillation",
    arguments={"score_share": 0.0},
    versions={"anomalib_mkd": "0.1.0"},
    date="2026-11-28T22:50:00+00:00",
    precision="f32",
    inputs={"image": Input(3, range=(0, 1))},
    image=Scale(0.5, 0.2),
    pixel=Scale(0.6, 0.4),
    false_alarms=0.01,
    good_scores=tuple(np.linspace(0.2, 0.4, 20).tolist()),
    score_share=0.0,
)


def graph(metadata: Metadata) -> openvino.Model:
    """Build the graph that belongs to the metadata; with a depth, it is added to the map."""
    inputs = {
        name: ops.parameter([-1, own.channels, *(own.size or (-1, -1))], np.float32, name=name)
        for name, own in metadata.inputs.items()
    }
    for name, taken in inputs.items():
        taken.output(0).set_names({name})
    raw_map = ops.reduce_mean(inputs["image"], [1], keep_dims=True)
    if "depth" in inputs:
        raw_map = ops.add(raw_map, inputs["depth"])
    raw_score = ops.reduce_max(raw_map, [1, 2, 3])

    def scaled(raw: Any, name: str, scale: Scale) -> Any:
        constants = []
        for part, value in (("threshold", scale.threshold), ("scale", scale.scale)):
            constants.append(ops.constant(np.float32(value)))
            constants[-1].set_friendly_name(f"{name}_{part}")
        x = ops.divide(ops.subtract(raw, constants[0]), constants[1])
        return ops.add(ops.divide(x, ops.add(ops.multiply(ops.abs(x), np.float32(2)), np.float32(1))), np.float32(0.5))

    score, anomaly_map = scaled(raw_score, "image", metadata.image), scaled(raw_map, "pixel", metadata.pixel)
    label = ops.logical_not(ops.less_equal(score, np.float32(0.5)))
    mask = ops.logical_and(
        ops.greater(anomaly_map, np.float32(0.5)), ops.reshape(label, np.array([-1, 1, 1, 1]), special_zero=False)
    )
    results = []
    for name, node in (("pred_score", score), ("pred_label", label), ("anomaly_map", anomaly_map), ("pred_mask", mask)):
        node.output(0).set_names({name})
        results.append(ops.result(node))
    return openvino.Model(results, list(inputs.values()), "hand-made")


def write_export(folder: Path, **changes: Any) -> Path:
    """Write ``model.xml``, ``model.bin`` and ``model.json``; ``changes`` are other metadata than ``METADATA``."""
    metadata = dataclasses.replace(METADATA, **changes)
    path = folder / "model.xml"
    write(path, graph(metadata), metadata)
    return path


def picture(height: int = 40, width: int = 60, *, spot: tuple[slice, slice] | None = None) -> Any:
    """Draw a dark part, with a white spot."""
    array = np.full((height, width, 3), 51, np.uint8)
    if spot is not None:
        array[spot] = 255
    return array
