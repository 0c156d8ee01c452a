# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Curves of a report, as SVG that takes its colours and font from the page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Stand for colours of the page, which differ in light and dark: each becomes `var(--name)`.
PLACEHOLDERS = {"ink": "#010101", "muted": "#020202", "line": "#030303", "good": "#040404", "bad": "#050505"}
STYLE: dict[Any, Any] = {
    "axes.edgecolor": PLACEHOLDERS["line"],
    "axes.grid": True,
    "axes.labelcolor": PLACEHOLDERS["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 11.5,
    "grid.color": PLACEHOLDERS["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": PLACEHOLDERS["ink"],
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # the same data give the same bytes
    "text.color": PLACEHOLDERS["ink"],
    "xtick.color": PLACEHOLDERS["muted"],
    "ytick.color": PLACEHOLDERS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}
POINTS = 500
"""Most points of a curve."""


def histogram(scores: Mapping[str, NDArray[np.float64]], threshold: float | None, marked: str = "threshold") -> str:
    """Draw the shares of scores per group, which are comparable even if one has far more images.

    Args:
        scores: Finite scores by group, ``good``, ``bad`` or another name.
        threshold: Where to draw a line, if anywhere.
        marked: What the line is.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_axes("score", "share of images")
        together = np.concatenate(list(scores.values()))
        edges = np.histogram_bin_edges(together, bins=min(40, max(10, round(2 * len(together) ** 0.5))))
        for name, values in scores.items():
            color = PLACEHOLDERS.get(name, PLACEHOLDERS["ink"])
            shares = np.histogram(values, edges)[0] / max(1, len(values))
            axes.stairs(shares, edges, fill=True, color=color, alpha=0.3)
            axes.stairs(shares, edges, color=color, linewidth=1.6, label=f"{name} ({len(values):,})")
        _mark(axes, threshold, marked)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set_ylim(bottom=0)
        return finish(figure)


def sweep(good: NDArray[np.float64], bad: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Move the threshold over all scores, from the highest to below the lowest.

    Args:
        good: Finite scores of good parts, at least one.
        bad: The same of bad parts.

    Returns:
        Thresholds ``(T,)``, and the shares of bad and of good parts whose score lies above each.

    Example:
        >>> sweep(np.array([0.1]), np.array([0.4, 0.9]))[1:]
        (array([0. , 0.5, 1. , 1. ]), array([0., 0., 0., 1.]))
    """
    thresholds = np.append(np.unique([*good, *bad])[::-1], -np.inf)
    above = [1 - np.searchsorted(np.sort(scores), thresholds, side="right") / len(scores) for scores in (bad, good)]
    return thresholds, *above


def area(caught: NDArray[np.float64], alarms: NDArray[np.float64]) -> float:
    """Integrate the receiver operating characteristic of :func:`sweep`: AUROC, 0..1."""
    return float(((caught[1:] + caught[:-1]) / 2 * np.diff(alarms)).sum())


def roc(caught: NDArray[np.float64], alarms: NDArray[np.float64], now: tuple[float, float] | None) -> str:
    """Draw the share of bad parts caught over that of good parts called bad.

    Args:
        caught: See :func:`sweep`.
        alarms: See :func:`sweep`.
        now: Both shares, in this order, at the threshold of the run.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_axes("good parts called bad", "bad parts caught")
        axes.plot([0, 1], [0, 1], color=PLACEHOLDERS["muted"], linewidth=1, linestyle="--", label="by chance")
        few = _few(len(caught))
        axes.plot(alarms[few], caught[few], color=PLACEHOLDERS["bad"], linewidth=2, label="this model", clip_on=False)
        if now is not None:
            axes.plot(
                now[1], now[0], "o", color=PLACEHOLDERS["ink"], markersize=8, label="at the threshold", clip_on=False
            )
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        return finish(figure)


def trade(
    thresholds: NDArray[np.float64],
    caught: NDArray[np.float64],
    alarms: NDArray[np.float64],
    threshold: float | None,
    unit: str,
) -> str:
    """Draw both shares along the threshold.

    Args:
        thresholds: See :func:`sweep`.
        caught: See :func:`sweep`.
        alarms: See :func:`sweep`.
        threshold: That of the run.
        unit: Label of the axis.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(unit, "share of parts")
        thresholds = np.append(thresholds[:-1], thresholds[-2])  # the last one is minus infinity
        few = _few(len(thresholds))
        for values, name, label in ((caught, "bad", "bad parts caught"), (alarms, "good", "good parts called bad")):
            axes.step(
                thresholds[few],
                values[few],
                color=PLACEHOLDERS[name],
                linewidth=2,
                label=label,
                clip_on=False,
                where="pre",
            )
        _mark(axes, threshold, "threshold")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.set_ylim(0, 1)
        return finish(figure)


def _few(count: int) -> NDArray[np.int_]:
    """Choose at most :data:`POINTS` of so many points, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, POINTS).round().astype(int))


def new_axes(x: str, y: str) -> tuple[Figure, Axes]:
    """Begin a plot with the labels of its axes, inside :data:`STYLE`."""
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y, axisbelow=True)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _mark(axes: Axes, x: float | None, label: str) -> None:
    if x is not None and np.isfinite(x):
        axes.axvline(x, color=PLACEHOLDERS["ink"], linewidth=1.4, linestyle=(0, (4, 3)), label=f"{label} {x:.3g}")


def finish(figure: Figure) -> str:
    """Finish a plot: its legend above it, and the page's colours in it."""
    figure.legend(loc="outside upper left", ncols=2, handlelength=1.4, columnspacing=1.4)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for name, color in PLACEHOLDERS.items():
        text = text.replace(color, f"var(--{name})")
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
