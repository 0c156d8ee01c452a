# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The callback that says what a test or a prediction found: on the terminal, in a table and on a report page."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console

from anomalib_mkd.category_post_processor import categories_of
from anomalib_mkd.data.normal_images import count_held_out, held_out, normal_batches
from anomalib_mkd.data.reading import each_of, seen_as_stored
from anomalib_mkd.results.advice import advice, outcome
from anomalib_mkd.results.latest import forget_failed_run, number_run, remember_run
from anomalib_mkd.results.machine import machine
from anomalib_mkd.results.predictions import predictions_of, thresholds, write_csv
from anomalib_mkd.results.report import Gallery, Run, command_of, write_report
from anomalib_mkd.results.report.gallery import TRAINED
from anomalib_mkd.results.report.outliers import most_suspicious, write_suspicious
from anomalib_mkd.results.verdicts import alternatives, group_table, prediction_table, sentence
from anomalib_mkd.terminal.bar import Bar
from anomalib_mkd.terminal.progress import RunProgress
from anomalib_mkd.thresholds import SUSPECT
from anomalib_mkd.transforms import shows_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lightning.pytorch import LightningModule, Trainer

    from anomalib_mkd.results.predictions import Prediction
    from anomalib_mkd.results.report.gallery import Exhibit

logger = logging.getLogger(__name__)

TABLE = "predictions.csv"
PAGE = "report.html"
SUSPECTS = "suspicious.csv"
PACKAGES = ("anomalib-mkd", "anomalib", "torch")
"""Packages whose versions the page names."""
MOST_TRAINING_PICTURES = 1000
"""Most training images that are scored after a training, evenly spaced; more would take longer than the training."""


MOST_RETURNED = 1000
"""Most images whose predictions a run returns: of 256 pixels a side, they take about 1.3 GB."""

LEARNT, HELD_OUT = "learnt", "held out"
NAMED = 5
"""Most suspicious images that the log names."""


class Results(Callback):
    """Collect the predictions of a test or a prediction, print them, and write a table and a report page.

    Files go to the run's folder, where anomalib puts the heat maps. Each run overwrites those of the run before in the
    same folder, but a test or a prediction keeps those of a training under names with ``train_``. Our models bring this
    callback along. For another of anomalib's, pass it to the engine: ``Engine(callbacks=[Results()])``.

    Args:
        report: Whether to write the page, and to score the training images for it.

    Attributes:
        predictions: Of the last test or prediction.
        suspicious: Predictions of the good images of the last training, and how many robust standard deviations each
            score lies above those of its like; the most suspicious first.
        advice: What to do about the last test, if its result is unfit for use; else empty.
        training_seconds: Of the last training, since it was last resumed; ``None`` without one.
    """

    def __init__(self, report: bool = True) -> None:
        self.report = report
        self.predictions: list[Prediction] = []
        self.suspicious: list[tuple[Prediction, float]] = []
        self._placed: Callable[[str], bool] = lambda _: True
        self._gallery = Gallery()
        self._exhibits: list[Exhibit] = []
        self._start = 0.0
        self.advice: list[str] = []
        self.training_seconds: float | None = None
        self._trained = False  # since the last test
        self._good_pictures: int | None = None
        self._far: list[str] = []
        self._resumed_at = 0

    def __reduce__(self) -> tuple[type[Results], tuple[bool]]:
        """Copy and pickle the settings: what a run found does not travel with its model."""
        return type(self), (self.report,)

    @property
    def training(self) -> list[Prediction]:
        """Predictions of the good images of the last training, the most suspicious first."""
        return [row for row, _ in self.suspicious]

    # --------------------------------------------------------------------------------------------------- collecting

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go behind the post-processor, which a model adds behind the user's callbacks; checkpoints stay last.

        All processes write to the folder of the first one.
        """
        del pl_module, stage
        _share_folder(trainer)
        others = [each for each in trainer.callbacks if each is not self]  # type: ignore[attr-defined]
        last = [each for each in others if isinstance(each, Checkpoint)]
        # a new list: the old one is being walked through
        trainer.callbacks = [*(each for each in others if each not in last), self, *last]  # type: ignore[attr-defined]

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with no predictions, and with nothing of a training unless this is its test."""
        loaders = trainer.predict_dataloaders if trainer.predicting else trainer.test_dataloaders
        self._placed = _placed(pl_module, loaders)
        if not self._trained:
            self._forget_training()
        self.predictions, self.advice = [], []
        self._gallery = Gallery()
        self._start = time.perf_counter()

    on_predict_epoch_start = on_test_epoch_start

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the predictions of a batch, behind the post-processor."""
        del outputs, batch_idx, dataloader_idx
        rows = _rows(trainer, pl_module, batch, self._placed)
        self.predictions += rows
        if self.report:
            _exhibit(rows, batch, self._gallery, self._placed)

    on_predict_batch_end = on_test_batch_end

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop Lightning from keeping the images and maps of very many predictions in memory."""
        del pl_module
        loop = trainer.predict_loop
        datasets: list[Any] = [getattr(loader, "dataset", None) for loader in each_of(trainer.predict_dataloaders)]
        count = sum(len(each) for each in datasets if hasattr(each, "__len__"))  # a stream has no length
        if loop.return_predictions and count > MOST_RETURNED:
            loop.return_predictions = False
            logger.warning(
                "Predictions of %d images, more than %d, are not returned; %s has them. Predict in parts for the maps.",
                count,
                MOST_RETURNED,
                Path(trainer.default_root_dir) / TABLE,
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with nothing of an earlier training."""
        del pl_module
        self._forget_training()
        self.training_seconds, self._trained, self._start = None, False, time.perf_counter()
        self._resumed_at = trainer.global_step

    def _forget_training(self) -> None:
        self.suspicious, self._exhibits, self._far, self._good_pictures = [], [], [], None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the good parts of the training: a defect among them is likeliest where the score is highest."""
        self.training_seconds, self._trained = time.perf_counter() - self._start, True
        if trainer.is_global_zero:
            remember_run(Path(trainer.default_root_dir))
        if not self.report or not trainer.is_global_zero:
            return
        modes = {part: part.training for part in pl_module.modules()}
        pl_module.eval()
        linear = getattr(pl_module.post_processor, "linear", lambda scores: scores)
        with torch.inference_mode():
            datasets = _good_datasets(trainer)
            self._good_pictures = _count_good(trainer, datasets)
            for set_name, batches in zip(datasets, _good_pictures(trainer, pl_module, datasets), strict=True):
                rows, gallery = [], Gallery(TRAINED)
                placed = _placed(pl_module, [trainer.train_dataloader, trainer.val_dataloaders])
                for batch in batches:
                    added = _rows(trainer, pl_module, batch, placed)
                    rows += added
                    _exhibit(added, batch, gallery, placed)
                ranked = most_suspicious(rows, linear)
                self.suspicious += ranked
                if set_name == HELD_OUT:
                    self._far = [row.file for row, distance in ranked if distance > SUSPECT]
                self._exhibits += gallery.shown("training")
        self.suspicious.sort(key=lambda pair: -pair[1])
        table = Path(trainer.default_root_dir) / SUSPECTS
        if self.suspicious:
            table.parent.mkdir(parents=True, exist_ok=True)
            write_suspicious(table, self.suspicious)
        if far := [row.file for row, distance in self.suspicious if distance > SUSPECT]:
            logger.warning(
                "%d of the good training images score far above the others and may show a defect: %s%s. Look at "
                "them; %s lists them all.",
                len(far),
                ", ".join(far[:NAMED]),
                ", ..." if len(far) > NAMED else "",
                table,
            )
        for part, training in modes.items():
            part.training = training

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to continue an interrupted training; move ``latest`` off one without a checkpoint."""
        del pl_module, exception
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        forget_failed_run(Path(trainer.default_root_dir))
        if trainer.global_step > self._resumed_at:
            written = [getattr(each, "_last_checkpoint_saved", "") for each in trainer.checkpoint_callbacks]
            file = next(filter(None, written), trainer.ckpt_path)
            remedy = f"Continue it with --ckpt_path {file}" if file else "There is no checkpoint yet, so begin it anew"
            logger.warning("The training stopped at step %d before its end. %s.", trainer.global_step, remedy)

    # --------------------------------------------------------------------------------------------------- presenting

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the counts, and write the files."""
        self._write(trainer, pl_module, "train" if self._trained else "test")
        self._trained = False  # a later test is not the training's
        if self.predictions and trainer.is_global_zero and trainer.test_loop.verbose:
            todo = [f"- {text}" for text in self.advice]
            _print(group_table(self.predictions), sentence(self.predictions), *todo, self._where(trainer))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the predictions, and write the files."""
        self._write(trainer, pl_module, "predict")
        if self.predictions and trainer.is_global_zero:
            _print(prediction_table(self.predictions), sentence(self.predictions), self._where(trainer))

    def _where(self, trainer: Trainer) -> str:
        return f"Details: {Path(trainer.default_root_dir) / (PAGE if self.report else TABLE)}"

    def _write(self, trainer: Trainer, module: LightningModule, command: str) -> None:
        seconds, own = time.perf_counter() - self._start, len(self.predictions)
        self.predictions = _of_all_processes(trainer, self.predictions)
        if not self.predictions or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if command != "train":
            _keep_training(folder)
        write_csv(folder / TABLE, self.predictions)
        others = alternatives(self.predictions, getattr(module.post_processor, "thresholds_by_share", {}))
        if command != "predict" and (found := outcome(self.predictions, self._good_pictures, self._far, others)):
            self.advice = advice(found)
        if self.report:
            run = Run(
                command=command,
                model=type(module).__name__,
                data=_name_of_data(trainer, [row.file for row in self.predictions]),
                date=datetime.now().astimezone(),
                machine=machine(torch.get_num_threads(), device=trainer.strategy.root_device),
                arguments={name: value for name, value in module.hparams.items() if value is not None},
                versions={name: version(name) for name in PACKAGES},
                metrics={name: float(value) for name, value in trainer.callback_metrics.items()},
                training_seconds=self.training_seconds if command == "train" else None,
                resumed_at=self._resumed_at,
                seconds=seconds,
                pictures=own,
                megabytes=_megabytes(trainer),
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                rule=_rule(module.post_processor),
                alternatives=others,
            )
            write_report(
                folder / PAGE, run, self.predictions, self._gallery, self.suspicious, self._exhibits, self.advice
            )
        number_run(folder)


def _share_folder(trainer: Any) -> None:
    """Write to the folder of the first process: anomalib numbers one for each, and heat maps went to several."""
    if trainer.world_size == 1:
        return
    own = trainer.default_root_dir
    trainer._default_root_dir = trainer.strategy.broadcast(own)  # noqa: SLF001  # there is no public way
    if trainer.default_root_dir != own:
        with suppress(OSError):  # something is in it
            Path(own).rmdir()


def _keep_training(folder: Path) -> None:
    """Rename the files of a training, which alone show its suspicious images, before others take their names."""
    page = folder / PAGE
    if page.is_file() and command_of(page) == "train":
        for name in (TABLE, PAGE):  # the page last: it is what is asked for
            with suppress(FileNotFoundError):
                (folder / name).replace(folder / f"train_{name}")
        logger.info("The report of the training is now %s.", folder / f"train_{PAGE}")


def _rows(trainer: Trainer, module: Any, batch: Any, placed: Callable[[str], bool]) -> list[Prediction]:
    """List the predictions of a post-processed batch, whose files must be known."""
    if batch.image_path is None or batch.pred_score is None:
        return []
    limits, data = thresholds(module.post_processor), getattr(trainer, "datamodule", None)
    return predictions_of(batch, categories_of(trainer, batch), *limits, data=data, boxes=placed)


def _placed(module: Any, loaders: Any) -> Callable[[str], bool]:
    """Return what says whether the map of a file has its place there: not of a crop, nor of a photo seen lying."""
    whole, lying = shows_all(getattr(module.pre_processor, "transform", None)), seen_as_stored(loaders)
    return lambda path: whole and not lying(path)


def _exhibit(rows: Sequence[Prediction], batch: Any, gallery: Gallery, placed: Callable[[str], bool]) -> None:
    """Offer the images of a batch to a gallery, with their maps where those have a place."""
    for index, row in enumerate(rows):
        given = (batch.anomaly_map if placed(row.file) else None, batch.gt_mask)
        gallery.add(row, *(None if values is None else values[index] for values in given))


def _name_of_data(trainer: Any, files: Sequence[str]) -> str:
    """Name the data of a run by datamodule and category, or by the folder that all images are in."""
    data = getattr(trainer, "datamodule", None)
    if data is None:
        return os.path.commonpath([Path(file).parent for file in files])
    return " ".join(filter(None, (data.name, data.category)))


def _rule(post_processor: Any) -> str:
    """Say how the threshold was set; with several categories, the parts counted are those behind the highest."""
    rule: str = getattr(post_processor, "rule", "")
    several = any(row.get("good_scores") for row in getattr(post_processor, "table", {}).values())
    return f"{rule} in the category of the highest" if several else rule


def _megabytes(trainer: Any) -> float | None:
    """Return the size of the checkpoint that a run has loaded or its training has written; ``None`` without one."""
    file = trainer.ckpt_path or getattr(trainer.checkpoint_callback, "best_model_path", None)
    return Path(file).stat().st_size / 1e6 if file and Path(file).is_file() else None


def _good_datasets(trainer: Any) -> dict[str, Any]:
    """Return the good images of a training: those that it learnt from, and those that set the threshold."""
    learnt = getattr(trainer.train_dataloader, "dataset", None)  # none if there are several loaders
    datasets = {LEARNT: learnt, HELD_OUT: held_out(getattr(trainer, "datamodule", None))}
    # others can only be read through
    return {name: dataset for name, dataset in datasets.items() if hasattr(dataset, "__len__")}


def _count_good(trainer: Any, datasets: Mapping[str, Any]) -> int | None:
    """Count the good images of a training: those that it learnt from, and those held out; ``None`` if unknown."""
    if LEARNT not in datasets:
        return None
    return len(datasets[LEARNT]) + count_held_out(getattr(trainer, "datamodule", None))


def _good_pictures(trainer: Any, module: Any, datasets: Mapping[str, Any]) -> Iterator[Iterator[Any]]:
    """Predict on good images, each set by itself: scores of those learnt are lower than of those held out."""
    total = sum(min(len(each), MOST_TRAINING_PICTURES) for each in datasets.values())
    shows = total and any(isinstance(each, RunProgress) and each.shows for each in trainer.callbacks)
    bar = Bar("Scoring the good parts", total, "images") if shows else None
    done = 0

    def predicted(dataset: Any) -> Iterator[Any]:
        nonlocal done
        for batch in normal_batches(module, MOST_TRAINING_PICTURES, dataset):
            outputs = module.predict_step(batch, 0)
            for each in trainer.callbacks:
                if isinstance(each, PostProcessor):
                    each.on_predict_batch_end(trainer, module, outputs, batch, 0)
            yield outputs
            done += len(batch)
            if bar is not None:
                bar.update(done)

    try:
        yield from map(predicted, datasets.values())
    finally:
        if bar is not None:
            bar.close()


def _of_all_processes(trainer: Any, predictions: list[Prediction]) -> list[Prediction]:
    """Join the predictions of all processes, each of which may have been given some files twice to be as busy."""
    if trainer.world_size == 1:
        return predictions
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, predictions)
    return list({row.file: row for part in parts for row in part}.values())


def _print(*parts: Any) -> None:
    console = Console()
    for part in parts:
        if part is not None:
            console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))
