# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Distances and map operations against hand values, loops, NumPy, SciPy and OpenCV."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from anomalib_mkd.functional import (
    enlarge,
    flat_cosine_distance,
    gaussian_blur,
    grey_opening,
    mean_of_largest,
    position_cosine_distance,
    position_cosine_map,
    spatial_kl_divergence,
    stretch_to_percentile,
    value_distance,
)
from tests.networks import pictures

SIZES = ((32, 32), (35, 50), (128, 128))
DISTANCES = [
    value_distance,
    flat_cosine_distance,
    position_cosine_distance,
    spatial_kl_divergence,
]

TEACHER = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 2.0]]).view(1, 2, 2, 2)
STUDENT = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 2.0, 2.0]]).view(1, 2, 2, 2)


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


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", [((8, 8), (64, 64)), ((10, 13), (75, 97)), ((1, 5), (3, 5)), ((9, 7), (4, 4))])
def test_enlarging_equals_torch(sizes: tuple[tuple[int, int], tuple[int, int]], align_corners: bool) -> None:
    maps = torch.rand(2, 1, *sizes[0])
    expected = torch.nn.functional.interpolate(maps, sizes[1], mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(enlarge(maps, sizes[1], align_corners=align_corners), expected, rtol=0, atol=3e-6)


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


def pair(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.rand(3, 5, 6, 7, generator=generator) for _ in range(2))
    return teacher.to(dtype), student.to(dtype)


def test_cosine_at_each_position_by_hand() -> None:
    """The third position has a zero vector: distance 1, not NaN."""
    distances = position_cosine_map(TEACHER, STUDENT)
    assert distances.flatten().tolist() == pytest.approx([0.29289322, 0.29289322, 1, 0], abs=1e-6)
    assert position_cosine_distance(TEACHER, STUDENT).item() == pytest.approx(0.39644661, abs=1e-6)


def test_divergence_over_positions_by_hand() -> None:
    divergence = spatial_kl_divergence(TEACHER.double(), STUDENT.double())
    assert divergence.item() == pytest.approx(0.43086816 / 2, abs=1e-7)


def test_divergence_has_a_direction_and_ignores_constants() -> None:
    teacher, student = pair()
    forward, backward = spatial_kl_divergence(teacher, student), spatial_kl_divergence(student, teacher)
    assert (forward > 0).all()
    assert not torch.allclose(forward, backward, rtol=1e-3)
    shift = torch.arange(5.0).view(1, 5, 1, 1)
    torch.testing.assert_close(spatial_kl_divergence(teacher + shift, student - shift), forward, rtol=1e-4, atol=1e-6)
    constant = torch.ones_like(teacher)
    assert spatial_kl_divergence(constant, 7 * constant).abs().max() < 1e-6


@pytest.mark.parametrize(("share", "count"), [(1.0, 42), (0.5, 21), (0.1, 5), (0.0, 1)])
def test_a_share_takes_the_positions_of_each_image_where_the_distance_is_largest(share: float, count: int) -> None:
    teacher, student = pair()
    largest = position_cosine_map(teacher, student).flatten(1).sort(dim=1, descending=True).values[:, :count]
    torch.testing.assert_close(position_cosine_distance(teacher, student, share), largest.mean(dim=1))


def test_the_mean_of_the_largest_is_exported_for_any_size() -> None:
    class Score(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return mean_of_largest(maps, 0.1)

    shapes = ({2: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(Score(), (torch.rand(1, 1, 32, 48),), dynamic_shapes=shapes).module()
    for height in (16, 32, 64):
        maps = torch.rand(1, 1, height, 48)
        torch.testing.assert_close(exported(maps), mean_of_largest(maps, 0.1))


def test_the_cosine_of_positions_ignores_what_they_should() -> None:
    """A factor per position is invisible to one vector per position, a factor per channel is not."""
    teacher, student = pair()
    per_position = torch.rand(3, 1, 6, 7) + 0.1
    per_channel = torch.rand(3, 5, 1, 1) + 0.1
    expected = position_cosine_distance(teacher, student)
    torch.testing.assert_close(position_cosine_distance(teacher, student * per_position), expected)
    assert (position_cosine_distance(teacher, student * per_channel) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_copy_has_no_distance_and_images_do_not_mix(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher, student = pair()
    copied = distance(teacher, teacher)
    assert copied.shape == (3,)
    assert (copied >= 0).all()
    assert copied.max() < 1e-6
    torch.testing.assert_close(distance(teacher, student)[1:2], distance(teacher[1:2], student[1:2]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("distance", DISTANCES)
def test_half_precision_is_compared_in_float32(
    distance: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    teacher, student = (300 * features for features in pair(dtype))  # sums of squares overflow float16
    result = distance(teacher, student)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, distance(teacher.float(), student.float()))
    assert distance(teacher.double(), student.double()).dtype == torch.float64


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_stay_finite_where_features_vanish(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    """A ReLU's exact zeros are the case that happens."""
    teacher, inputs = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2, requires_grad=True)
    teacher[0, 0, 0, 0] = 1.0
    distance(teacher, inputs.relu()).sum().backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
