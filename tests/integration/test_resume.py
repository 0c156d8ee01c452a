# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""A training that was interrupted and resumed against one that was not: every bit must be the same."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping, LambdaCallback
from torchvision.transforms.v2 import RandomHorizontalFlip, Resize

import anomalib_mkd
from anomalib_mkd.data import DepthFolder, MultiCategory, Recipe, make_dataset
from anomalib_mkd.models.mmrd.depth_pre_processor import DepthPreProcessor, default_transform
from anomalib_mkd.training import mixin, resume
from tests.life import NOISE, make_data, make_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

pytestmark = [pytest.mark.filterwarnings(noise) for noise in NOISE]

STEPS_PER_EPOCH = 3
"""Of the images of ``make_data``; the last batch holds one."""
EVERY_STEP = {"every_n_train_steps": 1}
EVERY_EPOCH = {"every_n_epochs": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With several threads, sums depend on their timing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the images."""
    return tmp_path_factory.mktemp("pictures")


def categories(root: Path) -> MultiCategory:
    options = {"image_size": 64, "train_images": 6, "test_good": 2, "per_defect": 1}
    sizes = {"train_batch_size": 4, "eval_batch_size": 4, "num_workers": 0}
    return MultiCategory("Quickstart", ["metal", "washer"], root / "both", options=options, balanced=True, **sizes)


def scans(root: Path) -> DepthFolder:
    recipe = Recipe("metal", image_size=64, train_images=6, test_good=2, per_defect=1, layout="mvtec3d")
    make_dataset(root / "scans", recipe)
    sizes = {"train_batch_size": 3, "eval_batch_size": 4, "num_workers": 0, "removal_distance": 0.0}
    return DepthFolder(root / "scans", "metal", **sizes)


def build(name: str = "MixedDistillation", **arguments: Any) -> Any:
    if name == "Mmrd":
        pre_processor = DepthPreProcessor(default_transform((64, 64)))
        return anomalib_mkd.Mmrd(pre_trained=False, num_prototypes=8, visualizer=False, pre_processor=pre_processor)
    model = getattr(anomalib_mkd, name)
    pre_processor = PreProcessor(Resize((64, 64), antialias=True))
    return model(weights="quickstart", visualizer=False, pre_processor=pre_processor, **arguments)


def train(
    folder: Path,
    data: Any,
    name: str = "MixedDistillation",
    saving: dict[str, Any] = EVERY_STEP,
    checkpoint: Path | None = None,
    **limits: Any,
) -> dict[str, Tensor]:
    """Train, with another seed if resumed, and return what the model consists of."""
    seed_everything(0 if checkpoint is None else 1, verbose=False)
    module = build(name)
    writer = ModelCheckpoint(
        folder / "saved", filename="{step}", auto_insert_metric_name=False, save_top_k=-1, **saving
    )
    engine = make_engine(folder, callbacks=[writer], **{"max_epochs": 2, **limits})
    engine.fit(module, datamodule=data, ckpt_path=checkpoint)
    state: dict[str, Tensor] = module.state_dict()
    return {**state, "steps": torch.tensor(engine.trainer.global_step)}


def check_resumed(
    folder: Path, data: Callable[[], Any], steps: list[int], name: str = "MixedDistillation", **options: Any
) -> None:
    whole = train(folder / "whole", data(), name, **options)
    assert not any(value.isnan().any() for key, value in whole.items() if "threshold" in key)
    for step in steps:
        saved = folder / "whole" / "saved" / f"{step}.ckpt"
        resumed = train(folder / f"from_{step}", data(), name, checkpoint=saved, **options)
        different = [key for key, value in whole.items() if not torch.equal(value, resumed[key])]
        assert not different, f"after a resume from step {step}"


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        pytest.param([3, 6], {"saving": EVERY_EPOCH}, id="ends of epochs"),
        pytest.param([3, 6], {"saving": {"save_on_train_epoch_end": False}}, id="ends of validations"),
        pytest.param([2, 3, 6], {}, id="steps"),
        pytest.param([2, 3, 6], {"limit_val_batches": 0}, id="steps without validation"),
        pytest.param([3, 6], {"check_val_every_n_epoch": 2}, id="steps with one validation"),
        pytest.param([1, 2], {"accumulate_grad_batches": 2}, id="accumulated gradients"),
        pytest.param([2, 3, 5], {"reload_dataloaders_every_n_epochs": 1}, id="new loaders"),
        pytest.param([2, 3, 4], {"max_epochs": -1, "max_steps": 5, "limit_val_batches": 0}, id="maximum of steps"),
        pytest.param([3], {"max_epochs": -1, "max_steps": 5, "saving": EVERY_EPOCH}, id="maximum and ends of epochs"),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one(
    root: Path, tmp_path: Path, steps: list[int], options: dict[str, Any]
) -> None:
    check_resumed(tmp_path, lambda: make_data(root), steps, **options)


def test_pictures_that_change_at_random_change_alike(root: Path, tmp_path: Path) -> None:
    data = {"train_augmentations": RandomHorizontalFlip()}
    check_resumed(tmp_path, lambda: make_data(root, **data), [2, 3, 4])


def test_with_a_worker_process(root: Path, tmp_path: Path) -> None:
    data = {"train_augmentations": RandomHorizontalFlip(), "num_workers": 1}
    check_resumed(tmp_path, lambda: make_data(root, **data), [2, 4])


def test_with_balanced_categories(root: Path, tmp_path: Path) -> None:
    check_resumed(tmp_path, lambda: categories(root), [1, 3, 4])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Dcam", "Mkd", "Mmrd"])
def test_every_model(root: Path, tmp_path: Path, name: str) -> None:
    check_resumed(tmp_path, lambda: (scans if name == "Mmrd" else make_data)(root), [1, 2, 3], name)


def test_the_order_depends_on_the_seed_and_changes_from_epoch_to_epoch(root: Path, tmp_path: Path) -> None:
    orders = []
    for seed in (0, 0, 1):
        seed_everything(seed, verbose=False)
        seen: list[str] = []
        watching = LambdaCallback(on_train_batch_start=lambda *given, seen=seen: seen.extend(given[2].image_path))
        engine = make_engine(tmp_path, max_epochs=2, limit_val_batches=0, callbacks=[watching])
        engine.fit(build(), datamodule=make_data(root))
        half = len(seen) // 2
        assert sorted(seen[:half]) == sorted(seen[half:])
        orders += [seen[:half], seen[half:]]
    assert orders[:2] == orders[2:4]
    assert len(set(map(tuple, orders))) == 4


def test_a_resumed_training_is_tested_with_what_it_has_learnt(root: Path, tmp_path: Path) -> None:
    """The host would test the checkpoint that it resumed from, and leave its weights in the model."""
    whole = train(tmp_path / "whole", make_data(root))
    model = build()
    last = ModelCheckpoint(tmp_path / "last", save_top_k=-1, **EVERY_STEP)
    engine = make_engine(tmp_path / "resumed", max_epochs=2, callbacks=[last])
    engine.train(model, datamodule=make_data(root), ckpt_path=tmp_path / "whole" / "saved" / "2.ckpt")
    assert not [key for key, value in model.state_dict().items() if not torch.equal(value, whole[key])]
    old = build()
    engine.test(old, datamodule=make_data(root), ckpt_path=tmp_path / "whole" / "saved" / "2.ckpt")
    assert [key for key, value in old.state_dict().items() if not torch.equal(value, whole[key])]


def test_pictures_taken_away_are_missed(root: Path, tmp_path: Path) -> None:
    train(tmp_path / "whole", make_data(root), max_epochs=1)
    fewer = make_data(root, val_split_ratio=0.7)
    with pytest.raises(ValueError, match=r"^Expected the training images of the interrupted training, got fewer"):
        train(tmp_path, fewer, max_epochs=1, checkpoint=tmp_path / "whole" / "saved" / "2.ckpt")


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 1e-6), ("schedule", "constant"), ("optimizer", "sgd")])
def test_another_optimiser_is_refused_and_trains_from_the_weights(
    root: Path, tmp_path: Path, name: str, value: Any
) -> None:
    """The checkpoint's would go on; what the sentence advises works."""
    train(tmp_path, make_data(root), max_epochs=1)
    path = tmp_path / "saved" / "3.ckpt"
    sentence = rf"^Expected {name}=.*, with which the interrupted .*load_from_checkpoint\(path, {name}={value!r}\)"
    with pytest.raises(ValueError, match=sentence):
        make_engine(tmp_path, max_epochs=2).fit(build(**{name: value}), datamodule=make_data(root), ckpt_path=path)
    model = anomalib_mkd.MixedDistillation.load_from_checkpoint(path, visualizer=False, **{name: value})
    engine = make_engine(tmp_path, max_epochs=1)
    engine.fit(model, datamodule=make_data(root))
    assert engine.trainer.global_step == STEPS_PER_EPOCH
    (used,) = engine.trainer.optimizers
    assert type(used).__name__ == ("SGD" if name == "optimizer" else "Muon")
    assert name != "learning_rate" or used.param_groups[0]["initial_lr"] == value


def test_thresholds_of_an_older_student_are_not_used(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(tmp_path, make_data(root))
    path = tmp_path / "saved" / "5.ckpt"
    sentence = "Expected thresholds of the checkpoint's step 5, got those of step 3"
    engine = make_engine(tmp_path / "tested", callbacks=[ModelCheckpoint(**EVERY_STEP)])
    for use in (engine.test, engine.predict):
        with pytest.raises(ValueError, match=f"^{sentence}"):
            use(build(), datamodule=make_data(root), ckpt_path=path)
    loaded = anomalib_mkd.MixedDistillation.load_from_checkpoint(path)
    assert loaded.post_processor.scales is None
    assert sentence in caplog.text
    model = build()
    engine.validate(model, datamodule=make_data(root), ckpt_path=path)
    engine.test(model, datamodule=make_data(root))
    assert model.post_processor.scales is not None
    assert model.post_processor.image_threshold != whole["post_processor._image_threshold"]


def test_thresholds_of_an_earlier_training_are_not_used(root: Path, tmp_path: Path) -> None:
    train(tmp_path / "first", make_data(root), saving=EVERY_EPOCH, max_epochs=1)
    first = tmp_path / "first" / "saved" / "3.ckpt"
    model = anomalib_mkd.MixedDistillation.load_from_checkpoint(first, visualizer=False)
    writer = ModelCheckpoint(tmp_path / "saved", filename="{step}", auto_insert_metric_name=False, **EVERY_STEP)
    make_engine(tmp_path, callbacks=[writer], max_steps=2, limit_val_batches=0).fit(model, datamodule=make_data(root))
    with pytest.raises(ValueError, match=r"^Expected thresholds of the checkpoint's step 2, got those of step 0"):
        make_engine(tmp_path).test(build(), datamodule=make_data(root), ckpt_path=tmp_path / "saved" / "2.ckpt")


def test_a_test_leaves_random_numbers_alone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, make_data(root), max_epochs=1)
    monkeypatch.setattr(resume, "set_random_state", None)  # a call would fail
    engine = make_engine(tmp_path, callbacks=[ModelCheckpoint(**EVERY_STEP)])
    engine.test(build(), datamodule=make_data(root), ckpt_path=tmp_path / "saved" / "3.ckpt")


def test_a_rerun_of_a_finished_training_trains_no_step_and_tests(root: Path, tmp_path: Path) -> None:
    first = make_engine(tmp_path / "first", max_epochs=2)
    results = first.train(build(), datamodule=make_data(root))
    second = make_engine(tmp_path / "second", max_epochs=2)
    again = second.train(build(), datamodule=make_data(root), ckpt_path=first.best_model_path)
    assert second.trainer.global_step == first.trainer.global_step == 2 * STEPS_PER_EPOCH
    assert again == results


def test_a_training_that_was_stopped_early_stays_stopped(root: Path, tmp_path: Path) -> None:
    def stopper() -> EarlyStopping:
        return EarlyStopping("train_loss_epoch", patience=1, mode="max", check_on_train_epoch_end=True)

    first = make_engine(tmp_path / "first", max_epochs=9, callbacks=[stopper()])
    first.fit(build(), datamodule=make_data(root))
    steps = first.trainer.global_step
    assert steps == 2 * STEPS_PER_EPOCH
    second = make_engine(tmp_path / "second", max_epochs=9, callbacks=[stopper()])
    second.fit(build(), datamodule=make_data(root), ckpt_path=first.best_model_path)
    assert second.trainer.global_step == steps


@pytest.mark.parametrize(("accumulated", "steps"), [(1, 6), (2, 4)])
def test_training_steps_are_steps_of_the_optimiser(root: Path, tmp_path: Path, accumulated: int, steps: int) -> None:
    """Rounded up to whole epochs: of three steps, or of two for two batches each and the last alone."""
    engine = make_engine(tmp_path, accumulate_grad_batches=accumulated, limit_val_batches=0)
    engine.fit(build(training_steps=4), datamodule=make_data(root))
    assert engine.trainer.global_step == steps


class StopAt(Callback):
    """Stops a training at the start of a step: by an error, or as a limit of time does."""

    def __init__(self, step: int, error: type[BaseException] | None = None) -> None:
        self.step, self.error = step, error

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        del args
        if trainer.global_step == self.step:
            if self.error is not None:
                raise self.error
            trainer.should_stop = True


def fit(folder: Path, data: Any, *callbacks: Callback, checkpoint: str | None = None, **options: Any) -> Any:
    """Train for the automatic length, four epochs, and return the engine and what the model consists of."""
    seed_everything(0 if checkpoint is None else 1, verbose=False)
    module, engine = build(training_steps=4 * STEPS_PER_EPOCH), make_engine(folder, callbacks=[*callbacks], **options)
    stops = any(isinstance(each, StopAt) and each.error for each in callbacks)
    with pytest.raises((SystemExit, RuntimeError)) if stops else nullcontext():
        engine.fit(module, datamodule=data, ckpt_path=checkpoint)
    return engine, module.state_dict()


@pytest.mark.parametrize(
    ("stop", "writers", "options"),
    [
        pytest.param(StopAt(7, KeyboardInterrupt), [], {}, id="key"),
        pytest.param(StopAt(3, RuntimeError), [], {}, id="error at the start of an epoch"),
        pytest.param(StopAt(7, RuntimeError), [{"save_last": True}], {}, id="last"),
        pytest.param(StopAt(4, RuntimeError), [], {"accumulate_grad_batches": 2}, id="accumulated gradients"),
        pytest.param(StopAt(7), [], {}, id="early end"),
    ],
)
def test_an_interrupted_training_goes_on(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stop: StopAt,
    writers: list[dict[str, Any]],
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(mixin, "SAVE_SECONDS", 0 if stop.error else 60)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Lightning switches the key off

    def own(folder: str) -> list[Callback]:
        return [ModelCheckpoint(tmp_path / folder / "saved", **each) for each in writers]

    _, whole = fit(tmp_path / "whole", make_data(root), **options)
    engine, _ = fit(tmp_path / "stopped", make_data(root), stop, *own("stopped"), **options)
    writer = engine.trainer.checkpoint_callback
    file = writer.last_model_path or writer.best_model_path
    assert stop.error is None or f"before its end. Continue it with --ckpt_path {file}." in caplog.text
    ended, resumed = fit(tmp_path / "resumed", make_data(root), *own("resumed"), checkpoint=file, **options)
    assert [key for key, value in whole.items() if not torch.equal(value, resumed[key])] == []
    saved = torch.load(ended.best_model_path, weights_only=False)["state_dict"]  # thresholds are in the last one
    assert [key for key, value in whole.items() if not torch.equal(value, saved[key])] == []
    assert len(list(Path(writer.dirpath).glob("*.ckpt"))) == 1 + len(writers)


def test_a_short_training_writes_no_checkpoint_in_between(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, _ = fit(tmp_path, make_data(root), StopAt(7, RuntimeError))
    assert not engine.best_model_path
    assert "stopped at step 7 before its end. There is no checkpoint yet" in caplog.text


KILLED = """
import sys
from pathlib import Path
import torch
from tests.integration.test_resume import make_data, train

torch.set_num_threads(1)
train(Path(sys.argv[2]), make_data(Path(sys.argv[1])), max_epochs=20)
"""


@pytest.mark.slow
def test_kill_9(root: Path, tmp_path: Path) -> None:
    """Whenever it comes, the newest checkpoint goes on as if nothing had happened."""
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(root), str(killed)])  # noqa: S603
    try:
        while not (killed / "saved" / "7.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    newest = max((killed / "saved").glob("*.ckpt"), key=lambda path: int(path.stem))
    assert int(newest.stem) < 20 * STEPS_PER_EPOCH
    whole = train(tmp_path / "whole", make_data(root), max_epochs=20)
    resumed = train(tmp_path / "resumed", make_data(root), checkpoint=newest, max_epochs=20)
    assert [key for key, value in whole.items() if not torch.equal(value, resumed[key])] == []


def test_random_numbers_of_apples_gpu_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    state, restored = torch.arange(9, dtype=torch.uint8), []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.mps, "set_rng_state", restored.append)
    saved = resume.random_state()
    resume.set_random_state(saved)
    del saved["mps"]  # as in older checkpoints
    resume.set_random_state(saved)
    assert len(restored) == 1
    assert torch.equal(restored[0], state)
