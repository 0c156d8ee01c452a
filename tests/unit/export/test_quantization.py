# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What 8 bits leave alone, the preparation of the inputs, and how many images they hold, on a hand-made graph."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import openvino
import torch
from openvino import opset13 as ops

from anomalib_mkd.deploy.graph import core
from anomalib_mkd.export import quantization
from anomalib_mkd.export.quantization import Lazy, quantize

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SIZE = 32


def write_graph(path: Path) -> None:
    """Write a graph that prepares a depth map by a quotient, as Mmrd's does, and convolves it twice."""
    random = np.random.default_rng(0)
    depth = ops.parameter([1, 1, SIZE, SIZE], np.float32, name="depth")
    depth.output(0).set_names({"depth"})
    prepared = ops.divide(ops.multiply(depth, np.float32(3)), ops.clamp(depth, 0.5, 9.0))
    features = ops.concat([prepared] * 3, axis=1)
    for channels in (3, 8):
        weights = ops.constant(random.normal(size=(8, channels, 3, 3)).astype(np.float32))
        features = ops.relu(ops.convolution(features, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    features.output(0).set_names({"features"})
    openvino.save_model(openvino.Model([ops.result(features)], [depth]), path, compress_to_fp16=False)


def above(operator: openvino.Node) -> set[str]:
    """Return the types of all operators that an operator reads from."""
    sources = [taken.get_source_output().get_node() for taken in operator.inputs()]
    return {source.get_type_name() for source in sources}.union(*map(above, sources))


def test_what_prepares_an_input_is_not_quantised(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    write_graph(path)
    random = torch.Generator().manual_seed(0)
    quantize(path, [[torch.rand(1, SIZE, SIZE, generator=random)] for _ in range(8)])
    first, second = [
        operator for operator in core().read_model(path).get_ordered_ops() if operator.get_type_name() == "Convolution"
    ]
    assert "FakeQuantize" not in above(first)
    assert "FakeQuantize" in above(second)


def test_a_few_photos_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, alive, most = tmp_path / "model.xml", 0, 0
    write_graph(path)

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def read(index: int) -> list[torch.Tensor]:
        nonlocal alive, most
        photo = torch.rand(1, SIZE, SIZE, generator=torch.Generator().manual_seed(index))
        weakref.finalize(photo, gone)
        alive += 1
        most = max(most, alive)
        return [photo]

    monkeypatch.setattr(quantization, "KEPT_BYTES", 0)
    quantize(path, Lazy(read, range(20)))
    assert most <= 3
    lazy = path.with_suffix(".bin").read_bytes()
    write_graph(path)
    monkeypatch.undo()
    quantize(path, [read(index) for index in range(20)])
    assert path.with_suffix(".bin").read_bytes() == lazy
