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
LEFT_OF = 0.6
"""Share of the plot's width beyond which a name stands left of its point."""
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
        to_axes = axes.transData + axes.transAxes.inverted()
        places = {point: to_axes.transform(point.f32) for point in shown}
        ahead = {point: x > LEFT_OF for point, (x, _) in places.items()}  # its name stands left of it
        # from the top; in this order the fewest lines from moved names to their points cross
        order = sorted(shown, key=lambda p: (-round(places[p][1] / APART), not ahead[p], abs(places[p][0] - LEFT_OF)))
        for point, height in zip(order, spread([places[point][1] for point in order]), strict=True):
            axes.annotate(
                point.name,
                point.f32,
                xytext=(places[point][0] + (-0.025 if ahead[point] else 0.025), height),
                textcoords="axes fraction",
                ha="right" if ahead[point] else "left",
                va="center",
                color=PLACEHOLDERS["ink"],
                arrowprops={
                    "arrowstyle": "-",
                    "color": PLACEHOLDERS["muted"],
                    "linewidth": 0.7,
                    "relpos": (float(ahead[point]), 0.5),
                    "shrinkA": 0,
                    "shrinkB": 4,
                },
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


def spread(heights: list[float]) -> list[float]:
    """Move names apart so that they cover neither each other nor points at a height that several share.

    Args:
        heights: Of points in 0..1, from the top.

    Returns:
        Heights of their names, from the top: the point's own if it is far from all others, else one below it.

    Example:
        >>> [round(height, 3) for height in spread([1.0, 0.99, 0.1])]
        [0.935, 0.87, 0.1]
    """
    moved: list[float] = []
    for index, height in enumerate(heights):
        close = [abs(height - other) < APART for other in heights[:index] + heights[index + 1 :]]
        moved.append(min([height - APART * any(close), *(above - APART for above in moved[-1:])]))
    least = 0.0
    for index in reversed(range(len(moved))):
        moved[index] = max(moved[index], least)
        least = moved[index] + APART
    return moved
