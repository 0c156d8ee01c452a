# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Accuracy against latency and size: the names on the points, in the report page's look."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from anomalib_mkd.results.report.plots import PLACEHOLDERS, STYLE, finish, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

APART = 0.065
"""Least distance of two names, in heights of the plot."""
DRAWN_LOSS = 5.0
"""Points of image AUROC below the lowest in f32 that 8 bits may lose and still be drawn."""
WIDE = 6.0
"""Ratio of the largest to the smallest value from which on an axis is logarithmic."""


class Point(NamedTuple):
    """A model.

    Attributes:
        name: Written beside the point.
        f32: Cost and image AUROC in percent.
        int8: The same in 8 bits; ``None`` without.
    """

    name: str
    f32: tuple[float, float]
    int8: tuple[float, float] | None


def trade_off(points: Sequence[Point], cost: str) -> str:
    """Draw accuracy over cost: filled points for f32, joined to hollow ones for 8 bits.

    Args:
        points: One at least.
        cost: Label of the axis.
    """
    low, high = limits(points)
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(cost, "image AUROC, %")
        shown = [point._replace(int8=None) if point in below(points) else point for point in points]
        for number, point in enumerate(sorted(shown, key=lambda point: point.int8 is None)):
            axes.plot(*point.f32, "o", markersize=8, color=PLACEHOLDERS["good"], label=None if number else "f32")
            if point.int8 is not None:
                axes.plot(*zip(point.f32, point.int8, strict=True), color=PLACEHOLDERS["line"], linewidth=1.4, zorder=1)
                axes.plot(
                    *point.int8,
                    "o",
                    markersize=7,
                    markerfacecolor="none",
                    markeredgecolor=PLACEHOLDERS["bad"],
                    markeredgewidth=1.6,
                    label=None if number else "8 bits",
                )
        costs = [place[0] for point in shown for place in (point.f32, point.int8) if place is not None]
        if max(costs) > WIDE * min(costs) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlim(min(costs) / 1.3, max(costs) * 1.3)
        else:
            axes.set_xlim(0, max(costs) * 1.15)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if low <= tick <= 100]))
        heights = spread([(point.f32[1] - low) / (high - low) for point in shown])
        for point, height in zip(shown, heights, strict=True):
            x, _ = axes.transAxes.inverted().transform(axes.transData.transform(point.f32))
            right = x > 0.6
            axes.text(
                x + (-0.025 if right else 0.025),
                height,
                point.name,
                transform=axes.transAxes,
                ha="right" if right else "left",
                va="center",
                color=PLACEHOLDERS["ink"],
            )
        return finish(figure)


def limits(points: Sequence[Point]) -> tuple[float, float]:
    """Choose the ends of the axis of accuracy so that differences in f32 can be seen."""
    exact = [point.f32[1] for point in points]
    inside = [*exact, *(point.int8[1] for point in points if point.int8 is not None and point not in below(points))]
    margin = max(0.5, 0.15 * (max(inside) - min(inside)))
    return min(inside) - margin, min(max(inside) + margin, 100 + margin / 4)


def below(points: Sequence[Point]) -> list[Point]:
    """Return those whose 8 bits lose so much that drawing them would press all others together."""
    least = min(point.f32[1] for point in points) - DRAWN_LOSS
    return [point for point in points if point.int8 is not None and point.int8[1] < least]


def spread(heights: Sequence[float]) -> list[float]:
    """Move heights in 0..1 apart so that names do not cover each other: upwards, and down again from the upper end.

    Example:
        >>> [round(height, 3) for height in spread([0.5, 0.5, 0.1])], [round(height, 3) for height in spread([1, 0.99])]
        ([0.5, 0.565, 0.1], [1.0, 0.935])
    """
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    least, most = -1.0, 1.0
    for index in order:
        moved[index] = max(moved[index], least)
        least = moved[index] + APART
    for index in reversed(order):
        moved[index] = min(moved[index], most)
        most = moved[index] - APART
    return moved
