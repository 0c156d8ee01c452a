# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A pre-processor's transform in an exported graph, exactly as in training and testing.

anomalib's exportable transforms leave out antialiasing. On photos of twice the model's size, that alone changes scores
by a few per cent, and with them every decision at the calibrated threshold.
"""

from collections.abc import Sequence

import torch
from anomalib.pre_processing.utils.transform import get_exportable_transform
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, InterpolationMode, Resize, Transform

from anomalib_mkd.transforms import changing, steps_of

TOLERANCE = 1e-3
"""Largest difference between a model and its export, of pixels, scores and maps in 0..1."""
READS = 8
"""How often an unknown transform is tried, because it may draw random numbers."""


def exportable(transform: Transform) -> "Transform | nn.Module":
    """Return the exportable form of a transform.

    Args:
        transform: A pre-processor's transform.

    Returns:
        anomalib's exportable form, but with antialiasing where a ``Resize`` to a fixed height and width requests it.
    """
    if type(transform) in {Compose, nn.Sequential}:
        return Compose([exportable(step) for step in steps_of(transform)])
    if (
        isinstance(transform, Resize)
        and transform.antialias
        and len(transform.size) == 2
        and InterpolationMode(transform.interpolation) is InterpolationMode.BILINEAR
    ):
        return AntialiasedResize(transform.size)
    return get_exportable_transform(transform)


def check_exportable(transform: Transform | None) -> None:
    """Reject a transform that a graph would not reproduce, before a long export.

    Each step is tried on an image of odd size: as in testing, and as in the graph.

    Args:
        transform: A pre-processor's transform.

    Raises:
        ValueError: If a step draws random numbers, or its exportable form gives another image.
    """
    picture = torch.rand(1, 3, 131, 197, generator=torch.Generator().manual_seed(0), device="cpu")
    for step in steps_of(transform):
        name = f"{step}" if isinstance(step, Transform) else type(step).__name__
        unknown = changing(step) is not None
        tested = [step(picture) for _ in range(READS if unknown else 1)]
        random = 0 < getattr(step, "p", 0) < 1 or not all(torch.equal(tested[0], other) for other in tested)
        if random and unknown:
            msg = (
                f"Expected a pre-processor that an export can reproduce, got {type(step).__name__}, which is random. "
                "Move it to the augmentations of the datamodule."
            )
            raise ValueError(msg)
        graph = exportable(step)(picture)
        if graph.shape != tested[0].shape or (graph - tested[0]).abs().max() > TOLERANCE:
            msg = (
                f"Expected a pre-processor that an export can reproduce, got {name}, of which only another form can be "
                "exported. Use Resize((height, width)) in bilinear interpolation, or leave it out."
            )
            raise ValueError(msg)
        picture = tested[0]


class AntialiasedResize(nn.Module):
    """Bilinear resizing with antialiasing, as two matrix products, one per side, for images of any size.

    Args:
        size: Height and width in pixels.

    Shape:
        ``(N, C, H, W)`` to ``(N, C, *size)``.

    Example:
        >>> import torch
        >>> from torchvision.transforms.v2 import Resize
        >>> image = torch.rand(1, 3, 50, 40)
        >>> torch.allclose(AntialiasedResize([32, 48])(image), Resize([32, 48], antialias=True)(image), atol=1e-6)
        True
    """

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, images: Tensor) -> Tensor:
        """Resize images."""
        height, width = (_weights(old, new, images) for old, new in zip(images.shape[2:], self.size, strict=True))
        if torch.compiler.is_compiling():
            return height @ images @ width.T
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # TF32 would lose small differences of depths
        try:
            return height @ images @ width.T
        finally:
            torch.set_float32_matmul_precision(before)


def _weights(old: int, new: int, like: Tensor) -> Tensor:
    """Weight of each old pixel in each new one, ``(new, old)``: a triangle, as wide as the larger of the two pixels.

    Positions stay integers, in units of half an old times a new pixel: OpenVINO might round floats to bf16, which
    cannot represent odd numbers above 256.
    """
    reach = 2 * torch.sym_max(old, new)
    old_centres = (2 * torch.arange(old, device=like.device) + 1) * new
    new_centres = (2 * torch.arange(new, device=like.device) + 1) * old
    triangle: Tensor = (reach - (old_centres - new_centres[:, None]).abs()).clamp_min(0)  # type: ignore[union-attr]
    return triangle.to(like.dtype) / triangle.sum(dim=1, keepdim=True).to(like.dtype)
