# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What every model of ours promises, on the smallest instance of each.

A new model joins by one entry in ``CASES``.
"""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.models import get_model, list_models
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, seed_everything
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.transforms.v2 import Compose, Grayscale, Resize

import anomalib_mkd
from anomalib_mkd import Dcam, MixedDistillation, Mkd, Mmrd
from anomalib_mkd.data.normal_images import normal_batches
from anomalib_mkd.export.resize import check_exportable
from tests.life import NOISE, make_data, make_engine
from tests.networks import copy_teacher, pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule, Trainer

REPOSITORY = Path(__file__).parents[2]
SIZE = 64


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        model: Its class.
        name: Under which anomalib lists it.
        arguments: Small enough for a test, with a random teacher.
        make_twin: Makes the student of a model with ``twin_arguments`` compute what the teacher computes.
        twin_arguments: Arguments that allow that.
        training_only: Beginnings of the names of what inference must not read.
        further: Further inputs that the model takes with default arguments.
    """

    model: type[AnomalibModule]
    name: str
    arguments: dict[str, Any]
    make_twin: Callable[[Any], None]
    twin_arguments: dict[str, Any] = field(default_factory=dict)
    training_only: tuple[str, ...] = ()
    further: tuple[Tensor, ...] = ()

    def build(self, **arguments: Any) -> Any:
        """Build the model for images of 64 pixels."""
        torch.manual_seed(0)
        small = {"pre_processor": self.model.configure_pre_processor((SIZE, SIZE)), "visualizer": False}
        return self.model(**{**self.arguments, **small, **arguments})


RESNET = {"backbone": "resnet18.tv_in1k", "pre_trained": False, "student_width": 0.25}


def load_teacher(module: Any) -> None:
    """Make a student of the teacher's own architecture a copy of it."""
    module.model.student.net.load_state_dict(module.model.teacher.net.state_dict())


def restore_all(module: Any) -> None:
    """Let a reverse student give back what it sees."""
    module.model.student.forward = lambda teacher: teacher


CASES = (
    Case(
        model=Dcam,
        name="dcam",
        arguments=RESNET,
        make_twin=load_teacher,
        twin_arguments={"student_width": 1.0, "attention": "none"},
        training_only=("model.gates.", "model.loss.", "model.teacher.ready"),
    ),
    Case(
        model=MixedDistillation,
        name="mixed_distillation",
        arguments=RESNET,
        make_twin=load_teacher,
        twin_arguments={"student_width": 1.0, "skip_weight": 0.0, "symmetric_weight": 0.0},
        training_only=("model.paths.", "model.loss.", "model.teacher.ready"),
    ),
    Case(
        model=Mkd,
        name="mkd",
        arguments={"backbone": "quickstart", "pre_trained": False},
        make_twin=lambda module: copy_teacher(module.model),
        twin_arguments={"student": "equal"},
        training_only=("balanced", "model.teacher.ready"),
    ),
    Case(
        model=Mmrd,
        name="mmrd",
        arguments={"pre_trained": False, "branches": "rgb"},
        make_twin=restore_all,
        training_only=("model.loss.", "model.teacher.teacher.ready"),
        further=(torch.ones(1, 1, SIZE, SIZE),),
    ),
)

pytestmark = [pytest.mark.filterwarnings(noise) for noise in NOISE]


@pytest.fixture(params=CASES, ids=lambda case: case.name, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the images."""
    return tmp_path_factory.mktemp("pictures")


@dataclass(frozen=True)
class Trained:
    """A model after one epoch of two steps."""

    module: Any
    before: dict[str, Tensor]
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(case: Case, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The case's model, trained once for all tests that only look at it."""
    module = case.build()
    before = copy_of(module)
    return Trained(module, before, fit(module, root, tmp_path_factory.mktemp("trained")))


def fit(module: Any, root: Path, folder: Path, *, resume: Path | None = None, **limits: Any) -> Path:
    """Train, and give the checkpoint."""
    engine = make_engine(folder, **{"max_epochs": 1, **limits})
    engine.fit(module, datamodule=make_data(root), ckpt_path=resume)
    return next(folder.rglob("*.ckpt"))


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor], prefix: str) -> set[str]:
    """Names of parameters and buffers below a prefix that are no longer what they were, bit by bit."""
    after = module.state_dict()
    return {name for name in before if name.startswith(prefix) and not torch.equal(before[name], after[name])}


def predict(module: nn.Module, *images: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        return {name: value for name, value in module.eval()(*images)._asdict().items() if value is not None}


# ----------------------------------------------------------------------------------------------------- by name, offline


def test_constructs_offline_with_nothing_but_no_weights(case: Case, no_network: None) -> None:  # noqa: ARG001
    module = case.model(pre_trained=False)
    assert predict(module, pictures(1, SIZE), *case.further)["pred_score"].shape == (1,)


class OtherDevice(TorchFunctionMode):
    """Stop where `torch.device("cuda")` does: a generator of the CPU makes no random numbers elsewhere."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        given = kwargs or {}
        if given.get("generator") is not None and given.get("device") is None:
            msg = f"Expected a 'cuda' device type for generator but found 'cpu' in {func.__name__}"
            raise RuntimeError(msg)
        return func(*args, **given)


def test_is_built_and_checked_where_another_device_is_the_default(case: Case) -> None:
    with OtherDevice():
        module = case.model(pre_trained=False)
        assert len(module.example_inputs((SIZE, SIZE))) == 1 + len(case.further)
        check_exportable(module.pre_processor.transform)


def test_is_listed_once_and_no_base_class_of_ours_beside_it(case: Case) -> None:
    names = [subclass.__name__ for subclass in AnomalibModule.__subclasses__()]
    assert names.count(case.model.__name__) == 1
    ours = {subclass for subclass in AnomalibModule.__subclasses__() if subclass.__module__.startswith("anomalib_mkd")}
    assert ours == {getattr(anomalib_mkd, name) for name in anomalib_mkd.__all__} == {entry.model for entry in CASES}
    assert case.name in list_models()
    assert type(get_model(case.name, **case.arguments)) is case.model


def test_there_are_few_arguments_and_the_models_page_has_a_reason_for_each(case: Case) -> None:
    anomalibs = {"pre_processor", "post_processor", "evaluator", "visualizer"}
    names = inspect.signature(case.model).parameters.keys() - anomalibs
    page = (REPOSITORY / "docs" / "papers" / f"{case.name}.md").read_text(encoding="utf-8")
    assert len(names) <= 22
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


# ------------------------------------------------------------------------------------------------------------ training


def test_training_changes_the_student_and_no_bit_of_the_teacher(trained: Trained) -> None:
    teacher = "model.teacher."
    assert any(name.startswith(teacher) for name in trained.before)
    assert changed(trained.module, trained.before, teacher) == set()
    parameters = {f"model.student.{name}" for name, _ in trained.module.model.student.named_parameters()}
    assert parameters <= changed(trained.module, trained.before, "model.student.")
    statistics = {name for name in trained.before if name.startswith("model.student.") and "running" in name}
    assert statistics
    assert statistics <= changed(trained.module, trained.before, "model.student.")
    trained.module.train()
    assert not any(part.training for part in trained.module.model.teacher.modules())


def test_a_student_that_is_its_teacher_has_no_loss_and_an_empty_map(case: Case) -> None:
    module = case.build(post_processor=False, **case.twin_arguments).double().eval()
    images = pictures(3, SIZE).double()
    plain = predict(module, images)["anomaly_map"].max()
    case.make_twin(module)
    assert module.model.loss(*module.model.pyramids(images))["loss"].abs() < 1e-9
    assert predict(module, images)["anomaly_map"].max() < 1e-9 < plain


def test_the_loss_does_not_depend_on_the_size_of_the_batch(case: Case) -> None:
    network, images = case.build().model.train(), pictures(2, SIZE)
    losses = [network.loss(*network.pyramids(images.repeat(times, 1, 1, 1)))["loss"] for times in (1, 2)]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("name", ["learning_rate", "cache_gigabytes", "sigma", "training_steps"])
def test_no_number_and_a_negative_one_are_refused(case: Case, name: str) -> None:
    for value in (float("nan"), -1):
        with pytest.raises(ValueError, match=rf"Expected {name} >=? [01].*, got {value}\. Set {name}"):
            case.build(**{name: value})


def test_an_image_alone_scores_as_in_a_batch(trained: Trained) -> None:
    images = pictures(3, SIZE)
    batch = predict(trained.module.model, images)
    for index, image in enumerate(images.split(1)):
        for name, value in predict(trained.module.model, image).items():
            scale = batch[name].abs().max().item()
            torch.testing.assert_close(value[0], batch[name][index], rtol=1e-5, atol=1e-6 * scale)


class EpochLosses(Callback):
    """Notes the mean training loss of each epoch, and the epochs in which the teacher ran for a training step."""

    def __init__(self, module: Any) -> None:
        self.losses: list[float] = []
        self.teacher_ran: set[int] = set()
        self.module = module
        module.model.teacher.register_forward_hook(self.note)

    def note(self, *_: object) -> None:
        if self.module.model.student.training:
            self.teacher_ran.add(self.module.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module
        self.losses.append(trainer.callback_metrics["train_loss_epoch"].item())


def two_epochs(case: Case, root: Path, folder: Path, **arguments: Any) -> tuple[EpochLosses, dict[str, Tensor]]:
    """Train on the same images in the same order, whatever the arguments."""
    module = case.build(**arguments)
    log = EpochLosses(module)
    seed_everything(0, verbose=False)
    fit(module, root, folder, max_epochs=2, callbacks=[log], limit_val_batches=0)
    return log, copy_of(module.model)


def test_a_cached_step_is_a_fresh_step_and_a_seed_repeats(case: Case, root: Path, tmp_path: Path) -> None:
    cached, first = two_epochs(case, root, tmp_path / "cached")
    again, second = two_epochs(case, root, tmp_path / "again")
    fresh, _ = two_epochs(case, root, tmp_path / "fresh", cache_gigabytes=0)
    assert (cached.teacher_ran, fresh.teacher_ran) == ({0}, {0, 1})
    assert cached.losses[1] < cached.losses[0]
    assert cached.losses == pytest.approx(fresh.losses, rel=1e-5)  # not exact: kernels may depend on the batch's size
    assert cached.losses == again.losses
    assert all(torch.equal(value, second[name]) for name, value in first.items())


# ----------------------------------------------------------------------------------------------------------- precision


def test_predictions_are_in_f32_whatever_precision_surrounds_them(case: Case) -> None:
    module = case.build().eval()
    found = []
    for enabled in (False, True):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(module.validation_step(ImageBatch(image=pictures(2, SIZE))))
    plain, mixed = ((batch.pred_score, batch.anomaly_map) for batch in found)
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_a_student_learns_the_features_that_prediction_compares(case: Case) -> None:
    module, batch = case.build(), ImageBatch(image=pictures(2, SIZE))
    plain = module.teacher_pyramid(batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module.teacher_pyramid(batch)
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


class Twice(Callback):
    """Scores the images of a validation again by hand, as what learns a threshold does."""

    def __init__(self) -> None:
        self.by_loop: list[Tensor] = []
        self.by_hand: list[Tensor] = []

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        del trainer, pl_module
        self.by_loop.append(outputs.pred_score)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        images: Any = trainer.datamodule.val_data  # type: ignore[attr-defined]
        batches = map(pl_module.validation_step, normal_batches(pl_module, len(images), images))
        self.by_hand += [batch.pred_score for batch in batches]


def test_scores_of_hooks_and_of_loops_are_the_same_in_mixed_precision(case: Case, root: Path, tmp_path: Path) -> None:
    twice = Twice()
    fit(case.build(), root, tmp_path, precision="bf16-mixed", callbacks=[twice])
    assert twice.by_loop
    torch.testing.assert_close(torch.cat(twice.by_hand), torch.cat(twice.by_loop), rtol=0, atol=0)


# --------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_plain_data_and_loads_without_network(
    case: Case,
    trained: Trained,
    no_network: None,  # noqa: ARG001
) -> None:
    loaded = case.model.load_from_checkpoint(trained.checkpoint, weights_only=True, map_location="cpu")
    images = pictures(2, 96)
    expected = predict(trained.module, images)
    assert set(expected) >= {"pred_score", "anomaly_map", "pred_label", "pred_mask"}
    torch.testing.assert_close(predict(loaded, images), expected, rtol=0, atol=0)
    assert not changed(loaded, copy_of(trained.module), "")


def test_training_resumes(
    case: Case,
    trained: Trained,
    root: Path,
    tmp_path: Path,
    no_network: None,  # noqa: ARG001
) -> None:
    module = case.build()
    first = torch.load(trained.checkpoint, weights_only=True)
    resumed = torch.load(
        fit(module, root, tmp_path, resume=trained.checkpoint, max_epochs=2, limit_val_batches=0), weights_only=True
    )
    assert (first["epoch"], resumed["epoch"]) == (0, 1)
    assert resumed["global_step"] == 2 * first["global_step"] > 0
    assert not changed(module, trained.before, "model.teacher.")
    states = [checkpoint["optimizer_states"][0]["state"][0]["step"] for checkpoint in (first, resumed)]
    assert states[1] == 2 * states[0] > 0  # the optimiser went on and did not start again


def test_a_transform_of_the_users_is_reloaded(case: Case, root: Path, tmp_path: Path) -> None:
    transform = Compose([Resize((96, 64), antialias=True), Grayscale(num_output_channels=3)])
    module = case.build(pre_processor=PreProcessor(transform))
    loaded = case.model.load_from_checkpoint(fit(module, root, tmp_path, max_steps=1), weights_only=True)
    images = pictures(2, 80)
    expected = predict(module, images)
    assert expected["anomaly_map"].shape == (2, 1, 96, 64)
    torch.testing.assert_close(predict(loaded, images), expected, rtol=0, atol=0)


def test_pickles_before_and_after_training(case: Case, trained: Trained) -> None:
    images = pictures(2, SIZE)
    for module in (case.build(), trained.module):
        copied = pickle.loads(pickle.dumps(module))  # noqa: S301  # our own bytes
        torch.testing.assert_close(predict(copied, images), predict(module, images), rtol=0, atol=0)


# -------------------------------------------------------------------------------------------------------------- export


def test_a_photo_is_resized_for_an_export_as_it_is_for_a_test(case: Case) -> None:
    module, photos = case.build(post_processor=False), pictures(2, 150, 220)
    expected = predict(module.model, module.pre_processor.transform(photos))
    for name, value in predict(module, photos).items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3 * scale)


def test_nothing_that_only_training_needs_is_exported(case: Case) -> None:
    """What the graph reads that every format is made of; ONNX is looked at where each model lives its whole life."""
    module = case.build().eval()
    assert all(any(name.startswith(prefix) for name in module.state_dict()) for prefix in case.training_only)
    program = torch.export.export(module, (pictures(1, SIZE),), strict=False)
    signature = program.graph_signature
    kept = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    names = {kept[node.name] for node in program.graph.nodes if node.name in kept and node.users}
    assert any(name.startswith("model.student.") for name in names)
    assert not any(name.startswith(case.training_only) for name in names)
