# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The last steps of an OpenVINO export: thresholds of its own where it computes in 8 bits, and metadata."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.deploy import CompressionType

from anomalib_mkd._version import __version__
from anomalib_mkd.deploy.graph import read_graph
from anomalib_mkd.deploy.metadata import Input, Metadata, write
from anomalib_mkd.export.quantization import (
    CALIBRATION_IMAGES,
    good_indices,
    input_sizes,
    raw_results,
)
from anomalib_mkd.export.tail import Tail, add_tail
from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.post_processor import group_number
from anomalib_mkd.thresholds import LEARNT, Scale

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule
    from torch import Tensor

logger = logging.getLogger(__name__)

EIGHT_BITS = (CompressionType.INT8, CompressionType.INT8_PTQ)
MOST_SCORES = 1000
"""Most scores of good parts in the metadata; of more, evenly spaced ones."""
Results = tuple["Tensor", "Tensor"]
"""Good parts as from :func:`anomalib_mkd.post_processor.good_parts`: held out, and learnt."""


def results_of_good(module: Any, path: Path, datamodule: AnomalibDataModule) -> Results:
    """Predict with a raw export on the good parts that set thresholds.

    Args:
        module: The exported model.
        path: The ``.xml`` file, whose outputs are raw.
        datamodule: That of the training.
    """
    datamodule.prepare_data()
    datamodule.setup("fit")

    def results(dataset: Any, most: int) -> Tensor:
        chosen = good_indices(dataset, most)
        found = raw_results(path, (module.raw_inputs(dataset[index]) for index in chosen))
        names = dataset.samples.get("category") if chosen else None
        groups = [group_number(None if names is None else str(names.iloc[index])) for index in chosen]
        return torch.cat([found, torch.tensor(groups).reshape(-1, 1)], dim=1)

    held_out = results(getattr(datamodule, "val_data", None), CALIBRATION_IMAGES)  # absent if the data has none
    return held_out, results(datamodule.train_data, LEARNT)


def scales_in_8_bits(post_processor: Any, full: Results, in_8_bits: Results) -> tuple[Scale, Scale, list[float]]:
    """Fit thresholds to a graph in 8 bits, and say how its verdicts on the good parts compare with those of before.

    Args:
        post_processor: That of the exported model, with thresholds.
        full: Results of the graph before.
        in_8_bits: Results of the graph in 8 bits, of the same parts.

    Returns:
        Scale of scores, scale of maps, and the raw scores that set the threshold, in ascending order.
    """
    image, pixel = post_processor.scales
    scores = post_processor.good_scores
    if post_processor.false_alarms is None:
        logger.warning(
            "The threshold of best F1 is kept in 8 bits: good parts alone cannot fit it anew. Check the verdicts."
        )
    else:
        image, pixel, scores = post_processor.fitted(*in_8_bits)
    before, after = (
        int((torch.cat(results)[:, 0] > threshold).sum())
        for results, threshold in ((full, post_processor.scales[0].threshold), (in_8_bits, image.threshold))
    )
    logger.info(
        "8 bits: the threshold of scores is %.6g, before %.6g; of %d good parts it calls %d bad, before %d.",
        image.threshold,
        post_processor.scales[0].threshold,
        len(torch.cat(in_8_bits)),
        after,
        before,
    )
    return image, pixel, scores


def finish(
    module: Any, path: Path, compression_type: CompressionType | None, fitted: tuple[Scale, Scale, list[float]]
) -> None:
    """Give a raw export its thresholds and metadata.

    Args:
        module: The exported model.
        path: The ``.xml`` file; replaced.
        compression_type: How it was compressed.
        fitted: Scale of scores, scale of maps, and the scores that set the threshold, in ascending order.
    """
    image, pixel, scores = fitted
    post_processor = module.post_processor
    model = read_graph(path)
    model.input(0).set_names({"image"})  # anomalib's export of one input names it "input"
    label_above, mask_above = (
        float(getattr(post_processor, f"normalized_{kind}_threshold")) for kind in ("image", "pixel")
    )
    inputs = {}
    for taken, size in zip(model.inputs, input_sizes(model), strict=True):
        channels = taken.partial_shape[1].get_length()
        photo = taken.any_name == "image"
        inputs[taken.any_name] = Input(channels, size, "RGB", (0.0, 1.0)) if photo else Input(channels, size)
    metadata = Metadata(
        model=type(module).__name__,
        arguments={name: str(value) if isinstance(value, Path) else value for name, value in module.hparams.items()},
        versions={"anomalib_mkd": __version__, **{name: version(name) for name in ("anomalib", "torch", "openvino")}},
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        precision="int8" if compression_type in EIGHT_BITS else "f16" if compression_type else "f32",
        inference_precision="f32",  # bf16, the default of CPUs that compute in it, would change verdicts
        inputs=inputs,
        image=image,
        pixel=pixel,
        false_alarms=post_processor.false_alarms,
        good_scores=tuple(scores[index] for index in evenly_spaced(len(scores), MOST_SCORES)),
        score_share=getattr(module.model, "score_share", None),
        categories=tuple(getattr(post_processor, "table", {})),
        label_above=label_above,
        mask_above=mask_above,
    )
    write(path, add_tail(model, image, pixel, Tail(label_above, mask_above)), metadata)
