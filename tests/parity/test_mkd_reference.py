# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Mkd against a second derivation from the method's description: NumPy, float64 autograd, SciPy and OpenCV.

Nothing below calls a function of ours but the model under test; only its tensors are taken over, one by one, into
networks written down here. It stands for faithfulness where ImageNet's VGG-16 cannot be had: weights are random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_mkd import Mkd
from tests.networks import pictures, settle

if TYPE_CHECKING:
    from numpy.typing import NDArray

# widths of the convolutions of each block; a block ends in a max-pool, and the ends of blocks 2 to 5 are the taps
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SMALLER = ((16, 16), (16, 128), (16, 16, 256), (16, 16, 512), (16, 16, 512))
PAPER = {"map_layers": None, "map_scaling": "per_image_p99", "detach_teacher": False, "sigma": 4.0, "opening": True}
VALUE_WEIGHT = 0.5


class GuidedReLU(torch.autograd.Function):
    """A ReLU whose way back also stops negative gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0].clamp_min(0) * (x > 0)


def source(images: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
    """Pools 2 to 5 of a VGG-16."""
    tensors, x, pools = iter(state.values()), images, []
    for widths in VGG16:
        for width in widths:
            weight, bias = next(tensors), next(tensors)
            assert len(weight) == len(bias) == width
            x = F.conv2d(x, weight, bias, padding=1).relu()
        x = F.max_pool2d(x, 2)
        pools.append(x)
    assert next(tensors, None) is None
    return pools[1:]


def cloner(
    images: Tensor,
    state: dict[str, Tensor],
    blocks: tuple[tuple[int, ...], ...],
    *,
    training: bool = False,
    guided: bool = False,
) -> list[Tensor]:
    """Pools 2 to 5 of a student: no bias, and no BatchNorm right before a pool."""
    tensors = iter(value for name, value in state.items() if not name.endswith("num_batches_tracked"))
    x, pools = images, []
    for widths in blocks:
        for position, width in enumerate(widths, start=1):
            weight = next(tensors)
            assert len(weight) == width
            x = F.conv2d(x, weight, padding=1)
            if position < len(widths):
                gamma, beta, mean, variance = (next(tensors).clone() for _ in range(4))
                x = F.batch_norm(x, mean, variance, gamma, beta, training=training, eps=1e-5)
            x = GuidedReLU.apply(x) if guided else x.relu()
        x = F.max_pool2d(x, 2)
        pools.append(x)
    assert next(tensors, None) is None
    return pools[1:]


def terms(sources: list[Tensor], cloned: list[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction and value of every image and tap, ``(N, taps)`` each, in NumPy."""
    directions, values = [], []
    for s, c in zip(sources, cloned, strict=True):
        for n in range(len(s)):
            a, b = s[n].detach().numpy().ravel(), c[n].detach().numpy().ravel()
            directions.append(1 - np.dot(a, b) / max(np.sqrt(np.dot(a, a)) * np.sqrt(np.dot(b, b)), 1e-8))
            values.append(np.mean((b - a) ** 2))
    shape = (len(sources), len(sources[0]))
    return np.reshape(directions, shape).T, np.reshape(values, shape).T


def discrepancy(sources: list[Tensor], cloned: list[Tensor]) -> Tensor:
    """Direction plus weighted value of one image over taps, for autograd."""
    total = torch.zeros((), dtype=torch.float64)
    for s, c in zip(sources, cloned, strict=True):
        total = total + 1 - F.cosine_similarity(s.flatten(), c.flatten(), dim=0, eps=1e-8)
        total = total + VALUE_WEIGHT * F.mse_loss(c, s)
    return total


class Reference:
    """A model's tensors, and what the description makes of them."""

    def __init__(self, model: Mkd) -> None:
        self.teacher = model.model.teacher.net.state_dict()
        self.student = model.model.student.state_dict()
        self.blocks = VGG16 if model.hparams["student"] == "equal" else SMALLER
        self.arguments = model.hparams

    def terms(self, images: Tensor, *, training: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cloned = cloner(images, self.student, self.blocks, training=training)
        return terms(source(images, self.teacher), cloned)

    def gradient(self, image: Tensor) -> NDArray[np.float64]:
        """Gradient of the discrepancy of one image ``(3, H, W)``."""
        x = image[None].clone().requires_grad_()
        sources = source(x, self.teacher)
        if self.arguments["detach_teacher"]:
            sources = [s.detach() for s in sources]
        guided = self.arguments["localization"] == "guided"
        taps = slice(1, 2 if self.arguments["map_layers"] == "second" else None)
        cloned = cloner(x, self.student, self.blocks, guided=guided)
        discrepancy(sources[taps], cloned[taps]).backward()
        assert x.grad is not None
        return x.grad[0].numpy()

    def anomaly_map(self, image: Tensor) -> NDArray[np.float64]:
        """Map of one image ``(3, H, W)`` before any scaling by normal images."""
        grey = np.abs(self.gradient(image)).sum(0)
        if self.arguments["map_scaling"] == "per_image_p99":
            low, high = grey.min(), np.percentile(grey, 99)
            grey = np.clip((grey - low) / (high - low), 0, 1)
        blurred = gaussian_filter(grey, sigma=4)
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        return cv2.morphologyEx(blurred, cv2.MORPH_OPEN, ellipse)


def trained(**arguments: Any) -> Mkd:
    """A model as after a training, in float64, with a random teacher."""
    torch.manual_seed(0)
    off = {"pre_processor": False, "post_processor": False, "evaluator": False, "visualizer": False}
    model = Mkd(pre_trained=False, value_weight=VALUE_WEIGHT, relative_value=False, **off, **arguments)
    settle(model.model.student)
    return model.double().eval()


def close(actual: Tensor, expected: NDArray[np.float64] | list[NDArray[np.float64]], tolerance: float = 1e-6) -> None:
    """Equal to a fraction of the largest value."""
    expected = np.asarray(expected)
    assert np.abs(expected).max() > 1e-6
    assert np.abs(actual.detach().numpy() - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="default"),
        pytest.param(PAPER, id="paper"),
        pytest.param({**PAPER, "localization": "guided"}, id="guided"),
        pytest.param({"student": "equal"}, id="equal"),
    ],
)
def test_score_and_map(arguments: dict[str, Any]) -> None:
    model, images = trained(**arguments), pictures(2, 64, 80).double()
    reference = Reference(model)
    with torch.inference_mode():
        prediction = model.model(images)
    directions, values = reference.terms(images)
    close(prediction.pred_score, (directions + VALUE_WEIGHT * values)[:, 1:].sum(1))
    close(prediction.anomaly_map[:, 0], [reference.anomaly_map(image) for image in images])


@pytest.mark.slow
def test_the_papers_protocol_at_its_size() -> None:
    model, images = trained(**PAPER), pictures(2, 128).double()
    reference = Reference(model)
    with torch.inference_mode():
        prediction = model.model(images)
        single = model.float().model(images.float())
    directions, values = reference.terms(images)
    score = (directions + VALUE_WEIGHT * values)[:, 1:].sum(1)
    maps = [reference.anomaly_map(image) for image in images]
    close(prediction.pred_score, score)
    close(prediction.anomaly_map[:, 0], maps)
    close(single.pred_score, score, tolerance=1e-5)
    close(single.anomaly_map[:, 0], maps, tolerance=1e-2)  # a pool's winner may differ in single precision


def test_the_gradient_before_any_reduction() -> None:
    for detach in (True, False):
        model, images = trained(detach_teacher=detach), pictures(2, 64).double()
        with torch.inference_mode():
            _, gradient = model.model.score_and_gradient(images)
        close(gradient, [Reference(model).gradient(image) for image in images])


def test_scaling_by_normal_images() -> None:
    model, normal, images = trained(), pictures(4, 64).double(), pictures(1, 64, seed=1).double()
    reference = Reference(model)
    pixels = np.sort(np.concatenate([reference.anomaly_map(image).ravel() for image in normal]))
    model.model.calibrate_map([normal[:3], normal[3:]])
    scale = pixels[int(0.999 * len(pixels)) - 1]
    with torch.inference_mode():
        anomaly_map = model.model(images).anomaly_map
    close(anomaly_map[0, 0], reference.anomaly_map(images[0]) / scale)


@pytest.mark.parametrize("student", ["smaller", "equal"])
def test_training_loss_over_four_taps(student: str) -> None:
    model, images = trained(student=student), pictures(3, 64).double()
    directions, values = Reference(model).terms(images, training=True)
    parts = model.model.train().loss(*model.model.pyramids(images))
    close(parts["loss"], directions.mean(0).sum() + VALUE_WEIGHT * values.mean(0).sum())
    close(parts["direction"], directions.mean(0).sum())
    close(parts["value"], values.mean(0).sum())


def test_automatic_weight_of_the_value() -> None:
    model, images = trained(), pictures(3, 64).double()
    directions, values = Reference(model).terms(images, training=True)
    model.model.train().balance_terms(images, model.model.teacher(images))
    close(model.model.loss.weights[1], directions.sum(1).mean() / values.sum(1).mean())
