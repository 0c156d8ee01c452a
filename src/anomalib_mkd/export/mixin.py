# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Export of our models: anomalib's, plus complete files only, antialiased resizing and our own 8-bit quantisation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType
from anomalib.models.components.base.export_mixin import ExportMixin
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import LightningModule

from anomalib_mkd.data.normal_images import good_indices
from anomalib_mkd.distillation.teacher_student import TeacherStudent
from anomalib_mkd.export.finishing import EIGHT_BITS, finish, fitted_before, fitted_in_8_bits, results_of_good
from anomalib_mkd.export.parity import compare
from anomalib_mkd.export.quantization import MOST_IMAGES, Lazy, compress
from anomalib_mkd.export.resize import check_exportable, exportable
from anomalib_mkd.export.staged import staged
from anomalib_mkd.export.tail import Raw
from anomalib_mkd.terminal.quiet import quiet_exporters


class DistillationExport(ExportMixin, LightningModule):
    """Export of a :class:`TeacherStudent`; goes before ``AnomalibModule`` among the bases."""

    model: TeacherStudent
    _raw_outputs: bool = False
    _in_graph: bool = False

    def raw_inputs(self, item: Any) -> tuple[torch.Tensor, ...]:
        """Return the inputs of an export, in its order, from a raw item: the photo ``(3, H, W)``."""
        return (item.image,)

    def forward(self, batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Predict on photos ``(N, 3, H, W)`` in 0..1, as in testing; this method is exported.

        anomalib's own version resizes without antialiasing.
        """
        del args, kwargs
        pre_processor: Any = self.pre_processor
        if isinstance(pre_processor, PreProcessor):
            transform = pre_processor.transform
            pre_processor = exportable(transform) if transform and self._in_graph else transform
        return self.post_processed(pre_processor(batch) if pre_processor else batch)

    def post_processed(self, images: torch.Tensor) -> Any:
        """Predict on pre-processed images, then apply thresholds and scaling, unless an export adds its own tail."""
        prediction = self.model(images)
        if self._raw_outputs:
            return Raw(prediction.pred_score, prediction.anomaly_map)
        post_processor: Any = self.post_processor
        return post_processor(prediction) if post_processor else prediction

    def example_inputs(self, size: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """Return random inputs of an export, ``(1, C, H, W)`` each, always the same.

        Args:
            size: Height and width.
        """
        return (torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0), device="cpu").to(self.device),)

    def check_export(self, input_size: tuple[int, int] | None, compression_type: CompressionType | None = None) -> None:
        """Reject what this model's graph cannot hold, before the export; here, nothing.

        Args:
            input_size: Height and width of the images; ``None`` for any.
            compression_type: Of an OpenVINO export; ``None`` for f32.

        Raises:
            ValueError: If the model cannot be exported so.
        """

    @contextmanager
    def on_cpu(self) -> Iterator[None]:
        """Be on the CPU: a GPU may round products to TF32, and an export would not equal the model there."""
        device = self.device
        self.to("cpu")
        try:
            yield
        finally:
            self.to(device)

    @contextmanager
    def exporting(self, model_file_name: str, input_size: tuple[int, int] | None) -> Iterator[None]:
        """Let ``forward`` be what a graph can hold, on the CPU, after a check of what cannot be exported.

        Args:
            model_file_name: Name of the export, without suffix.
            input_size: Height and width of the images; ``None`` for any.

        Raises:
            ValueError: If the name would leave the export's folder, the pre-processor cannot be exported, or as for
                :meth:`check_export`.
        """
        check_name(model_file_name)
        self.check_export(input_size)
        with self.on_cpu():
            check_exportable(getattr(self.pre_processor, "transform", None))
            self.model.teacher.prepare()
            self._in_graph = True
            try:
                yield
            finally:
                self._in_graph = False

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """Export as anomalib does, without half-written files; errors as for :func:`check_name`."""
        check_name(model_file_name)
        self.model.teacher.prepare()
        with self.on_cpu(), staged(export_root) as staging:
            path = super().to_torch(staging, model_file_name)
        return Path(export_root) / path.relative_to(staging)

    def to_onnx(  # type: ignore[override]  # the host's signature, not Lightning's
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export as anomalib does, without half-written files, in the opset that torch writes without converting.

        Errors as for :meth:`exporting`.
        """
        kwargs = {"opset_version": 18, "verbose": False, **kwargs}
        with self.exporting(model_file_name, input_size), quiet_exporters(), staged(export_root) as staging:
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
        """Export as anomalib does, with thresholds that can be moved, and metadata beside the graph.

        In 8 bits, thresholds move with the graph's scores of good images, learnt and held out, and a line
        says how many of those it calls bad. Without thresholds of ours (``post_processor=False``, anomalib's own,
        or a model that was never validated), there is only the graph.

        At the end, an export in f32 is compared with the model on an image of odd size. In FP16 and 8 bits it differs
        by design.

        Args:
            export_root: Folder of the export.
            model_file_name: Name without suffix.
            input_size: Height and width of the images; ``None`` for any.
            compression_type: ``FP16``, ``INT8`` (weights alone) or ``INT8_PTQ`` (networks).
            datamodule: For 8 bits: its training images calibrate, its validation images set the thresholds.
            **kwargs: For anomalib.

        Returns:
            The ``.xml`` file.

        Raises:
            ValueError: If ``compression_type`` is ``INT8_ACQ``, or needs a datamodule and there is none; and as for
                :meth:`exporting`.
            RuntimeError: If the export's results are not the model's; nothing is left of it.
        """
        self.check_export(input_size, compression_type)
        _check_compression(compression_type, datamodule)
        fitted = fitted_before(self.post_processor)
        self._raw_outputs = fitted is not None
        try:
            with self.on_cpu(), staged(export_root) as staging:
                theirs = None if compression_type in EIGHT_BITS else compression_type
                path = super().to_openvino(staging, model_file_name, input_size, theirs, datamodule, **kwargs)
                if compression_type in EIGHT_BITS and datamodule is not None:
                    datamodule.prepare_data()
                    datamodule.setup("fit")  # once: without a seed, each call splits anew
                    full = fitted and results_of_good(self, path, datamodule)
                    learnt = datamodule.train_data
                    chosen = good_indices(learnt, MOST_IMAGES)
                    compress(path, compression_type, Lazy(lambda index: self.raw_inputs(learnt[index]), chosen))
                    if fitted and full:
                        again = results_of_good(self, path, datamodule)
                        fitted = fitted_in_8_bits(self.post_processor, fitted, full, again)
                if fitted:
                    finish(self, path, compression_type, *fitted)
                self._raw_outputs = False
                if compression_type is None:
                    compare(self, path, input_size)
        finally:
            self._raw_outputs = False
        return Path(export_root) / path.relative_to(staging)


def check_name(model_file_name: str) -> None:
    """Reject a name that would leave the export's folder, or is none.

    Raises:
        ValueError: If it is not one plain name.

    Example:
        >>> check_name("../model")
        Traceback (most recent call last):
        ValueError: Expected a model_file_name without folders, got '../model'. Set export_root to the folder.
    """
    if Path(model_file_name).name != model_file_name or "\\" in model_file_name or model_file_name in {"", ".."}:
        msg = f"Expected a model_file_name without folders, got {model_file_name!r}. Set export_root to the folder."
        raise ValueError(msg)


def _check_compression(compression_type: CompressionType | None, datamodule: AnomalibDataModule | None) -> None:
    """Reject what cannot be compressed, before the export."""
    if compression_type == CompressionType.INT8_ACQ:
        msg = (
            "Expected a compression_type of FP16, INT8 or INT8_PTQ, got INT8_ACQ, for which NNCF needs a metric of bad "
            "parts and does not keep our distances in full precision. Use INT8_PTQ."
        )
        raise ValueError(msg)
    if compression_type is not None and compression_type in EIGHT_BITS and datamodule is None:
        msg = (
            f"Expected a datamodule for {compression_type.name}, whose images calibrate the model and set its "
            "thresholds, got none. Set datamodule, or --data on the command line, to that of the training."
        )
        raise ValueError(msg)
