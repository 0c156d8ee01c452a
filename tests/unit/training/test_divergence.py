# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The guard notices injected faults, each by its own sign, and is silent about a healthy training."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from PIL import Image
from torchvision.transforms.v2 import Resize

from anomalib_mkd import MixedDistillation
from anomalib_mkd.models.mixed_distillation.torch_model import MixedDistillationModel
from anomalib_mkd.training.divergence import DivergenceGuard, largest_variance
from tests.networks import pictures, tiny_teacher

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


# ---------------------------------------------------------------------------------------------------------- one check


def module() -> Any:
    """As much of a model in training as the guard looks at."""
    model = MixedDistillationModel(tiny_teacher("resnet18.tv_in1k"), student_width=0.25).train()
    for name, parameter in model.student.named_parameters():
        if name.startswith("heads") and name.endswith("bias"):
            torch.nn.init.ones_(parameter)  # towards the teacher's features, none of which is negative
    batch = SimpleNamespace(image=pictures(4, 64))
    return SimpleNamespace(
        model=model,
        normal_batches=lambda: iter([batch]),
        seen=lambda given: given.image,
        teacher_pyramid=lambda given: model.teacher(given.image),
    )


def guard(built: Any, action: Any = "stop", **arguments: Any) -> DivergenceGuard:
    """After a warm-up in which the loss was what it is now."""
    watching = DivergenceGuard(action, **arguments)
    trainer: Any = SimpleNamespace(estimated_stepping_batches=1000)
    watching.on_train_start(trainer, built)
    watching.first_variance = largest_variance(built)
    built.model.eval()
    teacher, student = built.model.pyramids(next(built.normal_batches()).image)
    watching.losses.append(built.model.loss(teacher, student)["loss"].detach())
    built.model.train()
    return watching


def test_equal_scores_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    built = module()
    watching = guard(built)
    monkeypatch.setattr(built.model, "locate", lambda *_: torch.ones(4, 1, 8, 8))
    with pytest.raises(RuntimeError, match=r"got the same score, 1, for most of 4 images in step 50\. Lower"):
        watching.check(50, built)


def test_an_exploding_variance_may_be_no_sign() -> None:
    built = module()
    watching = guard(built, variance=False)
    explode(built)
    watching.check(50, built)


def test_an_exploding_variance_is_noticed() -> None:
    built = module()
    watching = guard(built)
    watching.check(40, built)
    explode(built)
    first = largest_variance(built) / 101
    told = f"got a variance of {101 * first:.3g} in a BatchNorm, which began with {first:.3g} in step 50"
    assert first == pytest.approx(watching.first_variance)
    with pytest.raises(RuntimeError, match=re.escape(told)):
        watching.check(50, built)


def test_growing_weights_are_no_sign() -> None:
    built = module()
    watching = guard(built)
    with torch.no_grad():
        for part in built.model.student.net.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.weight *= 11  # and with it the variance, 121-fold
    explode(built, 121)
    watching.check(50, built)


def explode(built: Any, times: float = 101.0) -> None:
    """Inject the fault."""
    for part in built.model.student.net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var *= times


def test_a_level_that_is_not_learned_is_noticed() -> None:
    built = module()
    watching = guard(built)
    with torch.no_grad():
        built.model.student.heads[1].weight.zero_()
        built.model.student.heads[1].bias.fill_(-1.0)  # opposite to features after a ReLU
    with pytest.raises(RuntimeError, match=r"got a mean distance of 1\.\d\d at 'layer2' in step 100"):
        watching.check(100, built)


def test_a_loss_that_is_high_in_eval_mode_counts_after_three_checks_on_end() -> None:
    built = module()
    watching = guard(built)
    watching.losses[0] = watching.losses[0] / 1.6
    for step in (100, 200, 300):
        watching.check(step, built)
    watching.losses[0] = 2 * watching.losses[0]
    watching.check(400, built)  # once not high: counting begins anew
    watching.losses[0] = watching.losses[0] / 2
    for step in (500, 600):
        watching.check(step, built)
    with pytest.raises(RuntimeError, match=r"in eval mode beside .* in train mode in step 700"):
        watching.check(700, built)


def test_a_check_changes_nothing_and_happens_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    built = module()
    watching = guard(built)
    before = {name: value.clone() for name, value in built.model.state_dict().items()}
    watching.check(100, built)
    assert built.model.training
    assert all(torch.equal(value, before[name]) for name, value in built.model.state_dict().items())
    monkeypatch.setattr(built.model, "locate", lambda *_: torch.ones(4, 1, 8, 8))
    watching.check(100, built)


def test_a_warning_goes_to_the_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    built = module()
    watching = guard(built, "warn")
    monkeypatch.setattr(built.model, "locate", lambda *_: torch.ones(4, 1, 8, 8))
    with caplog.at_level(logging.WARNING):
        watching.check(50, built)
    assert "Expected a training that converges, got the same score" in caplog.text


# ------------------------------------------------------------------------------------------------------- a training


@pytest.fixture
def datamodule(tmp_path: Path) -> Folder:
    folder = tmp_path / "data" / "good"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(8, 64)):
        pixels = (picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return Folder("toy", folder.parent, "good", train_batch_size=4, num_workers=0, val_split_mode="none", seed=0)


def fit(datamodule: Folder, work: Path, *callbacks: Callback, steps: int = 30, **arguments: Any) -> MixedDistillation:
    torch.manual_seed(0)
    model = MixedDistillation(
        pre_trained=False,
        student_width=0.25,
        training_steps=steps,
        pre_processor=PreProcessor(Resize((64, 64), antialias=True)),
        post_processor=False,
        evaluator=False,
        visualizer=False,
        **arguments,
    )
    engine = Engine(
        default_root_dir=work,
        accelerator="cpu",
        devices=1,
        logger=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        callbacks=list(callbacks),
    )
    engine.fit(model, datamodule=datamodule)
    assert engine.trainer.global_step == steps
    return model


class Fault(Callback):
    """Spoil the student in one step."""

    def __init__(self, step: int, value: float) -> None:
        self.step, self.value = step, value

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        del batch, batch_idx
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.model.student.net["bn1"].weight.mul_(self.value)


def test_a_healthy_training_is_left_in_peace(
    datamodule: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="anomalib_mkd"):
        fit(datamodule, tmp_path, on_divergence="stop")
    assert not caplog.records


def test_numbers_that_are_none_stop_in_their_step(datamodule: Folder, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Expected a finite loss, got nan in step 7"):
        fit(datamodule, tmp_path, Fault(7, float("nan")))


class EqualScores(Callback):
    """Let every image have the same map, as in the collapsed cells of anomalib's table."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        del trainer
        pl_module.model.locate = lambda *given: torch.ones(len(given[1]["layer1"]), 1, *given[2])


def test_equal_scores_stop_a_training(datamodule: Folder, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="got the same score, 1, for most of 4 images in step 30"):
        fit(datamodule, tmp_path, EqualScores(), on_divergence="stop")


def test_an_explosion_stops_a_training_or_is_logged(
    datamodule: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="in a BatchNorm, which began with"):
        fit(datamodule, tmp_path, Fault(20, 1000.0), on_divergence="stop")
    with caplog.at_level(logging.WARNING, logger="anomalib_mkd"):
        fit(datamodule, tmp_path, Fault(20, 1000.0))
    assert "in a BatchNorm, which began with" in caplog.text
