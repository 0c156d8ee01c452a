# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Photo, depth, ground truth and heat map side by side."""

from typing import Any

import numpy as np
from anomalib.visualization.image.functional import add_text_to_image
from einops import rearrange
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from anomalib_mkd.models.mmrd.depth_pre_processor import DepthPreProcessor, picture_of_depth
from anomalib_mkd.results.heat_maps import HeatMapVisualizer

SAME = 1e-3
"""Largest difference between channels that hold the same depth: rounding."""


class DepthVisualizer(HeatMapVisualizer):
    """The visualizer of our models with the depth image as a second panel; arguments as for ``ImageVisualizer``.

    anomalib's own has no field for depth.
    """

    def panels(self, item: Any, module: Any) -> Image.Image | None:
        """Draw the panels; without pre-processed depth ``(3, H, W)``, those of a photo."""
        row = super().panels(item, module)
        is_ready = isinstance(module.pre_processor, DepthPreProcessor)
        depth = getattr(item, "depth_map", None) if is_ready else None
        if row is None or depth is None:
            return row
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
