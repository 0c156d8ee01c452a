# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's inferencers for a photo and its depth.

A compiled OpenVINO model accepts a call with the photo alone and silently reuses the depth of the previous call, so
both inputs are checked on every call.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from anomalib.data import ImageBatch, NumpyImageBatch
from anomalib.data.utils import read_image
from anomalib.deploy import OpenVINOInferencer, TorchInferencer
from PIL.Image import Image as PILImage

from anomalib_mkd.depth import DepthSource, read_depth
from anomalib_mkd.depth.reading import check_aspect

Photo = str | Path | npt.NDArray[Any] | PILImage | torch.Tensor
Depth = str | Path | npt.NDArray[Any] | torch.Tensor
FloatArray = npt.NDArray[np.float32]


class DepthOpenVINOInferencer(OpenVINOInferencer):
    """Predict on pairs of photo and depth with an OpenVINO or ONNX model exported from ``Mmrd``.

    Args:
        path: The ``.xml``, ``.bin`` or ``.onnx`` file.
        device: OpenVINO's device.
        config: OpenVINO's configuration.
        source: How a depth file is read and prepared: ``DepthFolder(...).source`` of the training. Without it, files
            must hold prepared depth, as the model expects it.

    Raises:
        ValueError: If the model's inputs are not ``image`` and ``depth``.
    """

    def __init__(
        self,
        path: str | Path,
        device: str | None = "AUTO",
        config: dict[str, Any] | None = None,
        source: DepthSource | None = None,
    ) -> None:
        super().__init__(path, device, config)
        self.source = source
        names = {taken.any_name for taken in self.model.inputs}
        if names != {"image", "depth"}:
            msg = (
                f"Expected a model with the inputs image and depth, got {sorted(names)}. "
                "Use anomalib's OpenVINOInferencer for models with one input."
            )
            raise ValueError(msg)

    def predict(self, image: Photo, depth: Depth | None = None) -> NumpyImageBatch:
        """Predict on one photo with its depth, or on a batch of both.

        Args:
            image: File, PIL image, or array ``(H, W, 3)``, ``(3, H, W)`` or ``(N, 3, H, W)``: bytes, or floats in 0..1.
            depth: File, which ``source`` prepares; or array ``(H, W)``, ``(H, W, 3)``, ``(C, H, W)`` or
                ``(N, C, H, W)`` in the units of training, NaN where missing, prepared as in training: see
                :func:`anomalib_mkd.depth.prepare_depth`.

        Returns:
            Scores, maps, labels and masks.

        Raises:
            TypeError: If one of the two is missing.
            ValueError: If they do not fit each other or the model.
        """
        photos, depths = pair(image, depth, self.source)
        for taken in self.model.inputs:
            _check_shape(taken.any_name, photos if taken.any_name == "image" else depths, taken.partial_shape)
        results = self.model({"image": photos, "depth": depths})
        named = {output.any_name: value for output, value in results.to_dict().items()}
        return NumpyImageBatch(image=photos.transpose(0, 2, 3, 1), **named)


class DepthTorchInferencer(TorchInferencer):
    """Predict on pairs of photo and depth with a ``.pt`` file exported from ``Mmrd``.

    Args:
        path: The ``.pt`` file.
        device: As for anomalib's ``TorchInferencer``.
        source: As for :class:`DepthOpenVINOInferencer`.
    """

    def __init__(self, path: str | Path, device: str = "auto", source: DepthSource | None = None) -> None:
        super().__init__(path, device)
        self.source = source

    def predict(self, image: Photo, depth: Depth | None = None) -> ImageBatch:
        """Predict on one photo with its depth, or on a batch of both; as for :class:`DepthOpenVINOInferencer`."""
        photos, depths = (torch.from_numpy(array).to(self.device) for array in pair(image, depth, self.source))
        with torch.inference_mode():
            predictions = self.model(photos, depths)
        return ImageBatch(image=photos, **predictions._asdict())


def pair(image: Photo, depth: Depth | None, source: DepthSource | None = None) -> tuple[FloatArray, FloatArray]:
    """Convert photo and depth to the model's inputs.

    Args:
        image: As for :meth:`DepthOpenVINOInferencer.predict`.
        depth: As for :meth:`DepthOpenVINOInferencer.predict`.
        source: As for :class:`DepthOpenVINOInferencer`.

    Returns:
        ``(N, 3, H, W)`` in 0..1 and ``(N, C, H', W')``.

    Raises:
        TypeError: If one of the two is missing.
        ValueError: If the shapes are wrong, or numbers or aspect ratios differ.
    """
    for name, given in (("image", image), ("depth", depth)):
        if given is None:
            msg = f"Expected a photo and its depth, got no {name}. Pass both on every call."
            raise TypeError(msg)
    photos, depths = _photos(image), _depths(depth, source)
    if len(photos) != len(depths):
        msg = f"Expected as many depth maps as photos, got {len(depths)} for {len(photos)}. Pass one per photo."
        raise ValueError(msg)
    check_aspect(photos.shape[-2:], depths.shape[-2:])
    return photos, depths


def _photos(image: Photo) -> FloatArray:
    if isinstance(image, str | Path):
        image = read_image(image, as_tensor=False)
    array = image.cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    scale = 255.0 if array.dtype == np.uint8 else 1.0
    array = array[None] if array.ndim == 3 else array
    if array.ndim == 4 and array.shape[1] != 3 and array.shape[-1] == 3:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] != 3:
        msg = f"Expected an RGB photo (H, W, 3) or (3, H, W), or a batch of them, got {array.shape}. Convert it to RGB."
        raise ValueError(msg)
    photos: FloatArray = np.ascontiguousarray(array, dtype=np.float32) / np.float32(scale)
    if not (photos.min() >= 0 and photos.max() <= 1):
        msg = (
            f"Expected a photo of bytes, or of floats in 0..1, got values of {photos.min():g} to {photos.max():g}. "
            "Divide by the largest possible value."
        )
        raise ValueError(msg)
    return photos


def _depths(depth: Any, source: DepthSource | None) -> FloatArray:
    array = (source or read_depth)(depth) if isinstance(depth, str | Path) else depth
    array = array.cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = (array if array.shape[0] in {1, 3} else array.transpose(2, 0, 1))[None]
    if array.ndim != 4 or array.shape[1] not in {1, 3}:
        msg = (
            f"Expected a depth map (H, W) or points (H, W, 3), or a batch (N, C, H, W), got {array.shape}. "
            "Reshape it to one of these."
        )
        raise ValueError(msg)
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_shape(name: str, array: FloatArray, shape: Any) -> None:
    """Compare an input's shape with the model's."""
    wanted = [side.get_length() if side.is_static else None for side in shape]
    if any(want not in {None, got} for want, got in zip(wanted, array.shape, strict=True)):
        msg = f"Expected {name} of shape {wanted} (None: any), got {list(array.shape)}. Resize it or export again."
        raise ValueError(msg)
