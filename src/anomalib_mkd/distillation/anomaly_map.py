# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Anomaly maps: the teacher-student distance at each position, fused over levels."""

from functools import reduce
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from anomalib_mkd.functional import enlarge, gaussian_blur, position_cosine_map
from anomalib_mkd.types import Pyramid

LevelFusion: TypeAlias = Literal["sum", "product"]


class AnomalyMapGenerator(nn.Module):
    """Enlarge the cosine distance of each level to the image size and fuse the levels.

    Source: STFPM (Wang et al., BMVC 2021) fuses them by a product, RD4AD (Deng and Li, CVPR 2022) by a sum. A product
    is small wherever one level matches; a sum is large wherever one level does not.

    Args:
        level_fusion: How levels are fused.
        sigma: Standard deviation in pixels of a Gaussian blur of the fused map; 0 for none.
        align_corners: Whether levels are enlarged corner to corner, as in RD4AD.

    Example:
        >>> import torch
        >>> levels = {"layer1": torch.rand(1, 8, 16, 16), "layer2": torch.rand(1, 16, 8, 8)}
        >>> AnomalyMapGenerator("product")(levels, levels, (64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(self, level_fusion: LevelFusion, sigma: float = 0.0, *, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.level_fusion = level_fusion
        self.sigma = sigma

    def forward(self, teacher: Pyramid, student: Pyramid, size: tuple[int, int] | torch.Size) -> Tensor:
        """Compute the map.

        Args:
            teacher: Features per level, ``(N, C_l, H_l, W_l)``.
            student: Features per level, of the same shapes.
            size: Height and width of the image.

        Returns:
            Map ``(N, 1, H, W)``, at least 0; for features after a ReLU at most 1 (product) or the number of levels.
        """
        maps = [
            enlarge(position_cosine_map(teacher[name], student[name]), size, align_corners=self.align_corners)
            for name in student
        ]
        fused = reduce(torch.mul if self.level_fusion == "product" else torch.add, maps)
        return gaussian_blur(fused, self.sigma)
