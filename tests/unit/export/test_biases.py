# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""After the correction, convolutions in 8 bits have the means of those in full precision, on a hand-made graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops

from anomalib_mkd.deploy.graph import EXACT, core
from anomalib_mkd.export.biases import correct_biases
from anomalib_mkd.export.quantization import quantize

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE, CHANNELS = 16, 8
NAMES = ("first", "second", "beside", "last")


def convolution(features: openvino.Output, name: str, random: np.random.Generator) -> openvino.Node:
    weights = random.normal(size=(CHANNELS, features.get_shape()[1], 3, 3)).astype(np.float32)
    made = ops.convolution(features, ops.constant(weights / 4), [1, 1], [1, 1], [1, 1], [1, 1])
    made.set_friendly_name(name)
    return made


def write_graph(path: Path) -> None:
    """Write a graph with two inputs: convolutions after a pool and a concatenation, two of four without a bias."""
    random = np.random.default_rng(0)
    photo, depth = (ops.parameter([1, channels, SIZE, SIZE], np.float32) for channels in (3, 4))
    photo.output(0).set_names({"image"})
    depth.output(0).set_names({"depth"})
    stem = ops.relu(convolution(photo.output(0), "stem", random))
    bias = ops.constant(random.normal(size=(1, CHANNELS, 1, 1)).astype(np.float32))
    pooled = ops.max_pool(stem, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    first = ops.relu(ops.add(convolution(pooled, "first", random), bias))
    second = ops.relu(convolution(first.output(0), "second", random))
    beside = ops.relu(convolution(depth.output(0), "beside", random))
    last = ops.add(convolution(ops.concat([second, beside], 1).output(0), "last", random), bias)
    last.output(0).set_names({"features"})
    openvino.save_model(openvino.Model([ops.result(last)], [photo, depth]), path, compress_to_fp16=False)


def means(path: Path, inputs: list[list[torch.Tensor]]) -> dict[str, NDArray[np.float32]]:
    """Return the mean per channel of what follows each convolution: its bias, if it has one."""
    model = core().read_model(path)
    taps = {}
    for operator in model.get_ops():
        if operator.get_friendly_name() in NAMES:
            (taken,) = operator.output(0).get_target_inputs()
            follower = taken.get_node()
            taps[operator.get_friendly_name()] = follower if follower.get_type_name() == "Add" else operator
    compiled = core().compile_model(
        openvino.Model([taps[name].output(0) for name in NAMES], model.get_parameters()), "CPU", EXACT
    )
    results = [compiled([value.numpy()[None] for value in given]) for given in inputs]
    return {name: np.mean([found[n].mean((0, 2, 3)) for found in results], 0) for n, name in enumerate(NAMES)}


@pytest.fixture
def inputs() -> list[list[torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [[torch.rand(channels, SIZE, SIZE, generator=random) for channels in (3, 4)] for _ in range(4)]


def test_means_are_those_of_full_precision(tmp_path: Path, inputs: list[list[torch.Tensor]]) -> None:
    path = tmp_path / "model.xml"
    write_graph(path)
    wanted = means(path, inputs)
    quantize(path, inputs)
    types = [operator.get_type_name() for operator in core().read_model(path).get_ops()]
    assert types.count("FakeQuantize") > 2
    found = means(path, inputs)
    for name in NAMES:
        np.testing.assert_allclose(found[name], wanted[name], atol=0.003, err_msg=name)


def test_what_a_single_image_shows_is_not_clipped(tmp_path: Path, inputs: list[list[torch.Tensor]]) -> None:
    path = tmp_path / "model.xml"
    write_graph(path)
    inputs[2] = [10 * value for value in inputs[2]]
    wanted = means(path, inputs[2:3])["last"]
    quantize(path, inputs)
    np.testing.assert_allclose(means(path, inputs[2:3])["last"], wanted, atol=0.02 * np.abs(wanted).max())


def test_a_bias_counts_once_where_something_stands_before_it(tmp_path: Path, inputs: list[list[torch.Tensor]]) -> None:
    path = tmp_path / "model.xml"
    write_graph(path)
    full, wanted = core().read_model(path), means(path, inputs)["last"]
    quantize(path, inputs)
    graph = core().read_model(path)
    (last,) = (operator for operator in graph.get_ops() if operator.get_friendly_name() == "last")
    readers = last.output(0).get_target_inputs()
    between = ops.multiply(last, ops.constant(np.float32(1.2)))
    for taken in readers:
        taken.replace_source_output(between.output(0))
    correct_biases(
        graph, full, [dict(zip(("image", "depth"), (v.numpy()[None] for v in g), strict=True)) for g in inputs]
    )
    compiled = core().compile_model(graph, "CPU", EXACT)
    found = [compiled([value.numpy()[None] for value in given])["features"].mean((0, 2, 3)) for given in inputs]
    np.testing.assert_allclose(np.mean(found, 0), wanted, atol=0.003)
