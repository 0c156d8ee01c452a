# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Photo, depth and mask stay together, and a hole stays a hole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data.dataclasses.torch import DepthBatch
from torch import Tensor
from torchvision.transforms.v2 import Compose, RandomHorizontalFlip, RandomVerticalFlip, Resize

from anomalib_mkd.models.mmrd.depth_pre_processor import DepthPreProcessor, default_transform, picture_of_depth

SIZE = (64, 64)


def make(**arguments: Any) -> DepthPreProcessor:
    return DepthPreProcessor(default_transform(SIZE), **arguments)


def depth_picture(pre_processor: DepthPreProcessor, depth: Tensor) -> Tensor:
    """What the teacher sees of a depth map, in 0..1."""
    _, image = pre_processor(torch.zeros(len(depth), 3, 80, 96), depth)
    return torch.stack([picture_of_depth(one) for one in image])


def test_resizing_looks_at_measured_values_only() -> None:
    values = torch.tensor([1.0, 1.0, torch.nan, 1.0]).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    torch.testing.assert_close(make().resized(values, (4, 2)), torch.ones(1, 1, 4, 2))
    lost = torch.full((1, 1, 4, 8), torch.nan)
    lost[..., :3] = 1
    assert make().resized(lost, (4, 2))[0, 0, 0].isnan().tolist() == [False, True]


def test_a_hole_is_0_and_leaves_its_neighbours_alone() -> None:
    depth = torch.full((1, 1, 64, 64), 0.5)
    depth[..., 20:40, 20:40] = torch.nan
    picture = depth_picture(make(), depth)
    assert (picture[..., 22:38, 22:38] == 0).all()
    assert picture[picture > 0].unique().numel() == 1


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_frame_without_depth_is_neutral_and_finite(value: float) -> None:
    for arguments in ({}, {"aux": "normals"}):
        photo, image = make(**arguments)(torch.zeros(2, 3, 80, 96), torch.full((2, 1, 60, 70), value))
        assert photo.shape == image.shape == (2, 3, *SIZE)
        assert image.isfinite().all()
        assert all(channel.unique().numel() == 1 for channel in image.transpose(0, 1))


@pytest.mark.parametrize("value", [0.0, 0.6, -0.3, 812.7])
def test_a_constant_frame_shows_no_rounding(value: float) -> None:
    pre_processor, frame = make(), torch.full((1, 1, 60, 70), value)
    frame[..., 20:30, 20:30] = torch.nan
    pre_processor.calibrate(frame, SIZE)
    picture = depth_picture(pre_processor, frame)
    shown = picture[picture > 0]
    assert shown.max() - shown.min() < 0.01
    normals = depth_picture(make(aux="normals"), frame)
    torch.testing.assert_close(normals, torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1).expand_as(normals))


def test_points_without_distance_are_missing() -> None:
    points = torch.rand(1, 3, 64, 64) + 1
    points[:, 2, :, :32] = 0
    picture = depth_picture(make(), points)
    assert (picture[..., :30] == 0).all()
    assert (picture[..., 34:] > 0).all()


def test_normal_depths_span_the_middle_half_and_the_rest_stays_visible() -> None:
    pre_processor = make()
    pre_processor.calibrate([torch.linspace(2.0, 4.0, 64).repeat(1, 64, 1)], SIZE)
    heights = torch.tensor([1.5, 2.0, 3.0, 4.0, 4.5])
    shown = depth_picture(pre_processor, heights.view(-1, 1, 1, 1).expand(-1, 1, 64, 64))[:, 0, 0, 0]
    torch.testing.assert_close(shown, torch.tensor([0.125, 0.25, 0.5, 0.75, 0.875]), atol=0.02, rtol=0)


def tilted(channels: int) -> Tensor:
    """A plane z = 0.5 + 0.2 x, as points or, with the camera above, as heights."""
    x = torch.linspace(0, 1, 64).expand(64, 64)
    y = x.T
    z = 0.5 + 0.2 * x
    return torch.stack([x, y, z])[None] if channels == 3 else -z[None, None]


@pytest.mark.parametrize("channels", [1, 3])
def test_normals_of_a_tilted_plane(channels: int) -> None:
    pre_processor = make(aux="normals")
    pre_processor.depth_pitch.fill_(1 / 63)
    normal = 2 * depth_picture(pre_processor, tilted(channels)) - 1
    middle = normal[0, :, 20:40, 20:40].mean(dim=(1, 2))
    torch.testing.assert_close(middle, torch.tensor([0.1961, 0.0, -0.9806]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_pitch_makes_the_steepest_slopes_45_degrees(axis: int) -> None:
    pre_processor = make(aux="normals")
    heights = 10 * (tilted(1) if axis == 0 else tilted(1).mT)
    pre_processor.calibrate([heights[0]], SIZE)
    middle = 2 * depth_picture(pre_processor, heights)[0, :, 32, 32] - 1
    torch.testing.assert_close(middle[axis], -middle[2], atol=1e-2, rtol=0)


def make_batch(size: tuple[int, int] = (48, 60)) -> DepthBatch:
    """A bright square at the upper left, in photo, depth and mask alike."""
    photo, depth, mask = torch.zeros(3, 3, *size), torch.zeros(3, 1, *size), torch.zeros(3, *size, dtype=torch.bool)
    for values in (photo, depth, mask):
        values[..., : size[0] // 3, : size[1] // 3] = 1
    return DepthBatch(image=photo, depth_map=depth, gt_mask=mask, gt_label=torch.ones(3, dtype=torch.bool))


def centre(values: Tensor) -> tuple[float, float]:
    """Where an image is bright, as shares of its sides."""
    bright = (values > values.mean()).float()
    rows, columns = torch.nonzero(bright, as_tuple=True)
    return rows.float().mean().item() / values.shape[-2], columns.float().mean().item() / values.shape[-1]


def test_a_flip_reaches_photo_depth_and_mask() -> None:
    flips = Compose([RandomHorizontalFlip(p=1), RandomVerticalFlip(p=1)])
    pre_processor, batch = make(augmentation=flips), make_batch()
    pre_processor.on_train_batch_start(None, None, batch, 0)
    assert batch.image.shape == batch.depth_map.shape == (3, 3, *SIZE)
    assert batch.gt_mask.shape == (3, *SIZE)
    for values in (batch.image[0, 0], batch.depth_map[0, 0], batch.gt_mask[0].float()):
        assert centre(values) == pytest.approx((5 / 6, 5 / 6), abs=0.02)


@pytest.mark.parametrize("serve", ["heights", "points"])
@pytest.mark.parametrize(("flip", "axis"), [(RandomHorizontalFlip(p=1), 0), (RandomVerticalFlip(p=1), 1)])
def test_a_mirrored_part_has_mirrored_normals(serve: str, flip: Any, axis: int) -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    surface = 1 + 0.3 * (4 * columns + rows).sin() + 0.2 * rows.square()
    depth = (-surface[None] if serve == "heights" else torch.stack([columns, rows, surface]))[None]
    shown = []
    for augmentation in (None, flip):
        pre_processor = make(aux="normals", augmentation=augmentation)
        pre_processor.depth_pitch.fill_(1 / 63)
        batch = DepthBatch(image=torch.zeros(1, 3, *SIZE), depth_map=depth.clone())
        pre_processor.on_train_batch_start(None, None, batch, 0)
        shown.append(picture_of_depth(batch.depth_map[0]))
    plain, mirrored = shown
    expected = flip(plain)
    expected[axis] = 1 - expected[axis]
    assert (plain[axis] - 0.5).abs().mean() > 0.02
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(mirrored[inside], expected[inside], atol=2e-3, rtol=0)


def test_only_training_is_augmented_and_each_image_by_its_own_chance() -> None:
    torch.manual_seed(0)
    pre_processor = make(augmentation=RandomHorizontalFlip(p=0.5))
    for hook in (pre_processor.on_validation_batch_start, pre_processor.on_test_batch_start):
        batch = make_batch()
        hook(None, None, batch, 0)
        assert centre(batch.depth_map[0, 0]) == pytest.approx((1 / 6, 1 / 6), abs=0.02)
    sides = set()
    for _ in range(4):
        batch = make_batch()
        pre_processor.on_train_batch_start(None, None, batch, 0)
        for photo, depth in zip(batch.image, batch.depth_map, strict=True):
            assert centre(photo[0]) == pytest.approx(centre(depth[0]), abs=0.02)
        sides.add(tuple(centre(photo[0])[1] > 0.5 for photo in batch.image))
    assert any(len(set(side)) == 2 for side in sides)


def test_a_graph_sees_what_testing_sees() -> None:
    pre_processor, batch = make(), make_batch()
    photo, depth = pre_processor(batch.image, batch.depth_map)
    pre_processor.on_test_batch_start(None, None, batch, 0)
    torch.testing.assert_close(photo, batch.image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(depth, batch.depth_map)


def test_constants_travel_with_a_checkpoint_as_plain_data() -> None:
    trained, loaded = make(), make()
    trained.calibrate([torch.rand(1, 40, 40) + 3], SIZE)
    assert not trained.state_dict()
    loaded.load_checkpoint_config(trained.checkpoint_config())
    assert loaded.depth_low == trained.depth_low > 2.9
    assert loaded.depth_pitch == trained.depth_pitch
    assert loaded.depth_channels == trained.depth_channels == 1


def test_depth_of_another_kind_than_in_training_is_refused() -> None:
    pre_processor = make()
    with pytest.raises(ValueError, match=r"Expected depth maps of 1 or 3 channels .* got 2\. Set the datamodule"):
        pre_processor(torch.zeros(1, 3, 80, 96), torch.ones(1, 2, 60, 70))
    pre_processor.calibrate([torch.rand(40, 40) + 3], SIZE)
    batch = make_batch()
    batch.depth_map = torch.ones(3, 3, 48, 60)
    with pytest.raises(ValueError, match=r"Expected depth maps of 1 channels .* got 3\. Set the datamodule"):
        pre_processor.on_test_batch_start(None, None, batch, 0)
    with pytest.raises(ValueError, match="got 3"):
        pre_processor.calibrate([torch.rand(1, 40, 40), torch.rand(3, 40, 40)], SIZE)


@pytest.mark.parametrize("factor", [1000, 1 / 1000])
def test_depth_in_another_unit_than_in_training_is_named(factor: float) -> None:
    pre_processor = DepthPreProcessor(Resize((16, 16), antialias=True))
    depth = torch.linspace(0.0, 0.05, 1024).view(1, 1, 32, 32)
    batch = SimpleNamespace(
        image=torch.rand(1, 3, 32, 32), gt_mask=None, depth_map=depth * factor, image_path=["a.png"]
    )
    pre_processor.calibrate(depth, (16, 16))
    with pytest.warns(
        RuntimeWarning, match=r"^Expected depths up to about 0.0\d+, as in training, in the depth of a.png"
    ):
        pre_processor.on_predict_batch_start(None, None, batch, 0)


def test_a_missing_part_is_in_no_other_unit() -> None:
    pre_processor = DepthPreProcessor(Resize((16, 16), antialias=True))
    depth = torch.linspace(0.0, 0.05, 1024).view(1, 1, 32, 32)
    pre_processor.calibrate(depth, (16, 16))
    for heights in (depth, depth * 3, depth * 0, depth * torch.nan):
        batch = SimpleNamespace(image=torch.rand(1, 3, 32, 32), gt_mask=None, depth_map=heights, image_path=None)
        pre_processor.on_test_batch_start(None, None, batch, 0)


def test_refuses_training_without_any_depth() -> None:
    with pytest.raises(ValueError, match="Expected measured depth in the normal training images, got none"):
        make().calibrate([torch.full((1, 40, 40), torch.nan)], SIZE)


def test_without_a_transform_the_depth_takes_the_size_of_the_photo() -> None:
    photo, depth = DepthPreProcessor()(torch.rand(1, 3, 64, 96), torch.rand(1, 1, 30, 50))
    assert photo.shape == depth.shape
    _, depth = DepthPreProcessor(Resize((32, 32), antialias=True))(torch.rand(1, 3, 64, 96), torch.rand(1, 1, 30, 50))
    assert depth.shape == (1, 3, 32, 32)
