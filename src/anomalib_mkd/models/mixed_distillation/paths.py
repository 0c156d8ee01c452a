# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""The paths of mixed distillation: which levels of teacher and student are compared across.

How they are compared is told by components that know nothing of mixed distillation: ``linear_path``, ``fed_path`` and
``review``.
"""

from collections.abc import Sequence
from itertools import combinations


def find_crossings(layers: Sequence[str], kind: str, pairs: str) -> list[tuple[str, str]]:
    """Join the first layer with the last one (``"extreme"``), or every two (``"all"``), in the direction of a path.

    A crossing names the teacher's layer, then the student's.

    Example:
        >>> find_crossings(["layer1", "layer2", "layer3"], "skip", "extreme")
        [('layer1', 'layer3')]
    """
    joined = [(layers[0], layers[-1])] if pairs == "extreme" else list(combinations(layers, 2))
    return joined if kind == "skip" else [(deep, shallow) for shallow, deep in joined]
