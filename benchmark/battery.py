# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Checks that any anomalib model of photos may be put to, in the spirit of scikit-learn's estimator checks.

Each check is a function of a :class:`Subject` and an empty folder. It raises an error if the model fails, and
:class:`SkippedError` if the question does not arise. The network is blocked in all of them.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import EfficientAd, Patchcore, ReverseDistillation, Stfpm
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Pad, Resize

from anomalib_mkd import Dcam, MixedDistillation, Mkd, Mmrd
from anomalib_mkd.data import Quickstart
from anomalib_mkd.deploy.graph import EXACT, core
from benchmark.rows import BATTERY, Row, append_rows, has_run
from benchmark.runs import Run, run_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

logger = logging.getLogger(__name__)

SIZE = 64
TOLERANCE = 1e-3
"""Largest difference of scores and maps between an export and torch."""
SIZES = ((72, 90), (150, 220))
"""Height and width of the images that an export is compared on; not those of the model's input."""
ODD_SIZE = (72, 100)
EVAL_BATCH = 4


class SkippedError(Exception):
    """The question does not arise for a model."""


class BlockedError(OSError):
    """Something tried to reach a network."""


@dataclass(frozen=True)
class Subject:
    """A model to check.

    Args:
        model: Its class.
        arguments: Arguments that make it small, and need no network.
        teacher: Beginning of the names of what is frozen in training.
        weights: As in rows.
        batch: Images per training step.
    """

    model: type[AnomalibModule]
    arguments: dict[str, Any] = field(default_factory=dict)
    teacher: str = "model.teacher."
    weights: str = "quickstart"
    batch: int = 3

    def build(self, size: tuple[int, int] = (SIZE, SIZE), **arguments: Any) -> Any:
        """Build the model for images of a size."""
        embedded = issubclass(self.model, (MixedDistillation, Dcam))  # whose teacher takes values in 0..1 here
        usual = PreProcessor(Resize(size, antialias=True)) if embedded else self.model.configure_pre_processor(size)
        return self.model(**{**self.arguments, "pre_processor": usual, "visualizer": False, **arguments})

    def data(self, folder: Path, **arguments: Any) -> Quickstart:
        """Make eight drawn images to train on, two to validate on and five to test on, of 64 pixels.

        Args:
            folder: That of the check; the images lie beside it, for all checks.
            **arguments: Of the datamodule.
        """
        tiny = {"image_size": SIZE, "train_images": 10, "test_good": 2, "per_defect": 1}
        batches = {"train_batch_size": self.batch, "eval_batch_size": EVAL_BATCH}
        return Quickstart(folder.parent / "pictures", "metal", **{**tiny, **batches, **arguments})

    def ready_data(self, folder: Path, **arguments: Any) -> Quickstart:
        """Also draw and split the images."""
        data = self.data(folder, **arguments)
        data.prepare_data()
        data.setup(TrainerFn.FITTING)  # as the trainer does, which then does not split anew
        return data


EMBEDDED = {"weights": "quickstart"}
RESNET18 = "resnet18.tv_in1k"
SUBJECTS = {
    "MixedDistillation": Subject(MixedDistillation, EMBEDDED),
    "Dcam": Subject(Dcam, EMBEDDED),
    "Mkd": Subject(Mkd, EMBEDDED),
    "Mmrd": Subject(Mmrd, {"branches": "rgb", "pre_trained": False}, weights="random"),
    "Stfpm": Subject(Stfpm, {"backbone": RESNET18}, "model.teacher_model.", RESNET18),
    "ReverseDistillation": Subject(
        ReverseDistillation, {"backbone": "resnet18", "pre_trained": False}, "model.encoder.", "random"
    ),
    "Patchcore": Subject(Patchcore, {"backbone": RESNET18}, "model.feature_extractor.", RESNET18),
    "EfficientAd": Subject(EfficientAd, weights="efficient_ad", batch=1),
}
"""Every model of the table, in its order."""


# ---------------------------------------------------------------------------------------------- what checks are made of


def expect(truth: object, message: str) -> None:
    """Fail with a message unless something is true."""
    if not truth:
        raise AssertionError(message)


def make_engine(folder: Path, **arguments: Any) -> Engine:
    """Make an engine for one epoch that reports to nobody."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Engine(default_root_dir=folder, accelerator="cpu", devices=1, **{"max_epochs": 1, **quiet, **arguments})


def fit(module: Any, folder: Path, data: Quickstart, **arguments: Any) -> Path:
    """Train with seed 0, and return the checkpoint.

    Args:
        module: The model.
        folder: Of the engine's files.
        data: The images.
        **arguments: Of the engine.
    """
    seed_everything(0, verbose=False)
    engine = make_engine(folder, **arguments)
    engine.fit(module, datamodule=data)
    return Path(engine.best_model_path or "")


def photos(count: int, height: int = SIZE, width: int = SIZE) -> Tensor:
    """Draw noise ``(count, 3, height, width)`` in 0..1 with a dark square."""
    images = 0.5 + 0.5 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    images[..., 20:40, 20:40] = 0
    return images


def predict(module: Any, images: Tensor) -> dict[str, Tensor]:
    """Predict on raw photos as the engine does when it tests: pre-processor, network, post-processor."""
    module.eval()
    with torch.no_grad():
        prediction = module.post_processor(module.model(module.pre_processor.transform(images)))
    return {name: prediction._asdict()[name].float().flatten(1 if name == "anomaly_map" else 0) for name in OUTPUTS}


OUTPUTS = ("pred_score", "anomaly_map")


def expect_close(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float, what: str) -> None:
    """Fail unless scores and maps are equal within a tolerance; 0 means bit by bit."""
    for name in OUTPUTS:
        expect(first[name].shape == second[name].shape, f"{what}: shapes of {name} differ")
        difference = (first[name] - second[name]).abs().max().item()
        expect(difference <= tolerance, f"{what}: {name} differs by {difference:.2g}")


def copy_of(module: Any, prefix: str = "") -> dict[str, Tensor]:
    """Copy the parameters and buffers whose names begin with a prefix."""
    return {name: value.clone() for name, value in module.state_dict().items() if name.startswith(prefix)}


def expect_same(first: dict[str, Tensor], second: dict[str, Tensor], what: str) -> None:
    """Fail unless weights are equal bit by bit."""
    expect(first.keys() == second.keys(), f"{what}: other names of weights")
    changed = [name for name, value in first.items() if not torch.equal(value.nan_to_num(), second[name].nan_to_num())]
    expect(not changed, f"{what}: {len(changed)} of {len(first)} weights differ, such as {next(iter(changed), '')}")


def expect_predictions(module: Any, folder: Path, data: Quickstart, **arguments: Any) -> dict[str, float]:
    """Fail unless testing and predicting give every image a finite score and map; return the scores by file."""
    engine = make_engine(folder, **arguments)
    metrics = engine.test(module, datamodule=data)[0]
    expect(metrics, "the test gave no metric")
    batches: Any = engine.predict(module, datamodule=data) or []
    scores = {
        path: float(score) for batch in batches for path, score in zip(batch.image_path, batch.pred_score, strict=True)
    }
    expect(len(scores) == len(data.test_data), f"{len(scores)} of {len(data.test_data)} images have a score")
    finite = all(bool(value.isfinite().all()) for batch in batches for value in (batch.pred_score, batch.anomaly_map))
    expect(finite, "a score or a map is not finite")
    return scores


@contextlib.contextmanager
def blocked_network() -> Iterator[list[str]]:
    """Let every attempt to reach a network fail, and list the attempts; sockets within the machine are left alone."""
    attempts: list[str] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def refuse(*arguments: Any, **_: Any) -> Any:
        attempts.append(repr(arguments[:2]))
        msg = f"the network is blocked, got {arguments[:2]}"
        raise BlockedError(msg)

    def connect_within(own: socket.socket, *arguments: Any) -> None:
        if own.family in {socket.AF_INET, socket.AF_INET6}:
            refuse(*arguments)
        connect(own, *arguments)

    socket.socket.connect = connect_within  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = refuse
    try:
        yield attempts
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.getaddrinfo = look_up


def is_download(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is a download that could not be made."""
    return error is not None and (
        isinstance(error, (BlockedError, LocalEntryNotFoundError, OfflineModeIsEnabled))
        or is_download(error.__cause__ or error.__context__)
    )


@contextlib.contextmanager
def without_downloads() -> Iterator[None]:
    """Turn an attempt to reach a network into a failure."""
    with blocked_network() as attempts:
        try:
            yield
        except Exception as error:
            if is_download(error):
                msg = "needs a network"
                raise AssertionError(msg) from error
            raise
    expect(not attempts, "reached for a network")


class StopError(Exception):
    """A training is killed."""


class Stop(Callback):
    """Kill a training when its second epoch begins."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise an error in the second epoch."""
        del pl_module
        if trainer.current_epoch == 1:
            raise StopError


class Look(Callback):
    """Note the teacher's weights when the first step begins.

    Args:
        prefix: Beginning of their names.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.seen: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Copy the weights, once."""
        del trainer, batch, batch_idx
        self.seen = self.seen or copy_of(pl_module, self.prefix)


class DrawsApart(Quickstart):
    """Shuffles with a generator of its own, so that all draws of the global ones are the model's."""

    def train_dataloader(self) -> DataLoader[Any]:
        """Build the loader of the training images."""
        return self._loader(self.train_data, self.train_batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Build the loader of the validation images."""
        return self._loader(self.val_data, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Build the loader of the test images."""
        return self._loader(self.test_data, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Build the loader of the images to predict."""
        return self.test_dataloader()

    @staticmethod
    def _loader(dataset: Any, size: int, *, shuffle: bool = False) -> DataLoader[Any]:
        own = torch.Generator().manual_seed(0)
        return DataLoader(dataset, batch_size=size, shuffle=shuffle, collate_fn=dataset.collate_fn, generator=own)


def mislabelled(dataset: Any) -> Any:
    """Copy a data set so that every image has the label of a defect, and a mask of noise."""
    kind = type(dataset)

    def read(self: Any, index: int) -> Any:
        item = kind.__getitem__(self, index)
        item.gt_label = torch.tensor(1)
        noise = torch.rand(item.gt_mask.shape, generator=torch.Generator().manual_seed(index))
        item.gt_mask = (noise > 0.5).to(item.gt_mask.dtype)
        return item

    changed = copy.copy(dataset)
    changed.__class__ = type(kind.__name__, (kind,), {"__getitem__": read})
    return changed


# ----------------------------------------------------------------------------------------------------------- the checks


def constructs_offline(subject: Subject, folder: Path) -> None:
    """Default construction needs no network."""
    del folder
    with without_downloads():
        subject.model()


def yaml_and_back(subject: Subject, folder: Path) -> None:
    """Arguments go through YAML and back."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(AnomalibModule, "model")
    path = f"{subject.model.__module__}.{subject.model.__qualname__}"
    file = folder / "model.yaml"
    file.write_text(json.dumps({"model": {"class_path": path, "init_args": subject.arguments}}), encoding="utf-8")
    first = parser.parse_path(file)
    second = parser.parse_string(parser.dump(first))
    expect(first.model == second.model, "what is written is not what is read")
    expected = dict(subject.model(**subject.arguments).hparams)
    for module in (AnomalibModule.from_config(file), parser.instantiate_classes(second).model):
        expect(type(module) is subject.model, f"built a {type(module).__name__}")
        arguments = dict(module.hparams)
        # of a `str | Path`, jsonargparse may make either
        changed = [name for name in subject.arguments if str(arguments[name]) != str(expected[name])]
        expect(not changed, ", ".join(f"{name}={arguments[name]!r}, not {expected[name]!r}" for name in changed))


def whole_life(subject: Subject, folder: Path) -> None:
    """Fit, validate, test, predict and export run, and scores are finite."""
    module, data = subject.build(), subject.data(folder)
    fit(module, folder, data)
    make_engine(folder).validate(module, datamodule=data)
    expect_predictions(module, folder, data)
    for kind in (ExportType.TORCH, ExportType.OPENVINO):
        path = make_engine(folder).export(module, kind, export_root=folder)
        expect(path and Path(path).is_file(), f"no file from the {kind.value} export")


def same_seed(subject: Subject, folder: Path) -> None:
    """The same seed gives the same weights."""
    weights = []
    for name in ("first", "second"):
        seed_everything(0, verbose=False)
        module = subject.build()
        fit(module, folder / name, subject.data(folder))
        weights.append(copy_of(module))
    expect_same(weights[0], weights[1], "second training")


def checkpoint(subject: Subject, folder: Path) -> None:
    """A checkpoint, loaded without a network, predicts the same."""
    module = subject.build()
    path = fit(module, folder, subject.data(folder))
    with without_downloads():
        loaded = subject.model.load_from_checkpoint(path, map_location="cpu")
        expect_close(predict(module, photos(2)), predict(loaded, photos(2)), 0, "loaded")


def resume(subject: Subject, folder: Path) -> None:
    """A training that is stopped and resumed is the uninterrupted one."""
    seed_everything(0, verbose=False)
    module = subject.build()
    if module.trainer_arguments.get("max_epochs") == 1:
        msg = "trains for one epoch"
        raise SkippedError(msg)
    fit(module, folder / "whole", subject.data(folder), max_epochs=2)
    seed_everything(0, verbose=False)
    interrupted, data = subject.build(), subject.data(folder)
    seed_everything(0, verbose=False)  # as before the whole training
    stopped = make_engine(folder / "stopped", max_epochs=2, callbacks=[Stop()])
    with contextlib.suppress(StopError):
        stopped.fit(interrupted, datamodule=data)
    seed_everything(0, verbose=False)
    resumed = subject.build()
    engine = make_engine(folder / "resumed", max_epochs=2)
    engine.fit(resumed, datamodule=subject.data(folder), ckpt_path=stopped.best_model_path)
    expect_same(copy_of(module), copy_of(resumed), "resumed")


def export_parity(subject: Subject, folder: Path) -> None:
    """The OpenVINO export equals a test in torch within 1e-3, in batches of 1 and 3 and in two sizes."""
    module = subject.build()
    fit(module, folder, subject.data(folder))
    path = make_engine(folder).export(module, ExportType.OPENVINO, export_root=folder)
    compiled = core().compile_model(str(path), "CPU", EXACT)
    for count in (1, 3):
        for size in SIZES:
            images = photos(count, *size)
            results = compiled(images.numpy())
            exported = {name: torch.from_numpy(np.asarray(results[name], np.float32)) for name in OUTPUTS}
            exported = {
                name: value.flatten(1) if name == "anomaly_map" else value.flatten() for name, value in exported.items()
            }
            expected = predict(module, images)
            expected["pred_score"] = expected["pred_score"].flatten()
            expect_close(exported, expected, TOLERANCE, f"batch of {count}, {size[0]} x {size[1]}")


def no_labels(subject: Subject, folder: Path) -> None:
    """Training reads no label and no mask."""
    weights = []
    for name, change in (("right", copy.copy), ("wrong", mislabelled)):
        data = subject.ready_data(folder, val_split_ratio=0.5)  # enough for thresholds, which need labels
        data.train_data = change(data.train_data)
        seed_everything(0, verbose=False)
        module = subject.build()
        fit(module, folder / name, data)
        weights.append(copy_of(module, "model."))
    expect_same(weights[0], weights[1], "with wrong labels and masks")


def teacher_unchanged(subject: Subject, folder: Path) -> None:
    """The frozen teacher is the same, bit by bit, after training and testing."""
    module, data, look = subject.build(), subject.data(folder), Look(subject.teacher)
    fit(module, folder, data, callbacks=[look])
    make_engine(folder).test(module, datamodule=data)
    expect(look.seen, f"no weights named {subject.teacher}")
    expect_same(look.seen, copy_of(module, subject.teacher), "teacher")


def random_states() -> dict[str, Any]:
    """Return the states of all global generators."""
    return {"python": random.getstate(), "numpy": repr(np.random.get_state()), "torch": torch.get_rng_state().tolist()}  # noqa: NPY002  # the global one is meant


def settings() -> dict[str, Any]:
    """Return the process's settings that a model might change."""
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "warnings' filters": [*warnings.filters],
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def differing(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Name what differs."""
    return ", ".join(name for name, value in first.items() if value != second[name])


def global_state(subject: Subject, folder: Path) -> None:
    """No global state is left changed: random states, threads, warnings' filters, dtype; training does not reseed."""
    before, ends = settings(), []
    for seed in (1, 2):  # libraries that the first one loads are not the model's doing
        before = settings() if seed == 2 else before
        seed_everything(seed, verbose=False)
        module, engine, data = subject.build(), make_engine(folder), subject.data(folder)
        data.__class__ = DrawsApart
        engine.fit(module, datamodule=data)
        ends.append(random_states())
        engine.test(module, datamodule=data)
        engine.predict(module, datamodule=data)
        drawn = differing(random_states(), ends[-1])
        expect(not drawn, f"testing or predicting changed the random state of {drawn}")
    reseeded = [name for name, state in ends[0].items() if state == ends[1][name]]
    expect(not reseeded, f"training set the random state of {', '.join(reseeded)}")
    engine.export(module, ExportType.OPENVINO, export_root=folder)
    drawn = differing(random_states(), ends[-1])
    expect(not drawn, f"an export changed the random state of {drawn}")
    changed = differing(settings(), before)
    expect(not changed, f"changed {changed}")


def spawned_workers(subject: Subject, folder: Path) -> None:
    """A data loader with a spawned worker process trains."""
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        fit(subject.build(), folder, subject.data(folder, num_workers=1), limit_val_batches=0)
    finally:
        multiprocessing.set_start_method(method, force=True)


def batch_of_1(subject: Subject, folder: Path) -> None:
    """Batches of 1 train, and an image scores alone as in a batch."""
    module = subject.build()
    fit(module, folder, subject.data(folder, train_batch_size=1))
    alone, together = (
        expect_predictions(module, folder, subject.data(folder, eval_batch_size=size)) for size in (1, EVAL_BATCH)
    )
    difference = max(abs(alone[path] - score) for path, score in together.items())
    expect(difference <= TOLERANCE, f"scores differ by {difference:.2g}")


def last_batch_of_1(subject: Subject, folder: Path) -> None:
    """A last batch of 1 trains and predicts."""
    if subject.batch == 1:
        msg = "trains with batches of 1"
        raise SkippedError(msg)
    module, data = subject.build(), subject.ready_data(folder)
    data.train_batch_size, data.eval_batch_size = len(data.train_data) - 1, len(data.test_data) - 1
    fit(module, folder, data)
    expect_predictions(module, folder, data)


def odd_sizes(subject: Subject, folder: Path) -> None:
    """Sizes that are no multiples of 32 train and predict, with a map of that size."""
    module, data = subject.build(ODD_SIZE), subject.data(folder)
    fit(module, folder, data)
    expect_predictions(module, folder, data)
    shape = tuple(module.model.eval()(module.pre_processor.transform(photos(1))).anomaly_map.shape[-2:])
    expect(shape == ODD_SIZE, f"the map is {shape[0]} x {shape[1]}")


def transform_survives(subject: Subject, folder: Path) -> None:
    """A pre-processor of the user's survives a checkpoint."""
    transform = Compose([Pad(8), Resize((64, 80), antialias=True)])
    module = subject.build(pre_processor=PreProcessor(transform))
    loaded = subject.model.load_from_checkpoint(fit(module, folder, subject.data(folder)), map_location="cpu")
    kept = getattr(loaded.pre_processor, "transform", None)
    expect(kept is not None, "the loaded model's transform is None")
    expect_close(predict(module, photos(2)), predict(loaded, photos(2)), 0, "loaded")


def leaves_no_files(subject: Subject, folder: Path) -> None:
    """One process after another leaves no files in the working directory and the folder of temporary files."""
    name = next((name for name, known in SUBJECTS.items() if known == subject), None)
    expect(name, f"a process of its own knows {', '.join(SUBJECTS)} alone")
    subject.data(folder).prepare_data()
    work, temporary = folder / "work", folder / "temporary"
    work.mkdir()
    temporary.mkdir()
    command = (sys.executable, "-c", "import sys; from benchmark.battery import live; live(*sys.argv[1:])")
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for exports in ("", "and exports"):
        done = subprocess.run(  # noqa: S603
            [*command, str(name), str(folder / "results"), exports],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == DOWNLOAD:
            raise BlockedError
        expect(done.returncode == 0, (done.stderr.strip().splitlines() or ["no message"])[-1])
        left = [path.name for place in (work, temporary) for path in place.iterdir()]
        expect(not left, f"left {', '.join(left)}")


DOWNLOAD = 9
"""Exit status of a process that needs a network."""


def live(name: str, results: str, exports: str) -> None:
    """Train and test a model in this process, and export it unless ``exports`` is empty."""
    subject, folder = SUBJECTS[name], Path(results)
    torch.set_num_threads(1)
    try:
        with blocked_network():
            module, data = subject.build(), subject.data(folder)
            fit(module, folder, data)
            make_engine(folder).test(module, datamodule=data)
            if exports:
                make_engine(folder).export(module, ExportType.OPENVINO, export_root=folder)
    except Exception as error:
        if is_download(error):
            sys.exit(DOWNLOAD)
        raise


Check: TypeAlias = "Callable[[Subject, Path], None]"
CHECKS: tuple[Check, ...] = (
    constructs_offline,
    yaml_and_back,
    whole_life,
    same_seed,
    checkpoint,
    resume,
    export_parity,
    no_labels,
    teacher_unchanged,
    global_state,
    spawned_workers,
    batch_of_1,
    last_batch_of_1,
    odd_sizes,
    transform_survives,
    leaves_no_files,
)
"""Every check, in the table's order."""


# --------------------------------------------------------------------------------------------------------- running them


@dataclass(frozen=True)
class Outcome:
    """What a check said.

    Args:
        check: Its name.
        value: 1 for passed, 0 for failed, NaN for skipped.
        reason: Why it failed or was skipped; empty if it passed.
    """

    check: str
    value: float
    reason: str = ""


def run_check(check: Check, subject: Subject, folder: Path) -> Outcome:
    """Run a check in a folder of its own below ``folder``; images are drawn once for all of them."""
    name = check.__name__
    own = folder / name
    own.mkdir(parents=True)
    with blocked_network():
        try:
            check(subject, own)
        except SkippedError as reason:
            return Outcome(name, float("nan"), str(reason))
        except Exception as error:  # noqa: BLE001  # whatever a model does is a result
            if is_download(error) and not isinstance(error, AssertionError):
                return Outcome(name, float("nan"), "weights not to be had")
            return Outcome(name, 0, in_a_line(error, folder))
    return Outcome(name, 1)


def in_a_line(error: Exception, folder: Path) -> str:
    """Describe an error by its first sentence, of at most 200 characters, without the folder's name."""
    kind = "" if type(error) is AssertionError else f"{type(error).__name__}: "
    text = re.sub(r"\s+", " ", str(error).replace(f"{folder}/", "").replace("|", "/")).strip()
    return f"{kind}{text.partition('. ')[0][:200]}"


def run_battery(subject: Subject, checks: Sequence[Check] = CHECKS) -> list[Outcome]:
    """Run checks on a model, in a temporary folder.

    Args:
        subject: The model.
        checks: Some of :data:`CHECKS`.
    """
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="battery_") as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for check in checks:
            outcome = run_check(check, subject, Path(work))
            word = {1: "passed", 0: "failed"}.get(outcome.value, "skipped")  # type: ignore[call-overload]
            logger.info("%s, %s: %s %s", subject.model.__name__, outcome.check, word, outcome.reason)
            outcomes.append(outcome)
    return outcomes


def measure_battery(name: str, *, results: Path, source: str) -> list[Row]:
    """Run all checks on a model, and append a row per check, unless the file has them from the same commit.

    Args:
        name: Of :data:`SUBJECTS`.
        results: CSV file.
        source: Commit of the code.

    Raises:
        ValueError: If no model has that name.
    """
    if name not in SUBJECTS:
        msg = f"Expected a model among {', '.join(SUBJECTS)}, got {name!r}. Use one of these names."
        raise ValueError(msg)
    subject = SUBJECTS[name]
    run = Run(name, source, "drawn/metal", 0, subject.weights, 2, subject.batch, BATTERY)
    if has_run(results, run.key):
        logger.info("%s: already checked, skipped", run.name)
        return []
    rows = [
        run_row(
            run,
            outcome.check,
            outcome.value,
            subset=outcome.reason or "all",
            epochs=1,
            image_size=SIZE,
            precision="f32",
            source=source,
        )
        for outcome in run_battery(subject)
    ]
    append_rows(results, rows)
    return rows
