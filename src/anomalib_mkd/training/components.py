# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""What a model brings with it unless it is given others: post-processor, metrics, heat maps and callbacks."""

from typing import Any

from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from lightning.pytorch import Callback, LightningModule

from anomalib_mkd.post_processor import SoftPostProcessor
from anomalib_mkd.results.auroc import AUROC
from anomalib_mkd.results.callback import Results
from anomalib_mkd.results.heat_maps import LABELS, HeatMapVisualizer
from anomalib_mkd.terminal.progress import RunProgress


class DefaultComponents(LightningModule):
    """anomalib's ``configure_...`` methods for our models; goes before ``AnomalibModule`` in the bases."""

    visualizer: Any

    _results: Results | None = None  # one for all runs: a test's page shows the training's images

    def configure_post_processor(self) -> SoftPostProcessor:
        """Return the default post-processor."""
        return SoftPostProcessor(self.hparams["false_alarms"])

    @staticmethod
    def configure_evaluator() -> Evaluator:
        """Return anomalib's evaluator, with an AUROC that takes any number of images."""
        metrics: Any = AnomalibModule.configure_evaluator().test_metrics
        images = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
        pixels = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False)
        ours = {metric.name: metric for metric in (images, pixels)}
        return Evaluator(test_metrics=[ours.get(metric.name, metric) for metric in metrics])

    @classmethod
    def configure_visualizer(cls) -> HeatMapVisualizer:
        """Return the default visualizer."""
        return HeatMapVisualizer(text_config=LABELS)

    def configure_callbacks(self) -> list[Callback]:
        """Add to anomalib's callbacks a bar over the whole run, and what it found, which needs the labels before it."""
        callbacks: Any = super().configure_callbacks()
        self._results = self._results or Results(report=self.visualizer is not None)
        return [*callbacks, RunProgress(), self._results]
