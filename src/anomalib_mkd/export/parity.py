# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The last check of an export: it must give what the model gives."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anomalib_mkd.deploy.graph import EXACT, core
from anomalib_mkd.export.resize import TOLERANCE

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

ODD_SIZE = (131, 197)
"""Height and width of the image where an export takes any."""


def compare(module: Any, path: Path, size: tuple[int, int] | None) -> None:
    """Compare an OpenVINO export in f32 with its model on one random image.

    Args:
        module: The model.
        path: The ``.xml`` file.
        size: Height and width of the export's inputs; ``None`` for any.

    Raises:
        RuntimeError: If a score or a map differs by more than 1e-3, or by more than 1e-3 of the largest value where
            there is no scale of 0..1.
    """
    size = size or ODD_SIZE
    inputs = module.example_inputs(size)
    training = module.training
    with torch.no_grad():
        ours = module.eval()(*inputs)._asdict()
    module.train(training)
    compiled = core().compile_model(path, "CPU", EXACT)
    theirs = compiled([value.cpu().numpy() for value in inputs])
    found = {}
    for name in ("pred_score", "anomaly_map"):
        wanted = ours[name].cpu().numpy()
        found[name] = float(np.abs(theirs[name].reshape(wanted.shape) - wanted).max() / max(1.0, np.abs(wanted).max()))
    place = f"an image of {size[0]}x{size[1]}"
    if not max(found.values()) <= TOLERANCE:  # NaN, too
        msg = (
            f"Expected an export with the scores and maps of the model, got others on {place}: scores differ by "
            f"{found['pred_score']:.2g}, maps by {found['anomaly_map']:.2g}. Use another pre-processor or input_size."
        )
        raise RuntimeError(msg)
    logger.info("The export equals the model on %s: scores within %.1g, maps within %.1g.", place, *found.values())
