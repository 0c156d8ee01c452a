# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Distances and map operations against loops, NumPy, SciPy and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_mkd.functional import (
    flat_cosine_distance,
    gaussian_blur,
    grey_opening,
    stretch_to_percentile,
    value_distance,
)
from tests.networks import pictures

SIZES = ((32, 32), (35, 50), (128, 128))


def maps(height: int, width: int, count: int = 2) -> torch.Tensor:
    return pictures(count, height, width)[:, :1]


def test_hand_value_a() -> None:
    teacher = torch.full((1, 1, 2, 2), 2.0, dtype=torch.float64)
    student = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64).view(1, 1, 2, 2)
    assert value_distance(teacher, student).item() == 1.5
    assert flat_cosine_distance(teacher, student).item() == pytest.approx(0.08712907, abs=1e-8)


def test_hand_value_b_keeps_images_apart() -> None:
    student = torch.tensor([[1.0, 0, 0], [0, 2, 0]]).view(2, 3, 1, 1)
    teacher = torch.tensor([[1.0, 0, 0], [0, 0, 3]]).view(2, 3, 1, 1)
    per_image = flat_cosine_distance(teacher, student) + 0.5 * value_distance(teacher, student)
    torch.testing.assert_close(per_image, torch.tensor([0.0, 3.16666667]))


def test_hand_value_c_a_zero_level_is_at_a_right_angle() -> None:
    student, teacher = torch.zeros(1, 3, 1, 1), torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    term = flat_cosine_distance(teacher, student) + 0.5 * value_distance(teacher, student)
    assert term.item() == pytest.approx(1.16666667)


def test_distances_equal_a_loop_and_do_not_depend_on_the_order_of_arguments() -> None:
    generator = np.random.default_rng(0)
    teacher, student = generator.normal(size=(2, 3, 4, 5, 6))
    for image in range(3):
        t, s = teacher[image].ravel(), student[image].ravel()
        one = [torch.from_numpy(x[image : image + 1]) for x in (teacher, student)]
        assert value_distance(*one).item() == pytest.approx(sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / 120)
        cosine = sum(t * s) / (sum(t * t) * sum(s * s)) ** 0.5
        assert flat_cosine_distance(*one).item() == pytest.approx(1 - cosine)
        assert flat_cosine_distance(*reversed(one)).item() == pytest.approx(1 - cosine)


def test_directions_of_features_after_a_relu_lie_between_0_and_1() -> None:
    teacher, student = torch.randn(2, 64, 3, 4, 4, generator=torch.Generator().manual_seed(0)).relu()
    distance = flat_cosine_distance(teacher, student)
    assert 0 < distance.min() < distance.max() < 1
    assert flat_cosine_distance(teacher, 3 * teacher).abs().max() < 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
def test_blur_equals_scipy(size: tuple[int, int], sigma: float) -> None:
    image = maps(*size)
    expected = np.stack([gaussian_filter(m[0].numpy().astype(np.float64), sigma) for m in image])
    assert np.abs(gaussian_blur(image, sigma)[:, 0].numpy() - expected).max() < 1e-6


def test_no_blur_and_a_blur_too_wide() -> None:
    image = maps(32, 32)
    assert torch.equal(gaussian_blur(image, 0.0), image)
    gaussian_blur(image, 8.0)
    with pytest.raises(ValueError, match=r"at least 33 pixels a side for sigma=8.25, got \(32, 32\)"):
        gaussian_blur(image, 8.25)


@pytest.mark.parametrize("size", SIZES)
def test_opening_equals_opencv(size: tuple[int, int]) -> None:
    cross = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    assert cross.tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    image = maps(*size)
    expected = np.stack([cv2.morphologyEx(m[0].numpy(), cv2.MORPH_OPEN, cross) for m in image])
    assert np.array_equal(grey_opening(image)[:, 0].numpy(), expected)


def test_opening_the_map_opens_every_thresholded_map() -> None:
    cross = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    image = maps(64, 64, count=1)
    opened = grey_opening(image)[0, 0].numpy()
    for threshold in np.arange(0, 1, 0.001, dtype=np.float32):
        binary = (image[0, 0].numpy() >= threshold).astype(np.uint8)
        assert np.array_equal(cv2.morphologyEx(binary, cv2.MORPH_OPEN, cross), opened >= threshold)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("percentile", [50.0, 99.0, 100.0])
def test_stretching_equals_numpy(size: tuple[int, int], percentile: float) -> None:
    image = maps(*size)
    for one, stretched in zip(image.numpy(), stretch_to_percentile(image, percentile).numpy(), strict=True):
        low, high = one.min(), np.percentile(one.astype(np.float64), percentile)
        np.testing.assert_allclose(stretched, np.clip((one - low) / (high - low), 0, 1), atol=1e-6)


def test_stretching_a_constant_map_gives_zeros() -> None:
    assert torch.equal(stretch_to_percentile(torch.full((2, 1, 32, 32), 0.3)), torch.zeros(2, 1, 32, 32))
