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
from anomalib_mkd.data.normal_images import good_indices
from anomalib_mkd.deploy.graph import read_graph
from anomalib_mkd.deploy.metadata import Input, Metadata, write
from anomalib_mkd.export.quantization import MOST_IMAGES, input_sizes, raw_results
from anomalib_mkd.export.tail import Tail, add_tail
from anomalib_mkd.functional import evenly_spaced
from anomalib_mkd.post_processor import SoftPostProcessor, group_number
from anomalib_mkd.thresholds import LEARNT, LEAST_GOOD, Fitted, in_another_precision, strictest

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
        datamodule: That of the training, set up.
    """

    def results(dataset: Any, most: int) -> Tensor:
        chosen = good_indices(dataset, most)
        found = raw_results(path, (module.raw_inputs(dataset[index]) for index in chosen))
        names = dataset.samples.get("category") if chosen else None
        groups = [group_number(None if names is None else str(names.iloc[index])) for index in chosen]
        return torch.cat([found, torch.tensor(groups).reshape(-1, 1)], dim=1)

    held_out = results(getattr(datamodule, "val_data", None), MOST_IMAGES)  # absent if the data has none
    return held_out, results(datamodule.train_data, LEARNT)


def fitted_before(post_processor: Any) -> tuple[Fitted, dict[str, Fitted]] | None:
    """Return the thresholds of a post-processor, and those of its categories; ``None`` if it has none."""
    scales = post_processor.scales if isinstance(post_processor, SoftPostProcessor) else None
    if scales is None:
        return None
    common = Fitted(*scales, tuple(post_processor.good_scores))
    return common, {category: own or common for category, own in post_processor.fitted_categories.items()}


def fitted_in_8_bits(
    post_processor: Any, fitted: tuple[Fitted, dict[str, Fitted]], full: Results, in_8_bits: Results
) -> tuple[Fitted, dict[str, Fitted]]:
    """Move thresholds to a graph in 8 bits, and say how its verdicts on the good parts compare with those of before.

    Args:
        post_processor: That of the exported model.
        fitted: Its thresholds, and those of its categories.
        full: Results of the graph before.
        in_8_bits: Results of the graph in 8 bits, of the same parts.

    Returns:
        Thresholds of all parts, and of each category.
    """
    before, categories = fitted
    old, new = torch.cat(full).double(), torch.cat(in_8_bits).double()

    def of_category(name: str, own: Fitted) -> Fitted:
        its = old[:, 3] == group_number(name)
        chosen = its if int(its.sum()) >= LEAST_GOOD else slice(None)
        return in_another_precision(own, old[chosen, :3], new[chosen, :3])

    of = {name: of_category(name, own) for name, own in categories.items()}
    # the common one is the highest, unless a validation without categories has moved it alone
    highest = bool(of) and strictest(list(categories.values())).image == before.image
    after = strictest(list(of.values())) if highest else in_another_precision(before, old[:, :3], new[:, :3])
    label_above = float(post_processor.normalized_image_threshold)
    called_bad = [
        int((torch.cat(results)[:, 0] > float(thresholds.image.raw(label_above))).sum())
        for results, thresholds in ((full, before), (in_8_bits, after))
    ]
    logger.info(
        "8 bits: the threshold of scores is %.6g, before %.6g; of %d good parts it calls %d bad, before %d.",
        after.image.threshold,
        before.image.threshold,
        len(torch.cat(in_8_bits)),
        called_bad[1],
        called_bad[0],
    )
    return after, of


def finish(
    module: Any,
    path: Path,
    compression_type: CompressionType | None,
    fitted: Fitted,
    categories: dict[str, Fitted],
) -> None:
    """Give a raw export its thresholds and metadata.

    Args:
        module: The exported model.
        path: The ``.xml`` file; replaced.
        compression_type: How it was compressed.
        fitted: Thresholds of all parts.
        categories: Of each category that has its own.
    """
    fitted, categories = _with_fewer_scores(fitted), {name: _with_fewer_scores(of) for name, of in categories.items()}
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
        depth = getattr(module.pre_processor, "usual_depth", None)
        inputs[taken.any_name] = Input(channels, size, (0.0, 1.0) if photo else depth)
    metadata = Metadata(
        model=type(module).__name__,
        arguments={name: str(value) if isinstance(value, Path) else value for name, value in module.hparams.items()},
        versions={"anomalib_mkd": __version__, **{name: version(name) for name in ("anomalib", "torch", "openvino")}},
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        precision="int8" if compression_type in EIGHT_BITS else "f16" if compression_type else "f32",
        inputs=inputs,
        **fitted._asdict(),
        false_alarms=post_processor.false_alarms,
        score_share=getattr(module.model, "score_share", None),
        categories=categories,
        label_above=label_above,
        mask_above=mask_above,
    )
    write(path, add_tail(model, fitted.image, fitted.pixel, Tail(label_above, mask_above)), metadata)


def _with_fewer_scores(fitted: Fitted) -> Fitted:
    scores = fitted.good_scores
    return fitted._replace(good_scores=tuple(scores[index] for index in evenly_spaced(len(scores), MOST_SCORES)))
