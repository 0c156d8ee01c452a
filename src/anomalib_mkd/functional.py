# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Distances between a teacher's and a student's features, and the image operations that maps need.

A distance takes ``(teacher, student)``, both ``(N, C, H, W)``, and returns one number per image, ``(N,)``: a score, or
after a mean over the batch a training loss. Its name states which axes form the compared vectors. Features in half
precision are compared in float32.
"""

import functools
import math

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_mkd.thresholds import soft_scale

EPSILON = 1e-8
"""Lower bound of a norm, the one that ``torch.nn.functional.cosine_similarity`` uses."""


def value_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of all values of a level.

    Source: MKD (Salehi et al., CVPR 2021), Eq. 1, before the mean over the batch.

    Args:
        teacher: Features ``(N, C, H, W)``.
        student: Features ``(N, C, H, W)``.

    Returns:
        Distances ``(N,)``, at least 0, in squared units of the features.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([2.0, 2.0, 2.0, 2.0]).view(1, 1, 2, 2)
        >>> student = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
        >>> value_distance(teacher, student)
        tensor([1.5000])
    """
    return reduce((_at_least_float32(student) - _at_least_float32(teacher)).square(), "n c h w -> n", "mean")


def root_mean_square(features: Tensor) -> Tensor:
    """Strength of a level.

    Args:
        features: ``(N, C, H, W)``.

    Returns:
        A scalar above 0: 1 where the level is all zero.

    Example:
        >>> import torch
        >>> root_mean_square(torch.tensor([3.0, -3.0, 3.0, -3.0]).view(2, 2, 1, 1)), root_mean_square(torch.zeros(1))
        (tensor(3.), tensor(1.))
    """
    size = _at_least_float32(features).square().mean().sqrt()
    return torch.where(size > EPSILON, size, 1.0)


def flat_cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """One minus the cosine of the two levels, each flattened to one vector per image.

    Source: MKD (Salehi et al., CVPR 2021), Eq. 3, per level as ``1 - cos`` as in the authors' code.

    Args:
        teacher: Features ``(N, C, H, W)``.
        student: Features ``(N, C, H, W)``.

    Returns:
        Distances ``(N,)`` in 0..2 (0..1 for features after a ReLU); 1 where a vector is zero.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([2.0, 2.0, 2.0, 2.0]).view(1, 1, 2, 2)
        >>> student = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
        >>> flat_cosine_distance(teacher, student)
        tensor([0.0871])
    """
    teacher, student = (rearrange(features, "n c h w -> n (c h w)") for features in (teacher, student))
    return _cosine_distance(teacher, student, dim=1)


def position_cosine_map(teacher: Tensor, student: Tensor) -> Tensor:
    """One minus the cosine of the two channel vectors at each position.

    Equal to half the squared distance of the two unit vectors, the form of STFPM (Wang et al., BMVC 2021).

    Args:
        teacher: Features ``(N, C, H, W)``.
        student: Features ``(N, C, H, W)``.

    Returns:
        Distances ``(N, 1, H, W)`` in 0..2 (0..1 for features after a ReLU); 1 where a vector is zero.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(1, 2, 1, 2)
        >>> student = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
        >>> position_cosine_map(teacher, student)
        tensor([[[[0.2929, 1.0000]]]])
    """
    return _cosine_distance(teacher, student, dim=1).unsqueeze(1)  # not einops, which exports a Reshape


def position_cosine_distance(teacher: Tensor, student: Tensor, share: float = 1.0) -> Tensor:
    """Mean of the largest values of :func:`position_cosine_map` in each image.

    Source: for all positions, STFPM (Wang et al., BMVC 2021); for the hardest ones, similar to EfficientAD (Batzner et
    al., WACV 2024), which selects them over the whole batch and uses squared differences.

    Args:
        teacher: Features ``(N, C, H, W)``.
        student: Features ``(N, C, H, W)``.
        share: As for :func:`mean_of_largest`.

    Returns:
        Distances ``(N,)`` in 0..2.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(1, 2, 1, 2)
        >>> student = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
        >>> position_cosine_distance(teacher, student), position_cosine_distance(teacher, student, share=0.5)
        (tensor([0.6464]), tensor([1.]))
    """
    return mean_of_largest(position_cosine_map(teacher, student), share)


def mean_of_largest(maps: Tensor, share: float) -> Tensor:
    """Average the largest values of each map.

    Args:
        maps: Maps ``(N, 1, H, W)``.
        share: Share of the positions to average, in 0..1: 0 for the maximum alone, 1 for all.

    Returns:
        Means ``(N,)``.

    Example:
        >>> import torch
        >>> maps = torch.tensor([4.0, 1.0, 2.0, 3.0, 0.0]).view(1, 1, 1, 5)
        >>> mean_of_largest(maps, 0.0), mean_of_largest(maps, 0.5), mean_of_largest(maps, 1.0)
        (tensor([4.]), tensor([3.]), tensor([2.]))
    """
    values = rearrange(maps, "n 1 h w -> n (h w)")
    if share < 1:
        count = 1 + torch.sym_int(share * (values.shape[1] - 1))  # stays symbolic in an export with dynamic sizes
        values = values.topk(count, dim=1, sorted=False).values
    return values.mean(dim=1)


def linear_scale(values: Tensor) -> Tensor:
    """Undo :func:`soft_scale`, so that distances between scores can be compared.

    Args:
        values: Tensor of any shape, of numbers in 0..1. The ends, which no number is mapped to, become large.

    Example:
        >>> import torch
        >>> linear_scale(torch.tensor([0.25, 0.5, 0.8333]))
        tensor([-0.5000,  0.0000,  0.9997])
    """
    above = values - 0.5
    return above / (1 - 2 * above.abs()).clamp(min=EPSILON)


def soft_normalize(values: Tensor, low: Tensor, high: Tensor, threshold: Tensor) -> Tensor:
    """Scale scores or maps as anomalib normalises them, without its clipping to 0..1.

    Args:
        values: Raw scores or maps, of any shape.
        low: Their smallest value in validation.
        high: Their largest value in validation, above ``low``.
        threshold: Becomes 0.5; if it is NaN, the middle of the range does.

    Returns:
        Values in 0..1, in the same order.

    Example:
        >>> import torch
        >>> soft_normalize(torch.tensor([0.0, 1.0, 4.0]), *torch.tensor([0.0, 1.0, 1.0]))
        tensor([0.1667, 0.5000, 0.9286])
    """
    centre = torch.where(torch.isnan(threshold), (high + low) / 2, threshold)
    scaled: Tensor = soft_scale((values - centre) / (high - low))
    return scaled


def spatial_kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Kullback-Leibler divergence, of teacher from student, between each channel's softmax over its positions.

    Args:
        teacher: Features ``(N, C, H, W)``.
        student: Features ``(N, C, H, W)``.

    Returns:
        Divergences ``(N,)`` in nats, at least 0, averaged over channels.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
        >>> student = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
        >>> spatial_kl_divergence(teacher, student)
        tensor([0.0879])
    """
    teacher, student = (
        F.log_softmax(rearrange(_at_least_float32(features), "n c h w -> n c (h w)"), dim=2)
        for features in (teacher, student)
    )
    return (teacher.exp() * (teacher - student)).sum(dim=2).mean(dim=1)


def _cosine_distance(teacher: Tensor, student: Tensor, dim: int) -> Tensor:
    """One minus the cosine along a dimension, which is dropped; clamped at 0 against rounding errors."""
    teacher, student = _at_least_float32(teacher), _at_least_float32(student)
    dot = (teacher * student).sum(dim=dim)
    norms = teacher.norm(dim=dim).clamp_min(EPSILON) * student.norm(dim=dim).clamp_min(EPSILON)
    distance: Tensor = (1 - dot / norms).clamp_min(0)
    return distance


def _at_least_float32(features: Tensor) -> Tensor:
    """Convert half precision to float32: a sum over many products would lose small distances."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def evenly_spaced(total: int, most: int) -> list[int]:
    """Choose evenly spaced indices of a data set, always the same ones.

    Args:
        total: Length of the data set.
        most: Maximum number of indices.

    Example:
        >>> evenly_spaced(10, 4), evenly_spaced(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    count = min(most, total)
    return [index * total // count for index in range(count)]


def resize(features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Average down or interpolate up to a size; given as a size, not a stride, since networks round odd sizes.

    Args:
        features: ``(N, C, H, W)``.
        size: Target height and width.

    Returns:
        Features of that size.

    Example:
        >>> import torch
        >>> resize(torch.arange(4.0).view(1, 1, 2, 2), (1, 1)).item()
        1.5
    """
    height, width = size
    if features.shape[-2] >= height and features.shape[-1] >= width:
        if features.shape[-2] % height == features.shape[-1] % width == 0:  # deterministic on GPUs, too
            return F.avg_pool2d(features, (features.shape[-2] // height, features.shape[-1] // width))
        return F.adaptive_avg_pool2d(features, (height, width))
    return F.interpolate(features, (height, width), mode="bilinear", align_corners=False)


def enlarge(maps: Tensor, size: tuple[int, int] | torch.Size, *, align_corners: bool = False) -> Tensor:
    """Interpolate maps up to a size, as torch's ``interpolate(mode="bilinear")`` does.

    Written as a weighted mean of two neighbours per side: where OpenVINO computes in bf16, it does so up to the last
    convolution, matrix product or interpolation, and would lose small distances before that: see decision 31.

    Args:
        maps: Maps ``(N, 1, h, w)``.
        size: Target height and width, more than 1.
        align_corners: Whether to align the centres of the corner pixels instead of the corners of the image.

    Returns:
        Maps ``(N, 1, H, W)``.

    Example:
        >>> import torch
        >>> enlarge(torch.tensor([[[[0.0, 1.0]]]]), (2, 4))[0, 0, 0]
        tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    for dim, new in ((2, size[0]), (3, size[1])):
        old = maps.shape[dim]
        pixels = torch.arange(new, device=maps.device, dtype=maps.dtype)
        position = pixels * (old - 1) / (new - 1) if align_corners else ((pixels + 0.5) * old / new - 0.5).clamp_min(0)
        before = position.long()
        after = (before + 1).clamp_max(old - 1)
        share = (position - before).view((-1, 1) if dim == 2 else (-1,))
        maps = maps.index_select(dim, before) * (1 - share) + maps.index_select(dim, after) * share
    return maps


def gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps as ``scipy.ndimage.gaussian_filter`` does: cut off at 4 sigma, borders mirrored, edge pixel repeated.

    anomalib's ``GaussianBlur2d`` mirrors without repeating the edge pixel and so differs by up to 0.02 (for a map in
    0..1) within 16 pixels of the border; the papers' code uses scipy. Written with slices, so that it exports
    for any image size, and without a convolution, for the reason given in :func:`enlarge`.

    Args:
        maps: Maps ``(N, 1, H, W)``.
        sigma: Standard deviation in pixels; 0 returns the maps unchanged.

    Returns:
        Blurred maps ``(N, 1, H, W)``.

    Raises:
        ValueError: If a side of the maps is shorter than the kernel's radius: there would be too little to mirror.

    Example:
        >>> import torch
        >>> gaussian_blur(torch.ones(1, 1, 32, 32), sigma=4.0).allclose(torch.ones(1, 1, 32, 32))
        True
    """
    radius = int(4.0 * sigma + 0.5)
    if radius == 0:
        return maps
    if min(maps.shape[2:]) < radius:
        msg = (
            f"Expected maps of at least {radius} pixels a side for sigma={sigma}, got {tuple(maps.shape[2:])}. "
            "Choose a smaller sigma, or larger images."
        )
        raise ValueError(msg)
    kernel = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    total = sum(kernel)
    for dim in (2, 3):
        length = maps.shape[dim]
        before, after = maps.narrow(dim, 0, radius).flip(dim), maps.narrow(dim, length - radius, radius).flip(dim)
        mirrored = torch.cat((before, maps, after), dim=dim)
        maps = functools.reduce(
            torch.add, (w / total * mirrored.narrow(dim, start, length) for start, w in enumerate(kernel))
        )
    return maps


def grey_opening(maps: Tensor) -> Tensor:
    """Remove bright spots smaller than a 3x3 cross: erosion, then dilation.

    Equal to opening every thresholded map with OpenCV's 3x3 ellipse, which is this cross. The cross is the union of a
    3x1 and a 1x3 line, hence the pairs of poolings.

    Args:
        maps: Maps ``(N, 1, H, W)``.

    Returns:
        Opened maps ``(N, 1, H, W)``, nowhere larger than the input.

    Example:
        >>> import torch
        >>> spot = torch.zeros(1, 1, 5, 5)
        >>> spot[..., 2, 2] = 1
        >>> grey_opening(spot).max()
        tensor(0.)
    """

    def dilate(x: Tensor) -> Tensor:
        return torch.maximum(F.max_pool2d(x, (3, 1), 1, (1, 0)), F.max_pool2d(x, (1, 3), 1, (0, 1)))

    return dilate(-dilate(-maps))


def stretch_to_percentile(maps: Tensor, percentile: float = 99.0) -> Tensor:
    """Stretch each map separately: its minimum to 0, its percentile to 1, clipped to 0..1.

    The MKD authors' protocol for maps. ``torch.quantile`` does not export, a sorted top-k does; ``H`` and ``W`` must
    therefore be static in an exported graph. A constant map becomes all zeros.

    Args:
        maps: Maps ``(N, 1, H, W)``.
        percentile: In 0..100, linearly interpolated as by NumPy.

    Returns:
        Maps ``(N, 1, H, W)`` in 0..1.
    """
    flat = rearrange(maps, "n 1 h w -> n (h w)")
    position = percentile / 100 * (flat.shape[1] - 1)
    lower = math.floor(position)
    largest = flat.topk(flat.shape[1] - lower, dim=1).values  # descending: the last one is the value at `lower`
    low_value = largest[:, -1]
    high_value = largest[:, -2] if largest.shape[1] > 1 else low_value
    top = low_value + (position - lower) * (high_value - low_value)
    bottom = flat.amin(dim=1)
    scaled = (flat - bottom[:, None]) / (top - bottom).clamp_min(1e-12)[:, None]
    return scaled.clamp(0, 1).view_as(maps)
