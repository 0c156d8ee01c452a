# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""MKD's anomaly map: the gradient of the discrepancy at the image, written as a forward computation.

Source: MKD (Salehi et al., CVPR 2021), Eq. 5-6 and Sec. 3.3. anomalib predicts in inference mode, and ONNX and
OpenVINO have no autograd; but the backward pass of a plain chain is short: each step below is the adjoint of a step of
the chain.
"""

from typing import Literal, TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_mkd.functional import EPSILON
from anomalib_mkd.networks.chain import Chain
from anomalib_mkd.types import BatchNorm, Pyramid

Localization: TypeAlias = Literal["gradients", "guided", "smooth_grad"]


def discrepancy_gradient(teacher: Tensor, student: Tensor, weights: Tensor) -> Tensor:
    """Differentiate the weighted sum of one level's direction and value terms with respect to the student's features.

    Both terms are symmetric: with the arguments swapped, this is the gradient for the teacher's features.

    Args:
        teacher: Features ``(N, C, H, W)``.
        student: Features ``(N, C, H, W)``.
        weights: Weights of direction and value, ``(2,)``.

    Returns:
        Gradient of each image's own discrepancy, ``(N, C, H, W)``. The direction's part is 0 where a level is all
        zero: there it would be 1e8 per unit, an artefact of the epsilon.
    """
    t, s = (rearrange(features, "n c h w -> n (c h w)") for features in (teacher, student))
    t_norm = t.norm(dim=1, keepdim=True)
    s_norm = s.norm(dim=1, keepdim=True)
    alive = ((t_norm > EPSILON) & (s_norm > EPSILON)).to(s.dtype)
    t_unit = t / t_norm.clamp_min(EPSILON)
    s_unit = s / s_norm.clamp_min(EPSILON)
    cosine = (t_unit * s_unit).sum(dim=1, keepdim=True)
    direction = weights[0] * alive * (cosine * s_unit - t_unit) / s_norm.clamp_min(EPSILON)
    value = (2 * weights[1] / s.shape[1]) * (s - t)
    gradient: Tensor = direction + value
    return gradient.view_as(student)


def kept_steps(chain: Chain) -> set[int]:
    """Return the indices of the steps whose outputs :func:`input_gradient` and the taps need."""
    steps = list(chain.steps)
    before_pool = {index - 1 for index, step in enumerate(steps) if isinstance(step, nn.MaxPool2d)}
    return before_pool | {index for index, step in enumerate(steps) if isinstance(step, (nn.ReLU, nn.MaxPool2d))}


def input_gradient(chain: Chain, outputs: dict[int, Tensor], gradients: Pyramid, *, guided: bool = False) -> Tensor:
    """Backpropagate through a chain in eval mode, from gradients at its taps to the gradient at the image.

    Args:
        chain: The network.
        outputs: Outputs of the steps of :func:`kept_steps`, from :meth:`Chain.trace`.
        gradients: Gradient at each tap used, ``(N, C_l, H_l, W_l)``.
        guided: Whether a ReLU also stops negative gradients (guided backpropagation).

    Returns:
        Gradient ``(N, 3, H, W)``.
    """
    arriving = {chain.taps[name]: gradient for name, gradient in gradients.items()}
    steps = list(chain.steps)
    deepest = max(arriving)
    gradient = arriving[deepest]
    for index in range(deepest, -1, -1):
        if index in arriving and index != deepest:
            gradient = gradient + arriving[index]
        step = steps[index]
        if isinstance(step, nn.MaxPool2d):
            gradient = _max_pool_adjoint(outputs[index - 1], outputs[index], gradient)
        elif isinstance(step, nn.ReLU):
            gradient = torch.where(outputs[index] > 0, gradient, 0.0)
            if guided:
                gradient = gradient.clamp_min(0)
        elif isinstance(step, BatchNorm):
            gradient = gradient * _batch_norm_scale(step)
        else:
            gradient = _convolution_adjoint(step.get_parameter("weight"), gradient)
    return gradient


def _convolution_adjoint(weight: Tensor, gradient: Tensor) -> Tensor:
    """Backpropagate through a 3x3 convolution with padding 1.

    Not ``conv_transpose2d``: if its kernel is the same constant that the forward convolution reads, OpenVINO's
    deconvolution can silently return wrong values.
    """
    return F.conv2d(gradient, weight.flip(2, 3).transpose(0, 1), padding=1)


def _batch_norm_scale(step: BatchNorm) -> Tensor:
    """Compute the factor per channel, ``(1, C, 1, 1)``, by which a BatchNorm in eval mode multiplies."""
    assert step.running_var is not None  # a chain's BatchNorms track statistics  # noqa: S101
    return rearrange(step.weight * torch.rsqrt(step.running_var + step.eps), "c -> 1 c 1 1")


def _max_pool_adjoint(inputs: Tensor, pooled: Tensor, gradient: Tensor) -> Tensor:
    """Route a gradient to the maximum of each 2x2 window, on a tie to the first in reading order, as torch does.

    Args:
        inputs: Input of the pooling, ``(N, C, H, W)``.
        pooled: Its maxima, ``(N, C, H // 2, W // 2)``.
        gradient: Gradient, of the same shape as ``pooled``.

    Returns:
        Gradient ``(N, C, H, W)``; an odd last row or column is in no window and gets 0.
    """
    height, width = 2 * pooled.shape[2], 2 * pooled.shape[3]
    corners = [inputs[..., row:height:2, column:width:2] == pooled for row in (0, 1) for column in (0, 1)]
    routed = []
    taken = torch.zeros_like(corners[0])
    for corner in corners:
        routed.append(torch.where(corner & ~taken, gradient, 0.0))
        taken = taken | corner
    full = F.pixel_shuffle(rearrange(torch.stack(routed, dim=2), "n c corner h w -> n (c corner) h w"), 2)
    odd_height, odd_width = inputs.shape[2] - height, inputs.shape[3] - width
    return F.pad(full, (0, odd_width, 0, odd_height)) if odd_height or odd_width else full
