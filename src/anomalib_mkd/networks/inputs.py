# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Default pre-processing for teachers that were not trained on ImageNet's usual input."""

from pathlib import Path

from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Normalize, Resize

from anomalib_mkd.networks.backbone import QUICKSTART, resolve_backbone
from anomalib_mkd.transforms import steps_of


def suited_pre_processor(
    pre_processor: PreProcessor | bool, backbone: str, weights: str | Path | None
) -> PreProcessor | bool:
    """Replace the default pre-processor if the teacher is the embedded one: 128 pixels, values in 0..1.

    Args:
        pre_processor: The model's argument; only ``True`` is replaced.
        backbone: As for :class:`Teacher`.
        weights: As for :class:`Teacher`.

    Raises:
        ValueError: If a pre-processor that was given normalises for another teacher.
    """
    if resolve_backbone(backbone, weights) != QUICKSTART:
        return pre_processor
    if any(isinstance(step, Normalize) for step in steps_of(getattr(pre_processor, "transform", None))):
        msg = (
            "Expected a pre-processor without Normalize for the embedded teacher, which takes values in 0..1, got one "
            "with it. Leave Normalize out, or take ImageNet's teacher."
        )
        raise ValueError(msg)
    return PreProcessor(Resize((128, 128), antialias=True)) if pre_processor is True else pre_processor
