# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The base of the torch models: a frozen teacher, a student, and the comparison of their features."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_mkd.distillation.anomaly_map import AnomalyMapGenerator
from anomalib_mkd.distillation.losses import PyramidLoss
from anomalib_mkd.functional import mean_of_largest
from anomalib_mkd.networks.backbone import MIN_SIZE
from anomalib_mkd.networks.teacher import FrozenNetwork
from anomalib_mkd.types import Pyramid


class TeacherStudent(nn.Module, ABC):
    """A teacher and a student, compared at the same layers.

    Training calls :meth:`pyramids`, prediction calls ``forward``, in either mode. Only ``forward`` is exported, so
    training-only parts cannot leak into a graph.

    Args:
        teacher: The frozen network.
        student: Maps images ``(N, C, H, W)`` to a pyramid with the teacher's layers and shapes.
        loss: The training loss of the two pyramids.

    Attributes:
        image_channels: Channels ``C`` of an image: 3, and 3 more for depth.
        side_multiple: Number of which every side of an image must be a multiple.
    """

    image_channels = 3
    side_multiple = 1

    def __init__(self, teacher: FrozenNetwork, student: nn.Module, loss: PyramidLoss) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student
        self.loss = loss

    def learned_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the trainable parameters."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def pyramids(self, images: Tensor, teacher: Pyramid | None = None) -> tuple[Pyramid, Pyramid]:
        """Compute the pyramids that the loss compares.

        Args:
            images: Pre-processed images ``(N, C, H, W)``.
            teacher: The teacher's features of these images, if already known; in training, of the images before they
                were painted over.

        Returns:
            The teacher's and the student's pyramid.
        """
        self.check_images(images)
        if teacher is None:
            with torch.no_grad():
                teacher = self.teacher(images)
        return self.compared(images, teacher)

    def compared(self, images: Tensor, teacher: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Compute the pyramids that prediction also compares: both networks' features of the same images."""
        return teacher, self.student(images)

    def check_images(self, images: Tensor) -> None:
        """Validate the shape of images; skipped during export.

        Args:
            images: Expected as ``(N, C, H, W)``, N > 0, with sides of at least 32 pixels that are multiples of
                :attr:`side_multiple`.

        Raises:
            ValueError: If the shape differs.
        """
        if torch.compiler.is_compiling():
            return
        multiple = self.side_multiple
        shape = tuple(images.shape)
        batched = len(shape) == 4 and shape[0] > 0 and shape[1] == self.image_channels
        if batched and all(side >= MIN_SIZE and side % multiple == 0 for side in shape[2:]):
            return
        sides = f"H, W >= {MIN_SIZE}" + (f" and multiples of {multiple}" if multiple > 1 else "")
        msg = (
            f"Expected pre-processed images of shape (N, {self.image_channels}, H, W) with N > 0 and {sides}, got "
            f"{shape}. Pass RGB images, and use a pre-processor that resizes to such a size."
        )
        raise ValueError(msg)

    @abstractmethod
    def forward(self, images: Tensor) -> InferenceBatch:
        """Predict ``pred_score`` ``(N,)`` and ``anomaly_map`` ``(N, 1, H, W)`` of images ``(N, C, H, W)``."""


class LevelwiseTeacherStudent(TeacherStudent):
    """Predicts by comparing the pyramids level by level; the score is the mean of the map's highest values.

    Args:
        teacher: The frozen network.
        student: Maps images ``(N, 3, H, W)`` to a pyramid with the teacher's layers and shapes.
        loss: The training loss of the two pyramids.
        anomaly_map: Fuses the levels' distances.
        score_share: Share of the map's pixels whose mean is the score; 0 for the peak alone.
    """

    def __init__(
        self,
        teacher: FrozenNetwork,
        student: nn.Module,
        loss: PyramidLoss,
        anomaly_map: AnomalyMapGenerator,
        score_share: float,
    ) -> None:
        super().__init__(teacher, student, loss)
        self.anomaly_map = anomaly_map
        self.score_share = score_share

    def forward(self, images: Tensor) -> InferenceBatch:
        """Predict score and map of each image."""
        self.check_images(images)
        anomaly_map = self.locate(*self.compared(images, self.teacher(images)), images.shape[-2:])
        return InferenceBatch(pred_score=mean_of_largest(anomaly_map, self.score_share), anomaly_map=anomaly_map)

    def locate(self, teacher: Pyramid, student: Pyramid, size: torch.Size) -> Tensor:
        """Compute the map ``(N, 1, H, W)`` from two pyramids and the image's size."""
        anomaly_map: Tensor = self.anomaly_map(teacher, student, size)
        return anomaly_map
