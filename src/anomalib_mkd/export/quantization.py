# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""OpenVINO models in 8 bits, calibrated on normal training images.

anomalib calibrates on the validation loader, which by default holds the test images, defects included, and feeds
photos of any size to a model whose size may be fixed.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import openvino
from anomalib.data import AnomalibDataModule
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.terminal.quiet import quiet_exporters

CALIBRATION_IMAGES = 300
"""NNCF's default number of images."""


def calibration_items(datamodule: AnomalibDataModule) -> Iterator[Any]:
    """Read training items, evenly spaced over the training set.

    Args:
        datamodule: Its training images are normal, as in all of anomalib's one-class datamodules.

    Yields:
        Items with an ``image`` ``(3, H, W)`` in 0..1, at its original size.
    """
    datamodule.prepare_data()
    datamodule.setup("fit")
    dataset = datamodule.train_data
    for index in evenly_spaced(len(dataset), CALIBRATION_IMAGES):
        yield dataset[index]


def quantize(path: Path, inputs: Iterable[Sequence[Tensor]]) -> None:
    """Replace a model by one whose networks compute in 8 bits.

    Distances stay in full precision, which costs no time: they are small differences of large numbers, of which 8 bits
    would leave little. So do the convolutions that read the image.

    Args:
        path: The ``.xml`` file of an OpenVINO model whose inputs are ``(N, C, H, W)``.
        inputs: The model's inputs for each image, ``(C, H, W)`` each: the photo in 0..1, then any others. If the
            model's size is fixed, photos are resized bilinearly, the others by nearest neighbour.
    """
    import nncf  # noqa: PLC0415  # seconds

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # otherwise the file could not be replaced
    model = core.read_model(path)
    shapes = [
        [dimension.get_length() if dimension.is_static else None for dimension in taken.partial_shape]
        for taken in model.inputs
    ]

    def batch(given: Sequence[Tensor]) -> dict[str, object]:
        arrays: dict[str, object] = {}
        for number, (value, taken) in enumerate(zip(given, model.inputs, strict=True)):
            count, _, height, width = shapes[number]
            way = InterpolationMode.NEAREST if number else InterpolationMode.BILINEAR
            fitted = resize(value, [height, width], way, antialias=not number) if height and width else value
            arrays[taken.any_name] = fitted.expand(count or 1, -1, -1, -1).numpy()
        return arrays

    arrays = [batch(given) for given in inputs]
    calibration = nncf.Dataset(arrays)
    full = _distances(model) + _stems(model)
    # The matrix products resize photos. No validation: NNCF does not know every operator, a result for example.
    scope = nncf.IgnoredScope(names=full, types=["MatMul"], validate=False)
    with quiet_exporters():
        quantized = nncf.quantize(model, calibration, subset_size=len(arrays), ignored_scope=scope)
    openvino.save_model(quantized, path, compress_to_fp16=False)


def _distances(model: openvino.Model) -> list[str]:
    """List the names of the operators that compare features: norms, the products next to them, and all that follow."""
    operators = model.get_ops()
    pending = [operator for operator in operators if operator.get_type_name() == "ReduceL2"]
    found = {}
    while pending:
        operator = pending.pop()
        if operator.get_friendly_name() not in found:
            found[operator.get_friendly_name()] = operator
            pending += _consumers(operator)
    for total in operators:
        if total.get_type_name() == "ReduceSum" and any(c.get_friendly_name() in found for c in _consumers(total)):
            for operator in (total, total.input_value(0).get_node()):
                found[operator.get_friendly_name()] = operator
    return sorted(found)


def _stems(model: openvino.Model) -> list[str]:
    """List the names of the convolutions that read the image.

    In 8 bits they cost more accuracy than all others (``benchmark/first_convolution.py``). After the resizing of
    photos of any size, on a CPU that computes in bf16, OpenVINO 2026.4 even rejects a graph that quantises their
    input (``any_of(scale.size(), OC, 1U)``).
    """
    convolutions = (operator for operator in model.get_ops() if operator.get_type_name() == "Convolution")
    return [c.get_friendly_name() for c in convolutions if c.input(1).get_partial_shape()[1].get_length() == 3]


def _consumers(operator: openvino.Node) -> list[openvino.Node]:
    return [entry.get_node() for output in operator.outputs() for entry in output.get_target_inputs()]
