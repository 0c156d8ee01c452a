# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""OpenVINO models in 8 bits, calibrated on normal training images.

anomalib calibrates on the validation loader, which by default holds the test images, defects included, and feeds
photos of any size to a model whose size may be fixed.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import openvino
import torch
from anomalib.deploy import CompressionType
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from anomalib_mkd.deploy.graph import EXACT, core, read_graph
from anomalib_mkd.export.biases import correct_biases
from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.terminal.quiet import quiet_exporters
from anomalib_mkd.thresholds import peak_and_median

MOST_IMAGES = 300
"""Most images that calibrate (NNCF's default), and most that set thresholds."""

CORRECTION_IMAGES = 16
"""Number of images for the correction of biases; 64 are no better."""

KEPT_BYTES = 2**28
"""Most memory for these; larger ones are read again for each layer."""

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for: 300 photos of a large camera would fill the memory.

    Args:
        make: Makes an item from its index.
        indices: Indices of the items.

    Example:
        >>> squares = Lazy(lambda index: index**2, [3, 5])
        >>> len(squares), squares[1], list(squares)
        (2, 25, [9, 25])
    """

    def __init__(self, make: Callable[[int], T], indices: Sequence[int]) -> None:
        self.make, self.indices = make, indices

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """Make an item, or return a part as another such sequence."""
        if isinstance(index, slice):
            return Lazy(self.make, self.indices[index])
        return self.make(self.indices[index])


def quantize(path: Path, inputs: Sequence[Sequence[Tensor]]) -> None:
    """Replace a model by one whose networks compute in 8 bits.

    Distances stay in full precision, which costs no time: they are small differences of large numbers, of which 8 bits
    would leave little. So do the convolutions that read the image, and all that prepares it: depth maps need more than
    256 steps.

    Args:
        path: The ``.xml`` file of an OpenVINO model whose inputs are ``(N, C, H, W)``.
        inputs: The model's inputs for each image, as for :func:`fitted`.
    """
    import nncf  # noqa: PLC0415  # seconds
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters  # noqa: PLC0415
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # noqa: PLC0415

    model = read_graph(path)
    stems = _stems(model)
    full = _distances(model) + stems + _preparation(model, stems)
    with quiet_exporters():
        result = nncf.quantize(
            model,
            nncf.Dataset(inputs, partial(fitted, model)),
            subset_size=len(inputs),
            # The matrix products resize photos. No validation: NNCF does not know every operator, a result for example.
            ignored_scope=nncf.IgnoredScope(names=full, types=["MatMul"], validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                # NNCF's default averages ranges over images: that clips rare values, and defects cause rare values.
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                disable_bias_correction=True,
            ),
        )
    some = Lazy(lambda index: fitted(model, inputs[index]), evenly_spaced(len(inputs), CORRECTION_IMAGES))
    small = len(some) * sum(array.nbytes for array in some[0].values()) <= KEPT_BYTES
    correct_biases(result, read_graph(path), list(some) if small else some)
    openvino.save_model(result, path, compress_to_fp16=False)


def compress(path: Path, compression_type: CompressionType, inputs: Sequence[Sequence[Tensor]]) -> None:
    """Replace a model by one in 8 bits: of weights alone for ``INT8``, else of networks; as for :func:`quantize`."""
    if compression_type == CompressionType.INT8_PTQ:
        quantize(path, inputs)
        return
    import nncf  # noqa: PLC0415  # seconds

    with quiet_exporters():
        compressed = nncf.compress_weights(read_graph(path))
    openvino.save_model(compressed, path, compress_to_fp16=False)


def input_sizes(model: openvino.Model) -> list[tuple[int, int] | None]:
    """Return height and width of each input of a model; ``None`` for any."""
    shapes = (taken.partial_shape for taken in model.inputs)
    return [
        (shape[2].get_length(), shape[3].get_length()) if shape[2].is_static and shape[3].is_static else None
        for shape in shapes
    ]


def fitted(model: openvino.Model, given: Sequence[Tensor]) -> dict[str, Any]:
    """Convert an image to inputs of a model.

    Args:
        model: Its inputs are ``(N, C, H, W)``.
        given: The inputs, ``(C, H, W)`` each: the photo in 0..1, then any others. If the model's size is fixed, photos
            are resized bilinearly, the others by nearest neighbour.

    Returns:
        Arrays by the name of the input.
    """
    arrays = {}
    for number, (value, taken, size) in enumerate(zip(given, model.inputs, input_sizes(model), strict=True)):
        count = taken.partial_shape[0]
        way = InterpolationMode.NEAREST if number else InterpolationMode.BILINEAR
        resized = value if size is None else resize(value, list(size), way, antialias=not number)
        arrays[taken.any_name] = resized.expand(count.get_length() if count.is_static else 1, -1, -1, -1).numpy()
    return arrays


def raw_results(path: Path, inputs: Iterable[Sequence[Tensor]]) -> Tensor:
    """Predict with a model whose outputs are raw, in f32 or the 8 bits of its own.

    Args:
        path: The ``.xml`` file.
        inputs: As for :func:`fitted`, of N images.

    Returns:
        Score, mean of the highest 0.5 % and median of the map of each image, ``(N, 3)``.
    """
    model = read_graph(path)
    compiled = core().compile_model(model, "CPU", EXACT)
    rows = []
    for given in inputs:
        found = compiled(fitted(model, given))
        peak, median = peak_and_median(np.ravel(found["anomaly_map"][0]))
        rows.append([float(np.ravel(found["pred_score"])[0]), float(peak), float(median)])
    return torch.tensor(rows).reshape(-1, 3)


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


def _preparation(model: openvino.Model, stems: Collection[str]) -> list[str]:
    """List the names of the operators between the inputs and the convolutions that read the image."""
    pending = [operator for operator in model.get_ops() if operator.get_friendly_name() in stems]
    found: set[str] = set()
    while pending:
        for taken in pending.pop().inputs():
            source = taken.get_source_output().get_node()
            if source.get_friendly_name() not in found and source.get_type_name() not in {"Parameter", "Constant"}:
                found.add(source.get_friendly_name())
                pending.append(source)
    return sorted(found)


def _consumers(operator: openvino.Node) -> list[openvino.Node]:
    return [entry.get_node() for output in operator.outputs() for entry in output.get_target_inputs()]
