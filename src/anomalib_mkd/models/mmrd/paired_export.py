# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Exports with two inputs, a photo and its depth; anomalib's have one."""

import warnings
from pathlib import Path
from typing import Any

import torch
from anomalib.deploy import ExportType
from anomalib.models.components.base.export_mixin.utils import create_export_root
from torch import Tensor
from torch.export import Dim

from anomalib_mkd.export.mixin import DistillationExport
from anomalib_mkd.export.staged import staged

EXAMPLE_SIZE = (64, 64)
"""Size of the example photo in an export for any size."""


class PairedExport(DistillationExport):
    """Export of a model whose ``forward`` takes the inputs :attr:`input_names`; goes before the other bases."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Inputs of an export, in order: ``image``, and ``depth`` if needed."""
        return ("image", "depth")

    @property
    def depth_channels(self) -> int:
        """Channels of an export's depth: 1, or 3 if training used point clouds or depth comes pre-processed."""
        pre_processor: Any = self.pre_processor
        return (pre_processor.depth_channels or 1) if pre_processor else 3

    def depth_of(self, item: Any) -> Tensor:
        """Return the depth of an item or a batch.

        Raises:
            ValueError: If there is none.
        """
        depth: Tensor | None = getattr(item, "depth_map", None)
        if depth is None:
            msg = (
                f"Expected a depth map with every photo for {type(self).__name__}, got none. Use a datamodule with "
                "depth, such as DepthFolder, and pass both inputs, or set branches='rgb'."
            )
            raise ValueError(msg)
        return depth

    def raw_inputs(self, item: Any) -> tuple[Tensor, ...]:
        """Return photo and depth ``(C, H, W)`` of a raw item."""
        if self.input_names == ("image",):
            return (item.image,)
        depth = self.depth_of(item)
        return item.image, depth if depth.ndim == 3 else depth[None]

    def example_inputs(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Add a random depth of the same size to the photo, as far away as in training and with a hole."""
        photo = super().example_inputs(size)
        if self.input_names == ("image",):
            return photo
        depth = torch.rand(1, self.depth_channels, *size, generator=torch.Generator().manual_seed(1), device="cpu")
        if usual := getattr(self.pre_processor, "usual_depth", None):
            depth = usual[0] + (usual[1] - usual[0]) * depth
            depth[..., : size[0] // 4, : size[1] // 4] = torch.nan
        return *photo, depth.to(self.device)

    def to_onnx(  # type: ignore[override]  # the host's signature, not Lightning's
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> Path:
        """Export with the inputs ``image`` ``(N, 3, H, W)`` and ``depth`` ``(N, C, H', W')``, for any number of pairs.

        Args:
            export_root: Folder of the export.
            model_file_name: Name without suffix.
            input_size: Height and width of both; ``None`` for any sizes.
            **kwargs: For ``torch.onnx.export``.

        Returns:
            The ``.onnx`` file.
        """
        if self.input_names == ("image",):
            return super().to_onnx(export_root, model_file_name, input_size, **kwargs)
        with self.exporting(model_file_name, input_size):
            return self._pair_to_onnx(Path(export_root), model_file_name, input_size, **kwargs)

    def _pair_to_onnx(
        self, export_root: Path, model_file_name: str, input_size: tuple[int, int] | None, **kwargs: Any
    ) -> Path:
        size = input_size or EXAMPLE_SIZE
        photo = torch.zeros(2, 3, *size, device=self.device)
        depth = torch.ones(2, self.depth_channels, *(size if input_size else (48, 80)), device=self.device)
        with torch.inference_mode():
            outputs = [name for name, value in self.eval()(photo, depth)._asdict().items() if value is not None]
        many = Dim("batch_size")
        dims: list[dict[int, Any]] = [{0: many}, {0: many}]
        if input_size is None:
            for name, sides in zip(self.input_names, dims, strict=True):
                sides |= {2: Dim(f"{name}_height"), 3: Dim(f"{name}_width")}
        with staged(export_root) as staging, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="# The axis name: batch_size")  # shared on purpose
            path = create_export_root(staging, ExportType.ONNX) / f"{model_file_name}.onnx"
            torch.onnx.export(
                self,
                (photo, depth),
                str(path),
                input_names=list(self.input_names),
                output_names=outputs,
                dynamic_shapes={"batch": dims[0], "depth": dims[1]},
                **{"opset_version": 18, "dynamo": True, "verbose": False, **kwargs},
            )
        return export_root / path.relative_to(staging)
