# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""One bar with the time left for a whole training, instead of one per epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

from anomalib_mkd.terminal.bar import Bar

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class RunProgress(Callback):
    """One bar over all steps of a training, and one over each test and prediction.

    It takes the place of Lightning's default bar, which starts again at each epoch. A bar that the user chose stays,
    and without one, as with ``enable_progress_bar=False``, this callback shows nothing.
    """

    def __init__(self) -> None:
        self.default: RichProgressBar | None = None
        self.bar: Bar | None = None
        self.done = 0

    @property
    def shows(self) -> bool:
        """Whether it shows anything."""
        return self.default is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Switch off the default bar."""
        del pl_module, stage
        bar = trainer.progress_bar_callback
        if is_default(bar):
            bar.disable()
            self.default = bar

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the trainer as it was found."""
        del trainer, pl_module, stage
        self._close()
        if self.default is not None:
            self.default.enable()
            self.default = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar before the error is printed."""
        del exception
        self.teardown(trainer, pl_module, "")

    def _open(self, trainer: Trainer, title: str, total: float, unit: str) -> None:
        self._close()
        self.done = 0
        if self.shows and trainer.is_global_zero:
            self.bar = Bar(title, total, unit)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    # --------------------------------------------------------------------------------------------------- training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the training."""
        del pl_module
        self._open(trainer, "Training", trainer.estimated_stepping_batches, "steps")
        if self.bar is not None and trainer.global_step:
            self.bar.update(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step and the loss."""
        del pl_module, outputs, batch, batch_idx
        if self.bar is not None:
            loss = trainer.progress_bar_metrics.get("train_loss_step")
            self.bar.update(trainer.global_step, "" if loss is None else f"loss {loss:.3g}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of the training."""
        del trainer, pl_module
        self._close()

    # ----------------------------------------------------------------------------------------- test and prediction

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the test."""
        del pl_module
        self._open(trainer, "Testing", sum(trainer.num_test_batches), "batches")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the prediction."""
        del pl_module
        self._open(trainer, "Predicting", sum(trainer.num_predict_batches), "batches")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        del trainer, pl_module, outputs, batch, batch_idx, dataloader_idx
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.done)

    on_predict_batch_end = on_test_batch_end

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    on_predict_end = on_test_end


def is_default(bar: Callback | None) -> TypeGuard[RichProgressBar]:
    """Return whether Lightning, and not the user, chose a progress bar: then none of its settings differs.

    Example:
        >>> is_default(RichProgressBar()), is_default(RichProgressBar(leave=True)), is_default(None)
        (True, False, False)
    """
    return type(bar) is RichProgressBar and _settings(bar) == _settings(RichProgressBar())


def _settings(bar: RichProgressBar) -> dict[str, object]:
    """Return the values of a bar that its constructor sets."""
    return {
        name: value for name, value in vars(bar).items() if isinstance(value, (bool, int, dict, RichProgressBarTheme))
    }
