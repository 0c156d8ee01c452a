# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Photo, depth, ground truth and heat map side by side."""

from pathlib import Path
from typing import Any

import numpy as np
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.functional import add_text_to_image
from anomalib.visualization.image.item_visualizer import visualize_image_item
from einops import rearrange
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from anomalib_mkd.models.mmrd.depth_pre_processor import DepthPreProcessor, picture_of_depth

SAME = 1e-3
"""Largest difference between channels that hold the same depth: rounding."""


class DepthVisualizer(ImageVisualizer):
    """anomalib's visualizer with the depth image as a second panel; arguments as for ``ImageVisualizer``.

    anomalib's own has no field for depth.
    """

    def on_test_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one file per image of the batch."""
        del outputs, batch_idx, dataloader_idx
        is_ready = isinstance(pl_module.pre_processor, DepthPreProcessor)
        if self.output_dir is None:
            self.output_dir = Path(trainer.default_root_dir) / "images"
        data = getattr(trainer, "datamodule", None)
        root = getattr(data, "root", None)  # anomalib uses the datamodule's name and the image's folder, here "rgb"
        for item in batch:
            file = generate_output_filename(
                item.image_path or "",
                self.output_dir,
                dataset_name=Path(root).resolve().name if root else getattr(data, "name", None),
                category=getattr(data, "category", None),
            )
            self.picture(item, item.depth_map if is_ready and hasattr(item, "depth_map") else None).save(file)

    def picture(self, item: Any, depth: Tensor | None) -> Image.Image:
        """Draw one item with its pre-processed depth image ``(3, H, W)``; without depth, as anomalib does."""
        row: Any = visualize_image_item(
            item,
            fields=self.fields,
            overlay_fields=self.overlay_fields,
            field_size=self.field_size,
            fields_config=self.fields_config,
            overlay_fields_config=self.overlay_fields_config,
            text_config=self.text_config,
        )
        if depth is None:
            return row  # type: ignore[no-any-return]
        width = self.field_size[0]
        panel = depth_panel(depth).resize(self.field_size)
        text = dict(self.text_config)
        if text.pop("enable"):
            panel = add_text_to_image(panel, "Depth", **text)
        wide = Image.new("RGB", (row.width + width, row.height))
        wide.paste(row.crop((0, 0, width, row.height)), (0, 0))
        wide.paste(panel, (width, 0))
        wide.paste(row.crop((width, 0, row.width, row.height)), (2 * width, 0))
        return wide


def depth_panel(depth: Tensor) -> Image.Image:
    """Draw a pre-processed depth image: depth in colours, black where missing; normals unchanged.

    Args:
        depth: ``(3, H, W)``.
    """
    values = picture_of_depth(depth).cpu().numpy()
    if np.ptp(values, axis=0).max() < SAME:
        coloured = colormaps["viridis"](values[0])[..., :3] * (values[0] > 0)[..., None]
    else:
        coloured = rearrange(values, "c h w -> h w c")
    return Image.fromarray((coloured * 255).round().astype("uint8"))
