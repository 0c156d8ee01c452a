# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's inferencer of ``.pt`` files, for a photo and its depth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.deploy import TorchInferencer

from anomalib_mkd.deploy.pictures import is_many, photo_with_depth
from anomalib_mkd.depth.checks import warn_of_unit


class DepthTorchInferencer(TorchInferencer):
    """Predict on pairs of photo and depth with a ``.pt`` file exported from ``Mmrd``.

    Args:
        path: The ``.pt`` file.
        device: As for anomalib's ``TorchInferencer``.
        source: As for :class:`anomalib_mkd.deploy.DepthInferencer`.
    """

    def __init__(self, path: str | Path, device: str = "auto", source: Callable[[Path], Any] | None = None) -> None:
        super().__init__(path, device)
        self.source = source

    def predict(self, image: Any, depth: Any = None) -> ImageBatch:
        """Predict on one photo with its depth, or on a batch of both.

        Args:
            image: As for :meth:`anomalib_mkd.deploy.DepthInferencer.predict`.
            depth: Likewise. In a batch, all photos have the same size, and so have all depth maps.

        Raises:
            TypeError: If one of the two is missing.
            ValueError: If they do not fit each other or the model.
        """
        photos, depths = ([*given] if is_many(given) else [given] for given in (image, depth))
        if len(photos) != len(depths):
            msg = f"Expected as many depth maps as photos, got {len(depths)} for {len(photos)}. Pass one per photo."
            raise ValueError(msg)
        pairs = [photo_with_depth(_on_cpu(a), _on_cpu(b), self.source) for a, b in zip(photos, depths, strict=True)]
        for name, arrays in zip(("photos", "depth maps"), zip(*pairs, strict=True), strict=True):
            if len(shapes := {array.shape[1:] for array in arrays}) > 1:
                found = " and ".join(map(str, sorted(shapes)))
                msg = f"Expected {name} of one shape in a batch, got {found}. Predict pair by pair."
                raise ValueError(msg)
        inputs = [torch.from_numpy(np.concatenate(arrays)).to(self.device) for arrays in zip(*pairs, strict=True)]
        with torch.inference_mode():
            predictions = self.model(*inputs)  # refuses what does not fit, before any warning
        usual = getattr(self.model.pre_processor, "usual_depth", None)
        for given, (_, values) in zip(depths, pairs, strict=True):
            if usual is not None:
                warn_of_unit(values[:, -1], usual, str(given) if isinstance(given, str | Path) else "a depth map")
        return ImageBatch(image=inputs[0], **predictions._asdict())


def _on_cpu(given: Any) -> Any:
    return given.cpu().numpy() if isinstance(given, torch.Tensor) else given
