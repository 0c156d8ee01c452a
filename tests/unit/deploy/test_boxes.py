# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Connected regions, beside scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label, regionprops

from anomalib_mkd.deploy.boxes import find_boxes


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 17), (40, 40)])
def test_equals_another_implementation(share: float, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.random(size, dtype=np.float32)
        mask = generator.random(size) < share
        labels, boxes = find_boxes(mask, values, size)
        expected = label(mask, connectivity=2)
        np.testing.assert_array_equal(labels, expected)
        for box, other in zip(boxes, regionprops(expected, values), strict=True):
            assert (box.top, box.left, box.bottom, box.right) == other.bbox
            assert box.area == other.area
            assert box.score == other.intensity_max


def test_a_spiral_is_one_region() -> None:
    mask = np.ones((21, 21), bool)
    for ring in range(1, 10, 2):
        mask[ring, ring - 1 : 21 - ring] = mask[20 - ring, ring : 21 - ring] = False
        mask[ring : 21 - ring, 20 - ring] = False
        mask[ring + 2 : 21 - ring, ring] = False
    labels, boxes = find_boxes(mask, mask.astype(np.float32), mask.shape)
    np.testing.assert_array_equal(labels, label(mask, connectivity=2))
    assert len(boxes) == labels.max()


def test_nothing_is_no_region() -> None:
    labels, boxes = find_boxes(np.zeros((4, 5), bool), np.zeros((4, 5), np.float32), (8, 10))
    assert boxes == []
    assert not labels.any()


def test_boxes_cover_their_pixels_in_a_picture_of_another_size() -> None:
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    _, (box,) = find_boxes(mask, mask.astype(np.float32), (10, 5))
    assert (box.left, box.top, box.right, box.bottom) == (1, 3, 4, 7)
    assert box.area == round(10 * 5 / 9)
