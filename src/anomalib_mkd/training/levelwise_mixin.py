# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What the models that are judged level by level share beyond :class:`DistillationMixin`."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torchvision.transforms.v2 import Resize

from anomalib_mkd.arguments import check_choices, check_ranges
from anomalib_mkd.distillation.teacher_student import LevelwiseTeacherStudent
from anomalib_mkd.networks.teacher import QUICKSTART, Teacher, resolve_backbone
from anomalib_mkd.training.batch_norm import estimating_batch_norm
from anomalib_mkd.training.divergence import DivergenceGuard
from anomalib_mkd.training.mixin import DistillationMixin
from anomalib_mkd.training.muon import Muon
from anomalib_mkd.training.painting import paint_over

Model = TypeVar("Model", bound=LevelwiseTeacherStudent)

FEW_STEPS = 1000
"""A shorter training ends with BatchNorm statistics estimated anew."""
BATCH_NORM_IMAGES = 256
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, float]]] = {
    "muon": (Muon, {"lr": 3e-2, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 4e-3, "weight_decay": 1e-4}),
    "sgd": (partial(torch.optim.SGD, momentum=0.9), {"lr": 0.4, "weight_decay": 1e-4}),
}
"""Name to class, and what it is given where the user says nothing: SGD's is STFPM's, the others are ours."""


class LevelwiseMixin(DistillationMixin):
    """Checks, optimiser and end of training of a :class:`LevelwiseTeacherStudent`.

    Reads ``optimizer``, ``learning_rate``, ``weight_decay``, ``on_divergence`` and, where there is one,
    ``painted_share`` from the hyper-parameters, and the arguments of the torch model by their names.
    """

    model: LevelwiseTeacherStudent
    variance_tells = True
    """Whether an exploding variance in a student's BatchNorm is a sign of divergence."""

    def build(self, model: Callable[..., Model]) -> Model:
        """Check the hyper-parameters and build the torch model from those that it has arguments for.

        Args:
            model: The class; its first argument is the teacher.

        Raises:
            ValueError: If a hyper-parameter is none of its choices, or out of range.
        """
        given = self.hparams
        check_choices(type(self).__init__, given)
        check_ranges(given)
        weights = None if given["weights"] is None else str(given["weights"])
        teacher = Teacher(given["backbone"], given.get("layers"), pre_trained=given["pre_trained"], weights=weights)
        return model(teacher, **{name: given[name] for name in inspect.signature(model).parameters if name in given})

    def seen_in_training(self, batch: Any) -> torch.Tensor:
        """Paint over a share of the images, so that a student learns not to copy what is no part of a good one."""
        return paint_over(self.seen(batch), self.hparams.get("painted_share", 0.0))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Configure the chosen optimiser over everything that learns."""
        optimizer, usual = OPTIMIZERS[self.hparams["optimizer"]]
        given = {"lr": self.hparams["learning_rate"], "weight_decay": self.hparams["weight_decay"]}
        recipe = usual | {name: value for name, value in given.items() if value is not None}
        return self.scheduled(optimizer(self.model.learned_parameters(), **recipe))

    def configure_callbacks(self) -> Sequence[Callback]:
        """Add the guard to anomalib's callbacks."""
        callbacks: Any = super().configure_callbacks()
        return [*callbacks, DivergenceGuard(self.hparams["on_divergence"], variance=self.variance_tells)]

    def calibrate(self) -> None:
        """Estimate BatchNorm statistics anew after few steps."""
        loader: Any = self.trainer.train_dataloader
        if self.global_step < FEW_STEPS and len(loader.dataset) > 1:
            with estimating_batch_norm(self.model):
                for batch in self.normal_batches(BATCH_NORM_IMAGES):
                    if len(batch.image) > 1:
                        self.model.pyramids(self.seen(batch), self.teacher_pyramid(batch))


def suited_pre_processor(
    pre_processor: PreProcessor | bool, backbone: str, weights: str | Path | None
) -> PreProcessor | bool:
    """Replace the default by the embedded teacher's own where that teacher is asked for: 128 pixels, values in 0..1.

    Args:
        pre_processor: As a model got it; only ``True`` is replaced.
        backbone: As for :class:`Teacher`.
        weights: As for :class:`Teacher`.
    """
    embedded = resolve_backbone(backbone, None if weights is None else str(weights)) == QUICKSTART
    return PreProcessor(Resize((128, 128), antialias=True)) if embedded and pre_processor is True else pre_processor
