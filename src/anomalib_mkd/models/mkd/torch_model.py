# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""MKD: a small network must match a teacher in value and direction; the gradient of the mismatch locates failures.

Source: Salehi et al., "Multiresolution Knowledge Distillation for Anomaly Detection", CVPR 2021, arXiv 2011.11108.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, cast

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_mkd.distillation.losses import PyramidLoss
from anomalib_mkd.distillation.teacher_student import TeacherStudent
from anomalib_mkd.functional import (
    flat_cosine_distance,
    gaussian_blur,
    grey_opening,
    root_mean_square,
    stretch_to_percentile,
    value_distance,
)
from anomalib_mkd.models.mkd.cloner import StudentSize, build_cloner
from anomalib_mkd.models.mkd.localization import Localization, discrepancy_gradient, input_gradient, kept_steps
from anomalib_mkd.networks.chain import Chain
from anomalib_mkd.networks.teacher import Teacher
from anomalib_mkd.types import Pyramid

Second: TypeAlias = Literal["second"]
MapScaling: TypeAlias = Literal["train_quantile", "none", "per_image_p99"]

SMOOTH_GRAD_COPIES = 50
MAP_QUANTILE = 0.999
TINY = 1e-12


class MkdModel(TeacherStudent):
    """Teacher, student, and the discrepancy between them with its gradient.

    Args:
        teacher: The frozen network.
        score_layers: Layers whose discrepancy is the score; the loss uses all of the teacher's. ``None``: all but the
            first.
        map_layers: Layers whose discrepancy is differentiated for the map. ``"second"``: the second of the teacher's;
            ``None``: those of the score.
        student: ``"smaller"`` or ``"equal"``.
        direction_weight: Weight of the direction term.
        value_weight: Weight of the value term.
        relative_value: Whether features are compared in units of the teacher's root mean square at their level, over
            normal images, which :meth:`measure` sets.
        localization: How the gradient is computed.
        detach_teacher: Whether the gradient passes through the student only, or through both networks.
        map_scaling: What a map is divided by.
        sigma: Standard deviation of the map's blur in pixels.
        opening: Whether spots smaller than a 3x3 cross are removed from the map.

    Shape:
        Images ``(N, 3, H, W)`` to ``pred_score`` ``(N,)`` and ``anomaly_map`` ``(N, 1, H, W)``, both at least 0.

    Raises:
        ValueError: If a score or map layer is not among the layers, or the gradient is to pass through a teacher that
            is not a plain chain.
    """

    student: Chain
    units: Tensor | None
    map_scale: Tensor

    def __init__(
        self,
        teacher: Teacher,
        *,
        score_layers: Sequence[str] | None,
        map_layers: Sequence[str] | Second | None,
        student: StudentSize,
        direction_weight: float,
        value_weight: float,
        relative_value: bool,
        localization: Localization,
        detach_teacher: bool,
        map_scaling: MapScaling,
        sigma: float,
        opening: bool,
    ) -> None:
        # Eq. 1-4; the weight is on the value term, as in the authors' code; the paper prints it on the other term
        loss = PyramidLoss(direction=(flat_cosine_distance, direction_weight), value=(value_distance, value_weight))
        super().__init__(teacher, build_cloner(teacher.blocks(), student, signed=teacher.signed), loss)
        layers = teacher.layers
        self.score_layers = _chosen("score_layers", layers, score_layers) or layers[1:] or layers
        chosen = layers[:2][-1:] if map_layers == "second" else _chosen("map_layers", layers, map_layers)
        self.map_layers = chosen or self.score_layers
        if not detach_teacher and not isinstance(teacher.net, Chain):
            msg = (
                f"Expected detach_teacher=True with the backbone {teacher.backbone!r}, got False: backpropagation "
                "through the teacher is implemented for plain VGGs only. Choose a VGG, or set detach_teacher=True."
            )
            raise ValueError(msg)
        if not isinstance(teacher.net, Chain):  # it rounds odd sizes differently from the student
            self.side_multiple = max(teacher.strides.values())
        self.register_buffer("units", torch.ones(len(layers)) if relative_value else None)
        self.localization = localization
        self.detach_teacher = detach_teacher
        self.map_scaling = map_scaling
        self.sigma = sigma
        self.opening = opening
        self.register_buffer("map_scale", torch.tensor(1.0))

    def forward(self, images: Tensor) -> InferenceBatch:
        """Predict score and map of each image."""
        self.check_images(images)
        score, gradient = self.score_and_gradient(images)
        smooth = self.localization == "smooth_grad"
        strength = self._smoothed_strength(images) if smooth else self._strength(gradient)
        anomaly_map = gaussian_blur(strength, self.sigma)
        if self.opening:
            anomaly_map = grey_opening(anomaly_map)
        return InferenceBatch(pred_score=score, anomaly_map=anomaly_map / self.map_scale)

    def compared(self, images: Tensor, teacher: Pyramid) -> tuple[Pyramid, Pyramid]:
        """Compute the pyramids that the loss compares, in units of the teacher's levels."""
        return self._in_units(teacher), self._in_units(self.student(images))

    @torch.no_grad()
    def measure(self, teacher: Pyramid) -> None:
        """Set the units of the levels, unless features are compared as they are.

        The value term is a square, so a level that is ten times as strong would weigh a hundred times as much; and how
        strong a level is depends on who wrote the file of weights. A unit per image would hide that its features are
        stronger than those of normal images.

        Args:
            teacher: The teacher's features of normal images.
        """
        if self.units is not None:
            self.units.copy_(torch.stack([root_mean_square(teacher[name]) for name in self.teacher.layers]))

    def _in_units(self, features: Pyramid) -> Pyramid:
        if self.units is None:
            return features
        units = dict(zip(self.teacher.layers, self.units.view(-1, 1, 1, 1, 1), strict=True))  # f32, also of bf16
        return {name: level / units[name] for name, level in features.items()}

    def score_and_gradient(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the discrepancy over the score layers, and the gradient, at the image, of that over the map layers.

        Returns:
            Shapes ``(N,)`` and ``(N, 3, H, W)``.
        """
        student, student_outputs = _trace(self.student, images)
        if self.detach_teacher:
            teacher = self.teacher(images)
        else:
            teacher, teacher_outputs = _trace(cast("Chain", self.teacher.net), images)
        used = [name for name in self.teacher.layers if name in {*self.score_layers, *self.map_layers}]
        teacher, student = ({name: each[name] for name in used} for each in (teacher, student))
        teacher, student = self._in_units(teacher), self._in_units(student)
        score = self.loss.per_image(teacher, student, self.score_layers)

        arriving = self._arriving(teacher, student)
        gradient = input_gradient(self.student, student_outputs, arriving, guided=self.localization == "guided")
        if not self.detach_teacher:
            arriving = self._arriving(student, teacher)
            gradient = gradient + input_gradient(cast("Chain", self.teacher.net), teacher_outputs, arriving)
        return score, gradient

    def _arriving(self, constant: Pyramid, changing: Pyramid) -> Pyramid:
        """Differentiate the discrepancy of the map layers with respect to one network's features."""
        weights = self.loss.weights
        gradients = {name: discrepancy_gradient(constant[name], changing[name], weights) for name in self.map_layers}
        return self._in_units(gradients)  # the chain rule: features were divided by these units

    def _strength(self, gradient: Tensor) -> Tensor:
        """Reduce a gradient to the effect of each pixel, ``(N, 3, H, W)`` to ``(N, 1, H, W)``."""
        strength = gradient.abs().sum(dim=1, keepdim=True)
        return stretch_to_percentile(strength) if self.map_scaling == "per_image_p99" else strength

    def _smoothed_strength(self, images: Tensor) -> Tensor:
        """Average over noisy copies, with the noise of the authors' code, but the same for every image and device."""
        generator = torch.Generator().manual_seed(0)  # of the CPU: others draw other numbers
        flat = images.flatten(1)
        deviation = (0.05 / (flat.amax(1) - flat.amin(1)).clamp_min(TINY)).square().view(-1, 1, 1, 1)
        total = torch.zeros_like(images[:, :1])
        for _ in range(SMOOTH_GRAD_COPIES):
            noise = torch.randn(images.shape[1:], generator=generator, dtype=images.dtype).to(images.device)
            total = total + self._strength(self.score_and_gradient(images + deviation * noise)[1])
        mean = total / SMOOTH_GRAD_COPIES
        return stretch_to_percentile(mean, 100.0) if self.map_scaling == "per_image_p99" else mean

    @torch.no_grad()
    def calibrate_map(self, normal_images: Iterable[Tensor]) -> None:
        """Set the scale of the map: 1 is the 99.9th percentile over the pixels of normal images.

        Args:
            normal_images: Batches of pre-processed images ``(N, 3, H, W)``.
        """
        if self.map_scaling != "train_quantile":
            return
        self.map_scale.fill_(1.0)
        pixels = torch.cat([self(images).anomaly_map.flatten() for images in normal_images])
        rank = max(int(MAP_QUANTILE * pixels.numel()), 1)
        self.map_scale.copy_(pixels.kthvalue(rank).values.clamp_min(torch.finfo(pixels.dtype).tiny))

    @torch.no_grad()
    def balance_terms(self, images: Tensor, teacher: Pyramid) -> None:
        """Weight the value term so that the two terms are equal on the untrained student.

        Source: MKD (Salehi et al., CVPR 2021), Sec. 3.1.

        Args:
            images: Pre-processed normal images ``(N, 3, H, W)``.
            teacher: The teacher's features of them.
        """
        terms = self.loss.terms(*self.pyramids(images, teacher))
        direction = self.loss.weights[0] * terms["direction"].mean()
        self.loss.weights[1] = direction / terms["value"].mean().clamp_min(TINY)


def _chosen(argument: str, layers: Sequence[str], chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Check the layers that an argument asks for, and sort them; none for ``None``."""
    if chosen is not None and (not chosen or not set(chosen) <= set(layers)):
        msg = f"Expected {argument} among the layers, got {list(chosen)}. Choose from {list(layers)}."
        raise ValueError(msg)
    return tuple(name for name in layers if name in (chosen or ()))


def _trace(chain: Chain, images: Tensor) -> tuple[Pyramid, dict[int, Tensor]]:
    """Run a chain, and keep the outputs that backpropagation needs."""
    outputs = chain.trace(images, keep=kept_steps(chain) | set(chain.taps.values()))
    return {name: outputs[index] for name, index in chain.taps.items()}, outputs
