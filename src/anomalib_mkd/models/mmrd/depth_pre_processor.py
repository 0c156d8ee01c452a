# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Joint pre-processing of photo, depth and mask, in training, in testing and inside an exported graph.

anomalib's pre-processor transforms only photo and mask, and its data sets never augment the depth.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform

from anomalib_mkd.depth.checks import warn_of_unit
from anomalib_mkd.export.resize import AntialiasedResize, exportable

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

NORMAL_RANGE = (0.25, 0.75)
"""Values of normal depths in the depth image; depths beyond them must stay visible."""
LOWEST = 0.05
"""Smallest value of a measured depth in the depth image; 0 means missing."""
TAIL = 0.005
"""Share of the normal depths that may lie outside ``NORMAL_RANGE`` on either side."""
SAMPLES = 100_000
"""Maximum number of depths per image to estimate the range from."""

FLAT = 1e-4
"""Smallest width of the range, as a share of the depth: smaller differences are rounding."""

CONSTANTS = ("depth_low", "depth_high", "depth_pitch")

Aux = Literal["depth", "normals"]


class DepthPreProcessor(PreProcessor):
    """Resize photo, depth and mask to one size, and turn the depth into an image of three channels.

    The depth is ``(N, 1, H, W)``, where NaN is missing, or an organised point cloud ``(N, 3, H, W)`` of x, y and z,
    where NaN or z = 0 is missing; of any size. Only measured values are resized, so that holes do not lower their
    neighbours. Constants of the training set scale it, which keeps absolute depth: normal depths span the middle half
    of the depth image, since dents and bumps exceed them. Missing values become 0 (surface normals: no normal),
    whatever their neighbours are.

    Surface normals are computed after resizing and augmentation, so that a mirrored part has mirrored normals.

    Args:
        transform: Applied to the photo; the depth is resized to the result. Geometric steps other than ``Resize``
            belong in ``augmentation``.
        aux: The second modality: the depth, or surface normals computed from it.
        augmentation: Geometric transform of training images, the same for photo, depth and mask, and drawn anew for
            each image.

    Attributes:
        depth_channels: Channels of the depth maps in training, required of all later ones; None before training.

    Example:
        >>> from torchvision.transforms.v2 import Resize
        >>> pre_processor = DepthPreProcessor(Resize((64, 64), antialias=True))
        >>> photo, depth = pre_processor(torch.rand(2, 3, 96, 96), torch.rand(2, 1, 48, 48))
        >>> photo.shape, depth.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 3, 64, 64]))
    """

    depth_low: Tensor
    depth_high: Tensor
    depth_pitch: Tensor

    def __init__(
        self,
        transform: Transform | None = None,
        aux: Aux = "depth",
        augmentation: Transform | None = None,
    ) -> None:
        super().__init__(transform)
        self.aux = aux
        self.augmentation = augmentation
        self.register_buffer("depth_low", torch.tensor(0.0), persistent=False)
        self.register_buffer("depth_high", torch.tensor(1.0), persistent=False)
        self.register_buffer("depth_pitch", torch.tensor(1.0), persistent=False)
        self.depth_channels: int | None = None

    @property
    def usual_depth(self) -> tuple[float, float] | None:
        """Lowest and highest depth in training; ``None`` before."""
        return None if self.depth_channels is None else (self.depth_low.item(), self.depth_high.item())

    def checkpoint_config(self) -> dict[str, Any]:
        """Add the constants of the training set to anomalib's configuration of a pre-processor.

        They are not in the state dict, so that checkpoints load whichever pre-processor a model was built with.
        """
        constants = {name: getattr(self, name).item() for name in CONSTANTS}
        return {**super().checkpoint_config(), **constants, "depth_channels": self.depth_channels}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore transform and constants."""
        super().load_checkpoint_config(config)
        for name in CONSTANTS:
            getattr(self, name).fill_(config.get(name, getattr(self, name).item()))
        self.depth_channels = config.get("depth_channels", self.depth_channels)

    # ------------------------------------------------------------------------------------------------------ in anomalib

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Transform and augment a batch."""
        del trainer, pl_module, batch_idx
        self.transform_batch(batch, augment=True)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Transform a batch."""
        del trainer, pl_module, batch_idx, dataloader_idx
        self.transform_batch(batch)

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start

    def transform_batch(self, batch: Any, *, augment: bool = False) -> None:
        """Transform photo, mask and depth, if any, of a batch in place."""
        if self.transform:
            batch.image, batch.gt_mask = self.transform(batch.image, batch.gt_mask)
        depth = getattr(batch, "depth_map", None)
        if depth is not None and not augment:
            self._warn_of_units(with_channels(depth)[:, -1], batch.image_path)
        values = None if depth is None else self.resized(with_channels(depth), batch.image.shape[-2:])
        if augment and self.augmentation is not None:
            batch.image, batch.gt_mask, values = augmented(self.augmentation, batch.image, batch.gt_mask, values)
        if values is not None:
            batch.depth_map = self.depth_image(values)

    def _warn_of_units(self, depths: Tensor, paths: Sequence[str] | None) -> None:
        if (usual := self.usual_depth) is not None:
            for index, depth in enumerate(depths):
                place = f"the depth of {paths[index]}" if paths else "a depth map"
                warn_of_unit(depth.cpu(), usual, place)

    # ------------------------------------------------------------------------------------------------------ in graphs

    def forward(self, batch: Tensor, depth: Tensor | None = None) -> Any:
        """Pre-process raw inputs, as an exported graph does.

        Args:
            batch: Photos ``(N, 3, H, W)`` in 0..1.
            depth: Depth maps, as for the class.

        Returns:
            Photos, and with ``depth`` also depth images ``(N, 3, h, w)``.
        """
        photo = exportable(self.transform)(batch) if self.transform else batch
        if depth is None:
            return photo
        return photo, self.depth_image(self.resized(depth, photo.shape[-2:]))

    def resized(self, depth: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Average measured values to a size.

        Args:
            depth: ``(N, 1, H, W)`` or ``(N, 3, H, W)``.
            size: Height and width.

        Returns:
            Depths of that size; NaN where less than half of a pixel was measured.

        Raises:
            ValueError: If the depth does not have the channels of training.
        """
        allowed = (1, 3) if self.depth_channels is None else (self.depth_channels,)
        if depth.shape[1] not in allowed:
            channels = " or ".join(map(str, allowed))
            msg = (
                f"Expected depth maps of {channels} channels as in training (heights: 1, points: 3), got "
                f"{depth.shape[1]}. Set the datamodule's depth as in training."
            )
            raise ValueError(msg)
        measured = _measured(depth)
        resize = AntialiasedResize(size)
        share = resize(measured.to(depth.dtype))
        values = resize(torch.where(measured, depth, 0.0)) / share.clamp_min(1e-6)
        return torch.where(share > 0.5, values, torch.nan)

    def depth_image(self, values: Tensor) -> Tensor:
        """Turn depths into the input of a network for photos.

        Args:
            values: As returned by :meth:`resized`.

        Returns:
            ``(N, 3, h, w)``, normalised like ImageNet's photos.
        """
        picture = self._normals(values) if self.aux == "normals" else self._scaled(values)
        mean, std = _imagenet(picture)
        return (picture - mean) / std

    def _scaled(self, values: Tensor) -> Tensor:
        """Scale depths to 0..1, ``(N, 1, h, w)``; 0 where missing."""
        depth = values[:, -1:]
        measured = ~depth.isnan()
        depth = torch.where(measured, depth, 0.0)
        bottom, top = NORMAL_RANGE
        share = (depth - self.depth_low) / (self.depth_high - self.depth_low).clamp_min(1e-9)
        return torch.where(measured, (bottom + (top - bottom) * share).clamp(LOWEST, 1.0), 0.0)

    def _normals(self, values: Tensor) -> Tensor:
        """Compute unit normals towards the camera, in 0..1, ``(N, 3, h, w)``; (0.5, 0.5, 0) where missing.

        A height map is placed on a grid whose pitch makes the steepest slopes of normal parts 45 degrees, with the
        camera above.
        """
        is_map = values.shape[1] == 1
        if is_map:
            rows, columns = (torch.ones_like(values).cumsum(dim) * self.depth_pitch for dim in (2, 3))
            values = torch.cat((columns, rows, -values), dim=1)
        missing = values.isnan().any(dim=1, keepdim=True)
        share = F.avg_pool2d((~missing).to(values.dtype), 3, 1, 1)
        points = F.avg_pool2d(torch.where(missing, 0.0, values), 3, 1, 1) / share.clamp_min(1e-6)
        across = points[:, :, 1:-1, 2:] - points[:, :, 1:-1, :-2]
        down = points[:, :, 2:, 1:-1] - points[:, :, :-2, 1:-1]
        normal = torch.linalg.cross(across, down, dim=1)
        normal = normal * -normal[:, 2:].sign()
        normal = normal * (normal.square().sum(dim=1, keepdim=True) + 1e-24).rsqrt()
        holes = F.max_pool2d(missing.to(values.dtype), 3, 1, 1) > 0
        if not is_map:
            measured = ~holes[:, :, 1:-1, 1:-1]
            normal = _along_picture(normal, across * measured, down * measured)
        normal = F.pad(normal, (1, 1, 1, 1), mode="replicate")
        none = normal.new_tensor((0.0, 0.0, -1.0)).view(1, 3, 1, 1)
        return (torch.where(holes, none, normal) + 1) / 2

    # --------------------------------------------------------------------------------------------------- calibration

    def calibrate(self, maps: Iterable[Tensor], size: tuple[int, int] | torch.Size) -> None:
        """Estimate the range and the steepness of normal depths.

        Args:
            maps: Raw depth maps of normal images, each ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)``.
            size: Height and width of the model's input.

        Raises:
            ValueError: If none of them has a measured depth.
        """
        depths: list[Tensor] = []
        slopes: list[Tensor] = []
        self.depth_channels = None
        for depth in maps:
            maps_of_one = with_channels(depth[None])
            values = self.resized(maps_of_one, size)[:, -1:]
            self.depth_channels = maps_of_one.shape[1]
            across, down = values.diff(dim=3).abs(), values.diff(dim=2).abs()
            for kept, found in ((depths, values), (slopes, across), (slopes, down)):
                flat = found[~found.isnan()]
                kept.append(flat[:: max(1, len(flat) // SAMPLES)])
        every = torch.cat(depths) if depths else torch.empty(0)
        if not len(every):
            msg = "Expected measured depth in the normal training images, got none. Check the depth files."
            raise ValueError(msg)
        low, high = _quantile(every, TAIL), _quantile(every, 1 - TAIL)
        self.depth_low.copy_(low)
        self.depth_high.copy_(torch.maximum(high, low + FLAT * low.abs().clamp_min(1e-6)))
        self.depth_pitch.copy_(_quantile(torch.cat(slopes), 0.99).clamp_min(1e-9))


def default_transform(size: tuple[int, int] = (256, 256)) -> Transform:
    """Build anomalib's transform of photos: resize, and normalise like ImageNet's photos."""
    transform: Transform = AnomalibModule.configure_pre_processor(size).transform
    return transform


def augmented(
    augmentation: Transform, photos: Tensor, masks: Tensor | None, depths: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Transform each image with its mask and depth; the depth as a mask, so that values are neither mixed nor tinted.

    Args:
        augmentation: A geometric transform.
        photos: ``(N, 3, H, W)``.
        masks: ``(N, H, W)``.
        depths: ``(N, C, H, W)``.
    """
    done: list[tuple[Any, ...]] = []
    for index, photo in enumerate(photos):
        given = [tv_tensors.Image(photo)]
        given += [tv_tensors.Mask(group[index]) for group in (masks, depths) if group is not None]
        transformed = augmentation(*given)
        done.append(transformed if len(given) > 1 else (transformed,))
    stacked = [torch.stack([part.as_subclass(Tensor) for part in parts]) for parts in zip(*done, strict=True)]
    photos = stacked.pop(0)
    return photos, None if masks is None else stacked.pop(0), None if depths is None else stacked.pop(0)


def picture_of_depth(depth: Tensor) -> Tensor:
    """Undo the normalisation of a depth image.

    Args:
        depth: ``(3, H, W)``.

    Returns:
        The depth image in 0..1, rounded to four places.
    """
    mean, std = _imagenet(depth)
    return (depth * std + mean)[0].round(decimals=4).clamp(0, 1)


def _imagenet(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of ImageNet's photos, ``(1, 3, 1, 1)``."""
    mean, std = (like.new_tensor(numbers).view(1, 3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def with_channels(depth: Tensor) -> Tensor:
    """Return depth maps ``(N, C, H, W)``, adding the channel to anomalib's ``(N, H, W)``."""
    return depth if depth.ndim == 4 else depth.unsqueeze(1)


def _along_picture(normals: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Express normals along the image's columns and rows, which may be mirrored or rotated against the scan's x and y.

    Args:
        normals: ``(N, 3, h, w)``.
        across: From each point's left to its right neighbour, ``(N, 3, h, w)``; 0 where missing.
        down: From its upper to its lower neighbour, ``(N, 3, h, w)``; 0 where missing.
    """
    right = across[:, :2].sum(dim=(2, 3), keepdim=True)
    right = right * (right.square().sum(dim=1, keepdim=True) + 1e-24).rsqrt()
    below = torch.cat((-right[:, 1:], right[:, :1]), dim=1)
    below = below * (below * down[:, :2].sum(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True).sign()
    x, y = ((axis * normals[:, :2]).sum(dim=1, keepdim=True) for axis in (right, below))
    return torch.cat((x, y, normals[:, 2:]), dim=1)


def _measured(depth: Tensor) -> Tensor:
    """Return where a depth was measured, ``(N, 1, H, W)``."""
    finite = depth.isfinite().all(dim=1, keepdim=True)
    return finite if depth.shape[1] == 1 else finite & (depth[:, -1:] != 0)


def _quantile(values: Tensor, share: float) -> Tensor:
    """Compute a quantile; ``torch.quantile`` is limited to 16 million values."""
    return values.kthvalue(1 + round(share * (len(values) - 1))).values
