# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The student of MKD, which the paper calls the cloner."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from anomalib_mkd.networks.chain import Block, Chain, build_chain

StudentSize: TypeAlias = Literal["smaller", "equal"]

NARROW = 16


def build_cloner(blocks: Sequence[Block], student: StudentSize, *, signed: bool = False) -> Chain:
    """Build a student whose taps have the teacher's shapes.

    Source: MKD (Salehi et al., CVPR 2021), Sec. 3.2 and 4; the authors' ``make_layers``. No convolution has a bias, and
    the one before a max-pool has no BatchNorm, so only the input can set the level of a tap.

    Args:
        blocks: The teacher's blocks.
        student: ``"smaller"`` is 16 channels wide except at the taps, ``"equal"`` is as wide as the teacher.
        signed: Whether the teacher's taps may be negative (never in the paper).

    Returns:
        A randomly initialised student, which maps images ``(N, 3, H, W)`` to a pyramid.

    Example:
        >>> blocks = [Block((64, 64), None), Block((128, 128), "pool2")]
        >>> [step.out_channels for step in build_cloner(blocks, "smaller").steps if hasattr(step, "out_channels")]
        [16, 16, 16, 128]
    """
    if student == "smaller":
        blocks = [
            block._replace(widths=(NARROW,) * (len(block.widths) - 1) + (block.widths[-1] if block.tap else NARROW,))
            for block in blocks
        ]
    return build_chain(blocks, bias=False, batch_norm=True, signed=signed)
