# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""OpenVINO models in 8 bits, calibrated on normal training images.

anomalib calibrates on the validation loader, which by default holds the test images, defects among them, and feeds
photos of any size to a model that may have a fixed one.
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

CALIBRATION_IMAGES = 300
"""What NNCF looks at by default."""


def calibration_items(datamodule: AnomalibDataModule) -> Iterator[Any]:
    """Read training items, evenly spaced over the training set.

    Args:
        datamodule: Its training images are normal, as those of all anomalib's one-class datamodules.

    Yields:
        Items with an ``image`` ``(3, H, W)`` in 0..1, of the size it has.
    """
    datamodule.prepare_data()
    datamodule.setup("fit")
    dataset = datamodule.train_data
    for index in evenly_spaced(len(dataset), CALIBRATION_IMAGES):
        yield dataset[index]


def quantize(path: Path, inputs: Iterable[Sequence[Tensor]]) -> None:
    """Replace a model by one whose networks compute in 8 bits.

    A distance is a small difference of large numbers, of which 8 bits leave little; to spare it costs no time. The
    convolutions that read the image are spared as well.

    Args:
        path: The ``.xml`` file of an OpenVINO model whose inputs are ``(N, C, H, W)``.
        inputs: For each image what the model's inputs take, ``(C, H, W)`` each: the photo in 0..1, and whatever comes
            behind it. Resized where the model's size is fixed, a photo smoothly, the rest to the nearest value.
    """
    import nncf  # noqa: PLC0415  # seconds

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # or the file could not be replaced
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

    calibration = nncf.Dataset([batch(given) for given in inputs])
    full = _distances(model) + _stems(model)
    # The products belong to the resizing of photos. NNCF knows not every operator, a result for example.
    scope = nncf.IgnoredScope(names=full, types=["MatMul"], validate=False)
    openvino.save_model(nncf.quantize(model, calibration, ignored_scope=scope), path, compress_to_fp16=False)


def _distances(model: openvino.Model) -> list[str]:
    """Name the operators that compare features: norms, the products beside them, and all that follows."""
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
    """Name the convolutions that read the image.

    In 8 bits they cost more accuracy than all others do (``benchmark/first_convolution.py``). Behind the resizing
    of photos of any size, on a CPU that computes in bf16, OpenVINO 2026.4 even refuses a graph that quantises their
    input (``any_of(scale.size(), OC, 1U)``).
    """
    convolutions = (operator for operator in model.get_ops() if operator.get_type_name() == "Convolution")
    return [c.get_friendly_name() for c in convolutions if c.input(1).get_partial_shape()[1].get_length() == 3]


def _consumers(operator: openvino.Node) -> list[openvino.Node]:
    return [entry.get_node() for output in operator.outputs() for entry in output.get_target_inputs()]
