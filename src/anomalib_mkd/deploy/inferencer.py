# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Prediction with an exported model: one class for photos, one for photos with depth."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from anomalib_mkd.arguments import check_arguments
from anomalib_mkd.deploy.graph import compile_graph, keep_score_alone, load, set_thresholds
from anomalib_mkd.deploy.metadata import Metadata, Region
from anomalib_mkd.deploy.pictures import is_many, photo, photo_with_depth, read_region
from anomalib_mkd.deploy.prediction import Prediction, decide
from anomalib_mkd.depth.checks import warn_of_unit
from anomalib_mkd.pictures import allow_large

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import openvino
    from numpy.typing import NDArray

    from anomalib_mkd.deploy.pictures import FloatArray, Picture

logger = logging.getLogger(__name__)

Inputs: TypeAlias = "dict[str, FloatArray]"


class _Compiled:
    """A compiled export; each subclass says what it takes.

    As many requests are in flight as ``openvino.AsyncInferQueue`` would hold, but waited for in the order of the
    images: so results keep that order, no more than these wait in memory, and an error is raised at its image. The
    queue itself calls back in any order, and raises at a later image.
    """

    takes: tuple[str, ...]
    otherwise: str

    def __init__(
        self,
        path: Path | str,
        device: str = "CPU",
        config: dict[str, Any] | None = None,
        *,
        category: str | None = None,
        threshold: float | None = None,
        false_alarms: float | None = None,
        region: Path | str | NDArray[Any] | None = None,
        smallest_area: int | None = None,
        maps: bool = True,
    ) -> None:
        check_arguments(locals(), optional=("threshold", "false_alarms", "smallest_area"))
        allow_large()
        model, metadata = load(path)
        if category is not None:
            metadata = metadata.of_category(category)
        elif metadata.categories:
            logger.warning("%s", metadata.without_category())
        if set(metadata.inputs) != set(self.takes):
            msg = f"Expected a model of {' and '.join(self.takes)}, got {path} of {' and '.join(metadata.inputs)}. "
            raise ValueError(msg + f"Use {self.otherwise}.")
        mask = read_region(region) if isinstance(region, str | Path) else region
        self.metadata: Metadata = metadata.adjusted(
            threshold=threshold,
            false_alarms=false_alarms,
            region=None if mask is None else Region.of(mask),
            smallest_area=smallest_area,
        )
        set_thresholds(model, self.metadata)
        if not maps:
            if self.metadata.region is not None or self.metadata.smallest_area:
                msg = "Expected maps=True with a region or a smallest area, which need the map, got maps=False. "
                raise ValueError(msg + "Leave one of them out.")
            keep_score_alone(model)
        self._maps = maps
        self._compiled = compile_graph(model, self.metadata, device, config)
        self._at_once: int = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._free: deque[openvino.InferRequest] = deque()

    def _stream(self, all_inputs: Iterable[Inputs]) -> Iterator[Prediction]:
        """Predict on inputs as they come, on several at a time; an error waits for the predictions before it."""
        waiting: deque[tuple[openvino.InferRequest, Sequence[int]]] = deque()
        coming, failure = iter(all_inputs), None
        try:
            while True:
                try:
                    inputs = next(coming)
                    self._check(inputs)
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001  # raised below
                    failure = error
                    break
                if len(waiting) == self._at_once:
                    yield self._collect(*waiting.popleft())
                request = self._free.popleft() if self._free else self._compiled.create_infer_request()
                request.start_async(inputs)
                waiting.append((request, inputs["image"].shape[2:]))
            while waiting:
                yield self._collect(*waiting.popleft())
            if failure is not None:
                raise failure
        finally:
            for request, _ in waiting:  # the caller has stopped listening
                request.wait()
                self._free.append(request)

    def _collect(self, request: openvino.InferRequest, size: Sequence[int]) -> Prediction:
        request.wait()
        score = float(request.get_tensor("pred_score").data.reshape(-1)[0])
        raw_map = request.get_tensor("anomaly_map").data[0, 0] if self._maps else np.empty((0, 0))
        anomaly_map = np.array(raw_map, np.float32)
        self._free.append(request)
        return decide(score, anomaly_map, size, self.metadata)

    def _check(self, inputs: Inputs) -> None:
        """Compare shapes with what the model was exported for."""
        for name, array in inputs.items():
            own = self.metadata.inputs[name]
            wanted = (own.channels, *(own.size or array.shape[2:]))
            if array.shape[1:] != wanted:
                msg = f"Expected {name} of shape {wanted} (channels, height, width), got {array.shape[1:]}. Resize it"
                raise ValueError(msg + (", or export without a size." if own.size else " or export again."))


class Inferencer(_Compiled):
    """Predict on photos with an OpenVINO export of ``Mkd``, ``MixedDistillation``, ``Dcam`` or ``Mmrd`` on colour.

    Needs OpenVINO, NumPy and Pillow; neither torch nor anomalib.

    Args:
        path: The ``.xml`` file; its ``.bin`` and ``.json`` lie beside it.
        device: OpenVINO's device.
        config: OpenVINO's configuration. ``{"PERFORMANCE_HINT": "THROUGHPUT"}`` makes :meth:`predict_many` faster and
            single images slower. What is not in 8 bits is computed in f32, unless another precision is set here.
        category: Category of the images, for a model that learnt several: selects its thresholds. Default: those
            common to all, with a warning.
        threshold: The score of this export, between 0 and 1, that becomes the threshold.
        false_alarms: Expected share of good parts called bad, between 0 and 0.5; moves the threshold by the stored
            scores of good images. They are of whole images: with a new ``region`` there will be fewer.
        region: Image or array ``(H, W)`` of the images' size; what is black, transparent or 0 there does
            not count.
        smallest_area: In pixels of the image: a part is bad only if a connected region above the pixel threshold is
            at least that large.
        maps: Whether to compute maps. Without, a prediction has an empty map and no boxes, and ``Mkd`` need not compute
            the gradient that is its map.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If files are damaged or do not belong together, or an argument is out of range.
    """

    takes = ("image",)
    otherwise = "DepthInferencer, which takes a photo with its depth"

    def predict(self, pictures: Picture | Sequence[Picture]) -> Any:
        """Predict on one image, or on several.

        Args:
            pictures: A file or PIL image of 8 bits per channel, or an array in RGB ``(H, W, 3)`` or ``(3, H, W)``,
                uint8 or floats in 0..1; or a list of these, or an array with one more axis in front.

        Returns:
            A :class:`Prediction`, or a list of them.

        Raises:
            ValueError: If an image is none of these, or does not fit the model.
        """
        if is_many(pictures):
            return list(self.predict_many(pictures))  # type: ignore[arg-type]
        return next(self.predict_many([pictures]))  # type: ignore[list-item]

    def predict_many(self, pictures: Iterable[Picture]) -> Iterator[Prediction]:
        """Predict on images as they come; in their order, as many at a time as suits the device.

        Args:
            pictures: As for :meth:`predict`, one by one. The next is read when there is room for it.

        Yields:
            Their predictions.
        """
        yield from self._stream({"image": photo(picture)} for picture in pictures)


class DepthInferencer(_Compiled):
    """Predict on pairs of photo and depth with an OpenVINO export of ``Mmrd``.

    OpenVINO itself accepts a call with the photo alone and silently takes the depth of the call before.

    Args:
        path: As for :class:`Inferencer`, like all others.
        device: OpenVINO's device.
        config: OpenVINO's configuration.
        source: How a depth file is read and prepared: ``DepthFolder(...).source`` of the training, an
            :class:`anomalib_mkd.depth.DepthSource`. Without it, files must hold what the model expects.
        **options: ``category``, ``threshold``, ``false_alarms``, ``region``, ``smallest_area``, ``maps``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: As for :class:`Inferencer`.
    """

    takes = ("image", "depth")
    otherwise = "Inferencer, which takes photos alone"

    def __init__(
        self,
        path: Path | str,
        device: str = "CPU",
        config: dict[str, Any] | None = None,
        source: Callable[[Path], NDArray[Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, device, config, **options)
        self.source = source

    def predict(self, image: Any, depth: Any = None) -> Any:
        """Predict on one photo with its depth, or on as many of both.

        Args:
            image: As for :meth:`Inferencer.predict`.
            depth: File, which ``source`` prepares; or floats ``(H, W)``, ``(H, W, 3)`` or ``(C, H, W)`` in the unit of
                training, NaN where missing, prepared as in training: see :func:`anomalib_mkd.depth.prepare_depth`.
                A warning names depth that seems to be in another unit.

        Returns:
            A :class:`Prediction`, or a list of them.

        Raises:
            TypeError: If one of the two is missing.
            ValueError: If they do not fit each other or the model.
        """
        if not is_many(image):
            return next(self.predict_many([(image, depth)]))
        if not is_many(depth) or len(depth) != len(image):
            found = len(depth) if is_many(depth) else "one"
            msg = f"Expected as many depth maps as photos, got {found} for {len(image)}. Pass one per photo."
            raise ValueError(msg)
        return list(self.predict_many(zip(image, depth, strict=True)))

    def predict_many(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Prediction]:
        """Predict on pairs of photo and depth as they come; otherwise as :meth:`Inferencer.predict_many`."""
        yield from self._stream(self._pair(image, depth) for image, depth in pairs)

    def _pair(self, image: Any, depth: Any) -> Inputs:
        photos, depths = photo_with_depth(image, depth, self.source)
        inputs = {"image": photos, "depth": depths}
        self._check(inputs)  # what does not fit is refused, not warned of
        if (usual := self.metadata.inputs["depth"].range) is not None:
            warn_of_unit(depths[:, -1], usual, str(depth) if isinstance(depth, str | Path) else "a depth map")
        return inputs
