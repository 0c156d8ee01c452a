# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Notice a training that has gone wrong although its loss still falls.

anomalib's own Stfpm has cells in its published table that look like that: every image with the same score, a pixel
AUROC of 0.178. A loss that is not finite stops training elsewhere, in the step that has it.
"""

import logging
import math
from collections import deque
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from anomalib_mkd.functional import mean_of_largest, position_cosine_distance

logger = logging.getLogger(__name__)

CHECK_EVERY = 100
"""Steps between two checks; one more follows the last step."""
LOSS_RATIO, LOSS_CHECKS, LOSS_FROM_STEP = 1.5, 3, 200
"""Loss in eval over loss in train mode, in how many checks on end, and from when: before, BatchNorm lags in any run."""
DISTANCE = 0.9
"""Mean distance of a level, 1 being that of unrelated features."""
VARIANCE_RATIO = 100.0
"""Largest variance in a BatchNorm over that after the first 5 % of the steps."""
SPREAD, TIES = 1e-6, 0.5
"""Deviation of the scores over their mean, and share of images with the same score."""


class DivergedError(RuntimeError):
    """A training that has gone wrong."""


class DivergenceGuard(Callback):
    """Judge a few normal training images now and then, and look for the signs of a diverged student.

    Args:
        action: ``"warn"`` logs each sign, ``"stop"`` ends the training with an error.
        variance: Whether an exploding variance is a sign. In a decoder it is none: it grows in good trainings, too.
    """

    def __init__(self, action: Literal["warn", "stop"], *, variance: bool = True) -> None:
        self.action = action
        self.variance = variance

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        del pl_module
        total = trainer.estimated_stepping_batches
        self.warm_up = min(CHECK_EVERY, max(1, round(0.05 * total))) if math.isfinite(total) else CHECK_EVERY
        self.first_variance: float | None = None
        self.losses: deque[Tensor] = deque(maxlen=10)
        self.high_losses = 0
        self.checked_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check, if it is time."""
        del batch, batch_idx
        self.losses.append(outputs["loss"].detach())
        step = trainer.global_step
        if self.first_variance is None and step >= self.warm_up:
            self.first_variance = largest_variance(pl_module)
        if step % CHECK_EVERY == 0:
            self.check(step, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what is delivered."""
        self.check(trainer.global_step, pl_module)

    def check(self, step: int, module: Any) -> None:
        """Judge normal images, once per step.

        Args:
            step: Optimiser steps taken.
            module: A model of ours, in training.

        Raises:
            DivergedError: If there is a sign, and the action is to stop.
        """
        if step <= self.checked_step:
            return
        self.checked_step = step
        training = module.model.training
        module.model.eval()
        with torch.no_grad():
            signs = self.signs(step, module, next(module.normal_batches()))
        module.model.train(training)
        for sign in signs:
            msg = (
                f"Expected a training that converges, got {sign} in step {step}. Lower learning_rate, let it end at 0 "
                "with schedule='one_cycle', or check the images."
            )
            if self.action == "stop":
                raise DivergedError(msg)
            logger.warning(msg)

    def signs(self, step: int, module: Any, batch: Any) -> list[str]:
        """Describe what looks diverged; arguments as for :meth:`check`, and normal images."""
        signs = []
        model, images, seen = module.model, module.seen(batch), module.teacher_pyramid(batch)
        teacher, student = model.compared(images, seen)
        loss = model.loss(*model.pyramids(images, seen))["loss"]
        usual = torch.stack(list(self.losses)).mean()
        self.high_losses = self.high_losses + 1 if step >= LOSS_FROM_STEP and loss > LOSS_RATIO * usual else 0
        if self.high_losses >= LOSS_CHECKS:
            signs.append(f"a loss of {loss:.3g} in eval mode beside {usual:.3g} in train mode")
        if step >= CHECK_EVERY:
            for name, features in student.items():
                distance = position_cosine_distance(teacher[name], features).mean()
                if not distance <= DISTANCE:  # also if it is no number
                    signs.append(f"a mean distance of {distance:.2f} at {name!r}")
        variance = largest_variance(module)
        if self.variance and self.first_variance and not variance <= VARIANCE_RATIO * self.first_variance:
            signs.append(f"a variance of {variance:.3g} in a BatchNorm, which began with {self.first_variance:.3g}")
        scores = mean_of_largest(model.locate(teacher, student, images.shape[-2:]), model.score_share)
        if len(scores) > 1 and constant(scores):
            signs.append(f"the same score, {scores[0]:.3g}, for most of {len(scores)} images")
        return signs


def largest_variance(module: Any) -> float:
    """Give the largest running variance in the BatchNorms of a model's student; 0 if it has none.

    It is told in units of the squared length of the weights in front, of what makes that channel: a BatchNorm takes
    their length out again, so that in a good training they may grow as they like.
    """
    largest, lengths = 0.0, torch.ones(())
    for part in module.model.student.modules():  # in the order of their definition, each BatchNorm behind its layer
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            weight = part.weight.detach()
            lengths = (weight.transpose(0, 1) if part.transposed else weight).flatten(1).square().sum(dim=1)
        elif isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
            unit = lengths if lengths.shape == part.running_var.shape else torch.ones_like(part.running_var)
            largest = max(largest, (part.running_var / unit).max().item())
    return largest


def constant(scores: Tensor) -> bool:
    """Say whether scores ``(N,)`` do not tell images apart.

    Example:
        >>> constant(torch.tensor([0.5, 0.5, 0.5, 0.2])), constant(torch.tensor([0.5, 0.4, 0.3, 0.2]))
        (True, False)
    """
    counts = torch.unique(scores, return_counts=True)[1]
    return bool(counts.max() > TIES * len(scores) or not scores.std() >= SPREAD * scores.mean().abs())
