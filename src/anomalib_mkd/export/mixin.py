# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Export of our models: anomalib's, plus complete files only, antialiased resizing and our own 8-bit quantisation."""

from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataModule, InferenceBatch
from anomalib.deploy import CompressionType
from anomalib.models.components.base.export_mixin import ExportMixin
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import LightningModule

from anomalib_mkd.distillation.teacher_student import TeacherStudent
from anomalib_mkd.export.quantization import calibration_items, quantize
from anomalib_mkd.export.resize import exportable
from anomalib_mkd.export.staged import staged
from anomalib_mkd.terminal.quiet import quiet_exporters


class DistillationExport(ExportMixin, LightningModule):
    """Export of a :class:`TeacherStudent`; goes before ``AnomalibModule`` among the bases."""

    model: TeacherStudent

    def raw_inputs(self, item: Any) -> tuple[torch.Tensor, ...]:
        """Return the inputs of an export, in its order, from a raw item: the photo ``(3, H, W)``."""
        return (item.image,)

    def forward(self, batch: torch.Tensor, *args: Any, **kwargs: Any) -> InferenceBatch:
        """Predict on photos ``(N, 3, H, W)`` in 0..1, as in testing; this method is exported.

        anomalib's own version resizes without antialiasing.
        """
        del args, kwargs
        pre_processor: Any = self.pre_processor
        if isinstance(pre_processor, PreProcessor) and pre_processor.transform:
            pre_processor = exportable(pre_processor.transform)
        return self.post_processed(pre_processor(batch) if pre_processor else batch)

    def post_processed(self, images: torch.Tensor) -> InferenceBatch:
        """Predict on pre-processed images, then apply thresholds and scaling."""
        prediction: InferenceBatch = self.model(images)
        post_processor: Any = self.post_processor
        return post_processor(prediction) if post_processor else prediction

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """Export as anomalib does, without half-written files."""
        self.model.teacher.prepare()
        with staged(export_root) as staging:
            path = super().to_torch(staging, model_file_name)
        return Path(export_root) / path.relative_to(staging)

    def to_onnx(  # type: ignore[override]  # the host's signature, not Lightning's
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, without half-written files, in the opset that torch writes without converting."""
        self.model.teacher.prepare()
        kwargs = {"opset_version": 18, "verbose": False, **kwargs}
        with quiet_exporters(), staged(export_root) as staging:
            path = super().to_onnx(staging, model_file_name, input_size, **kwargs)
        return Path(export_root) / path.relative_to(staging)

    def to_openvino(  # type: ignore[override]  # all other arguments are passed on
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, without half-written files, and quantise on normal training images.

        Raises:
            ValueError: If ``CompressionType.INT8_PTQ`` is set without a datamodule.
        """
        by_us = compression_type == CompressionType.INT8_PTQ
        if by_us and datamodule is None:
            msg = "Expected a datamodule for INT8_PTQ, whose images calibrate the model, got none. Set datamodule."
            raise ValueError(msg)
        with staged(export_root) as staging:
            theirs = None if by_us else compression_type
            path = super().to_openvino(staging, model_file_name, input_size, theirs, datamodule, **kwargs)
            if by_us and datamodule is not None:
                quantize(path, map(self.raw_inputs, calibration_items(datamodule)))
        return Path(export_root) / path.relative_to(staging)
