# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The graph of an export: its thresholds are four constants, which can be replaced."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from openvino import opset13 as operators

from anomalib_mkd.deploy.metadata import PRECISION, RT_INFO, Metadata, read
from anomalib_mkd.threads import allowed_cores, visible_cores

if TYPE_CHECKING:
    from collections.abc import Collection

    from anomalib_mkd.thresholds import Scale

EXACT = {"INFERENCE_PRECISION_HINT": PRECISION}
"""Keeps verdicts on a CPU with bf16."""


@cache
def core() -> openvino.Core:
    """Return the only one of this process.

    Each ``Core`` gives the thread a stack for its signals. If several are freed out of turn, OpenVINO 2026.4 leaves the
    thread with a stack that is gone, and the next signal, such as Ctrl+C or the end of a loader's worker, is a
    segmentation fault.
    """
    made = openvino.Core()
    made.set_property({"ENABLE_MMAP": False})  # the files of a graph may be replaced while it is in use
    return made


def load(path: Path | str) -> tuple[openvino.Model, Metadata]:
    """Read an export, and check that graph and metadata are of one make.

    Args:
        path: The ``.xml`` file.

    Returns:
        The graph, not compiled, and its metadata.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the files are damaged or do not belong together.
    """
    metadata = read(path)
    model = read_graph(path)
    inside = json.loads(model.get_rt_info(RT_INFO).astype(str) if model.has_rt_info(RT_INFO) else "null")
    values = constants_of(metadata.image, metadata.pixel)
    numbers = {name: float(node.data) for name, node in _constants(model, values, path).items()}
    if Metadata.from_json(inside, path) != metadata or any(
        not np.isclose(numbers[name], value, rtol=1e-6, atol=0) for name, value in values.items()
    ):
        msg = (
            f"Expected in {Path(path).with_suffix('.json')} what {Path(path).name} was written with, got something "
            "else. Do not edit it: use python -m anomalib_mkd.deploy threshold, or export again."
        )
        raise ValueError(msg)
    return model, metadata


def read_graph(path: Path | str) -> openvino.Model:
    """Read a graph, not compiled."""
    return core().read_model(path)


def set_thresholds(model: openvino.Model, metadata: Metadata) -> None:
    """Replace the graph's thresholds and scales by those of the metadata."""
    values = constants_of(metadata.image, metadata.pixel)
    for name, old in _constants(model, values, "the graph").items():
        new = operators.constant(np.float32(values[name]))
        new.set_friendly_name(name)
        for taken in old.output(0).get_target_inputs():
            taken.replace_source_output(new.output(0))


def constants_of(image: Scale, pixel: Scale) -> dict[str, float]:
    """Return what the constants of a graph hold, by their names.

    Args:
        image: Threshold and scale of scores.
        pixel: Threshold and scale of maps.
    """
    return {
        "image_threshold": image.threshold,
        "image_scale": image.scale,
        "pixel_threshold": pixel.threshold,
        "pixel_scale": pixel.scale,
    }


def keep_score_alone(model: openvino.Model) -> None:
    """Remove every other result, and with it all that only its computation needs."""
    for result in model.get_results():
        if "pred_score" not in result.input(0).get_source_output().get_names():
            model.remove_result(result)


def compile_graph(
    model: openvino.Model, metadata: Metadata, device: str, config: dict[str, Any] | None
) -> openvino.CompiledModel:
    """Compile a graph for a device, in the precision that keeps its verdicts.

    Args:
        model: The graph.
        metadata: Its metadata.
        device: OpenVINO's device.
        config: OpenVINO's configuration; it overrides ours. In its ``CACHE_DIR``, each model gets a folder, and so does
            each change of its thresholds: OpenVINO 2026.4 cannot tell graphs apart whose constants are 0.5 and 0.75,
            and would load the first. Old folders are not deleted.
    """
    given = dict(config or {})
    if given.get("CACHE_DIR"):
        digest = hashlib.sha256(json.dumps(metadata.to_json(), sort_keys=True).encode()).hexdigest()
        given["CACHE_DIR"] = str(Path(given["CACHE_DIR"]) / digest[:16])
    limits: dict[str, Any] = {}
    if device == "CPU":
        if (allowed := allowed_cores()) < visible_cores():
            limits["INFERENCE_NUM_THREADS"] = allowed
        if {**limits, **given}.get("INFERENCE_NUM_THREADS"):
            limits["ENABLE_CPU_PINNING"] = False  # else the few threads of every process would share the first cores
    return core().compile_model(model, device, {"PERFORMANCE_HINT": "LATENCY", **EXACT, **limits, **given})


def _constants(model: openvino.Model, names: Collection[str], place: Path | str) -> dict[str, Any]:
    found = [node for node in model.get_ops() if node.get_friendly_name() in names]
    if sorted(node.get_friendly_name() for node in found) != sorted(names):
        msg = f"Expected the constants {', '.join(names)} once each in {place}, got {len(found)} of them. Export again."
        raise ValueError(msg)
    return {node.get_friendly_name(): node for node in found}
