# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Milliseconds per image of exported models, one image at a time.

All graphs are in memory at once and take turns on the same image, so that other load on the machine slows them all;
ratios are computed within a turn. Random weights do not change the time and save the training. Only PatchCore needs a
memory bank: features of noise, repeated up to 1 % of the patches of real training sets.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openvino
import torch
from torch import Tensor, nn

from anomalib_mkd.compare.turns import take_turns
from anomalib_mkd.deploy.graph import core
from anomalib_mkd.export.quantization import quantize
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.results.machine import machine
from benchmark.rows import INT8, Key, Row, append_rows, commit, has_run, noise_rows
from benchmark.runs import RESNET18
from benchmark.variants import BASELINES, NAMED, USUAL, variant_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

TEACHER = ("Teacher", "alone")
GRAPHS = (
    TEACHER,
    ("Dcam", "default"),
    ("Dcam", "size144"),
    ("Dcam", "width1.0"),
    ("Dcam", "width0.25"),
    ("Mmrd", "default"),
    ("Mmrd", "rgb"),
    ("Patchcore", "bottle"),
    ("Patchcore", "joint4"),
)
"""Model and variant; all are compared with the first. PatchCore's memory bank depends on its training set."""
TRAINING_IMAGES = {"bottle": 209, "joint4": 807}
"""Training images of PatchCore, of whose patches it keeps 1 %."""
PRECISIONS = ("f32", INT8)
WARM_UP = 3
"""Turns that are not counted."""
NOISE_IMAGES = 8
"""Images that calibrate 8 bits and fill PatchCore's memory bank."""


class Taps(nn.Module):
    """A teacher that returns its features as a list, as the export of a single network needs them.

    Args:
        teacher: The teacher.
    """

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features, shallow to deep."""
        return list(self.teacher(images).values())


def fill(network: nn.Module) -> nn.Module:
    """Give an untrained network the size on disk of a trained one.

    timm starts the last BatchNorm of a residual block at 0; merged with it, convolutions become zeros, and OpenVINO
    writes equal arrays once.
    """
    for step in network.modules():
        if isinstance(step, nn.BatchNorm2d):
            nn.init.ones_(step.weight)
    return network


def build(model: str, variant: str, backbone: str, side: int) -> Any:
    """Build an untrained model in eval mode that resizes to ``(side, side)`` and returns raw scores.

    Args:
        model: Class name.
        variant: Preset, or PatchCore's training set.
        backbone: Teacher.
        side: Side of the images in pixels.
    """
    owner = getattr(import_module("anomalib.models" if model in BASELINES else "anomalib_mkd"), model)
    arguments = dict(BASELINES[model][USUAL[model]] if model in BASELINES else variant_arguments(model, variant))
    side = arguments.pop("image_size", side)
    module = owner(
        backbone=backbone,
        pre_trained=False,
        pre_processor=owner.configure_pre_processor((side, side)),
        post_processor=False,
        evaluator=False,
        visualizer=False,
        **arguments,
    )
    fill(module)
    if model == "Patchcore":
        with torch.no_grad():
            patches = module.model.train()(torch.rand(NOISE_IMAGES, 3, side, side))  # (NOISE_IMAGES * h * w, C)
        count = int(arguments["coreset_sampling_ratio"] * TRAINING_IMAGES[variant] * len(patches) / NOISE_IMAGES)
        module.model.memory_bank = patches.repeat(count // len(patches) + 1, 1)[:count]
    return module.eval()


def export(model: str, variant: str, folder: Path, *, backbone: str, side: int) -> Path:
    """Export an untrained model for images of one size.

    Args:
        model: Class name, or ``Teacher`` for the network alone: no pre-processing, no student, no map.
        variant: Preset.
        folder: Folder to write to.
        backbone: Teacher.
        side: Side of the images in pixels.

    Returns:
        The ``.xml`` file.
    """
    if (model, variant) != TEACHER:
        module = build(model, variant, backbone, side)
        # otherwise PatchCore's graph would accept only as many images as the exporter's example has
        single: dict[str, Any] = {"onnx_kwargs": {"dynamic_axes": {}}} if model in BASELINES else {}
        path: Path = module.to_openvino(folder, input_size=(side, side), **single)
        return path
    path = folder / "teacher.xml"
    taps, shape = fill(Taps(Teacher(backbone, pre_trained=False))), [1, 3, side, side]
    graph = openvino.convert_model(taps, example_input=torch.rand(shape), input=shape)
    openvino.save_model(graph, path, compress_to_fp16=False)  # as anomalib saves them
    return path


def inputs_of(graph: openvino.Model | openvino.CompiledModel, images: Tensor) -> tuple[Tensor, ...]:
    """Return photos ``(N, 3, H, W)``, followed by depth ``(N, 1, H, W)`` if the graph has a second input."""
    return (images, images[:, :1])[: len(graph.inputs)]


def compile_graph(path: Path, threads: int) -> openvino.CompiledModel:
    """Load a graph for one image; everything not in 8 bits is computed in f32, even if the CPU has bf16."""
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = core().read_model(path)
    model.reshape({taken: [1, *list(taken.partial_shape)[1:]] for taken in model.inputs})
    return core().compile_model(model, "CPU", hints)


def speed(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """Compute the figures of a graph.

    Args:
        seconds: Its times, turn by turn.
        reference: Times of the graph to compare with.

    Example:
        >>> speed([2.0, 2.0, 4.0, 4.0], [1.0, 1.0, 2.0, 1.0])
        {'latency_seconds': 3.0, 'latency_spread': 2.0, 'latency_ratio': 2.0}
    """
    low, _, high = statistics.quantiles(seconds, n=4)
    return {
        "latency_seconds": statistics.median(seconds),
        "latency_spread": high - low,
        "latency_ratio": statistics.median(own / other for own, other in zip(seconds, reference, strict=True)),
    }


def measure_latency(
    *,
    results: Path,
    rounds: int,
    threads: int,
    graphs: Sequence[tuple[str, str]] = GRAPHS,
    backbone: str = RESNET18,
    side: int = 256,
    source: str | None = None,
) -> list[Row]:
    """Export, measure and append the rows, unless the file already has them.

    Args:
        results: CSV file.
        rounds: Counted turns, at least 2.
        threads: Threads of OpenVINO.
        graphs: Model and variant of each graph; ratios are to the first one in f32.
        backbone: Teacher, by timm's full name.
        side: Side of the images in pixels.
        source: Commit of the code; determined if ``None``.

    Returns:
        The new rows, per graph and precision: median and interquartile range of the latency in seconds, median ratio to
        the first graph, and the size on disk in megabytes; none if the file already had them.
    """
    if rounds < 2:
        msg = f"Expected --rounds of at least 2, got {rounds}. Timings have a spread only then."
        raise ValueError(msg)
    processor, *_, features = machine(threads).split("; ")
    chip = f"{processor.replace(' ', '_')}-{features.replace(' ', '+')}"
    key = Key(f"latency-{backbone}-{side}px-t{threads}-{rounds}rounds-{chip}", batch=1, steps=0)
    if has_run(results, key):
        logger.info("%s: already measured, skipped", key.run_id)
        return []
    source = source or commit()
    torch.manual_seed(0)
    noise = torch.rand(NOISE_IMAGES, 3, side, side)
    work = Path(tempfile.mkdtemp(prefix="anomalib_mkd_"))
    compiled: dict[tuple[str, str, str], openvino.CompiledModel] = {}
    megabytes: dict[tuple[str, str, str], float] = {}
    try:
        for number, (model, variant) in enumerate(graphs):
            folder = work / str(number)
            folder.mkdir()
            path = export(model, variant, folder, backbone=backbone, side=side)
            for precision in PRECISIONS:
                if precision == INT8:
                    inputs = inputs_of(compiled[model, variant, "f32"], noise)
                    quantize(path, list(zip(*inputs, strict=True)))
                name = (model, variant, precision)
                compiled[name] = compile_graph(path, threads)
                megabytes[name] = sum(file.stat().st_size for file in (path, path.with_suffix(".bin"))) / 1e6
                logger.info("%s, %s, %s: %.1f MB", *name, megabytes[name])
        calls = {
            name: partial(graph, [given.numpy() for given in inputs_of(graph, noise[:1])])
            for name, graph in compiled.items()
        }
        seconds = take_turns(calls, rounds, warm_up=WARM_UP)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    reference = seconds[next(iter(seconds))]
    values: dict[tuple[str, str, str], Mapping[str, float]] = {
        name: {**speed(own, reference), "megabytes": megabytes[name]} for name, own in seconds.items()
    }
    rows = [
        row
        for (model, variant, precision), numbers in values.items()
        for row in noise_rows(
            key,
            numbers,
            model=model,
            variant=variant,
            image_size=variant_arguments(model, variant).get("image_size", side) if model in NAMED else side,
            precision=precision,
            weights=backbone,
            protocol="speed",
            machine=machine(threads),
            commit=source,
        )
    ]
    append_rows(results, rows)
    for (model, variant, precision), numbers in values.items():
        ms, ratio = 1000 * numbers["latency_seconds"], numbers["latency_ratio"]
        logger.info("%s, %s, %s: %.1f ms, %.2f of the first", model, variant, precision, ms, ratio)
    return rows
