# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Whether depth can show the same section as its image."""

ASPECT_TOLERANCE = 0.02


def check_aspect(image: tuple[int, ...], depth: tuple[int, ...], place: str = "the depth map") -> None:
    """Reject depth that cannot show the same section as its image: aspect ratios that differ by more than 2 %.

    Args:
        image: Height and width.
        depth: Height and width.
        place: Origin of the depth, for the message.

    Raises:
        ValueError: If the aspect ratios differ.
    """
    (height, width), (rows, columns) = image, depth
    if abs(columns * height / (rows * width) - 1) > ASPECT_TOLERANCE:
        msg = (
            f"Expected depth of the image's aspect ratio in {place}, got {rows}x{columns} for an image of "
            f"{height}x{width}. Register the depth to the image."
        )
        raise ValueError(msg)
