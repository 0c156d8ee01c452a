# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a test means on the factory floor: defective parts that are caught, and good parts that are called bad."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

RGB_FOLDER = "rgb"
"""Where MVTec 3D-AD's layout has its photos, one folder below the kind of defect."""


def kind_of(path: str | Path) -> str:
    """Return the kind of defect of a part: the name of its image's folder, or in MVTec 3D-AD's layout of that above.

    Example:
        >>> kind_of("metal/test/dent/000.png"), kind_of("metal/test/dent/rgb/000.png")
        ('dent', 'dent')
    """
    folder = Path(path).parent
    return folder.parent.name if folder.name == RGB_FOLDER else folder.name


class Group(NamedTuple):
    """Parts that are counted together.

    Attributes:
        category: Of a datamodule with several; else empty.
        kind: Folder of the images: the kind of defect, or that of the good parts.
        defective: Whether these parts are.
    """

    category: str
    kind: str
    defective: bool


class Verdicts(Callback):
    """Count in a test which parts are called bad, and print the counts where Lightning prints its metrics.

    Belongs behind the post-processor, whose labels it counts. Where there are none, or the data have no truth, it
    prints nothing.
    """

    def __init__(self) -> None:
        self.parts: Counter[Group] = Counter()
        self.called_bad: Counter[Group] = Counter()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with empty counts."""
        del trainer, pl_module
        self.parts.clear()
        self.called_bad.clear()

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
        del pl_module, outputs, batch_idx, dataloader_idx
        if batch.pred_label is None or batch.gt_label is None or batch.image_path is None:
            return
        categories_of = getattr(getattr(trainer, "datamodule", None), "categories_of", None)
        categories = categories_of(batch) if categories_of else [""] * len(batch.image_path)
        truth, called = batch.gt_label.flatten().tolist(), batch.pred_label.flatten().tolist()
        for path, category, defective, bad in zip(batch.image_path, categories, truth, called, strict=True):
            group = Group(category or "", kind_of(path), bool(defective))
            self.parts[group] += 1
            self.called_bad[group] += bool(bad)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the counts."""
        del pl_module
        if self.parts and trainer.is_global_zero and trainer.test_loop.verbose:
            console = Console()
            if len(self.parts) > 1 + any(not group.defective for group in self.parts):
                console.print(self.table())
            console.print(self.sentence())

    def sentence(self) -> str:
        """Sum up all groups.

        Returns:
            For example ``"22 of 24 bad parts caught, 0 of 12 good parts called bad"``.
        """
        caught, bad, alarms, good = (
            sum(count for group, count in counts.items() if group.defective is defective)
            for defective in (True, False)
            for counts in (self.called_bad, self.parts)
        )
        return f"{caught} of {bad} bad parts caught, {alarms} of {good} good parts called bad"

    def table(self) -> Table:
        """List the groups, those of one category together."""
        table = Table(title="Parts called bad")
        several = any(group.category for group in self.parts)
        for name in ("category", "kind", "called bad", "of")[not several :]:
            table.add_column(name, justify="right" if name in {"called bad", "of"} else "left")
        for group in sorted(self.parts, key=lambda group: (group.category, group.defective, group.kind)):
            cells = (group.category, group.kind, str(self.called_bad[group]), str(self.parts[group]))
            table.add_row(*cells[not several :])
        return table
