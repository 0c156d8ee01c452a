# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Draw the plots of the documentation from committed results.

usage: python scripts/plots.py

``comparison.png`` shows accuracy against latency, ``few_pictures.png`` against the number of good images, with a
panel for each category. Text is grey and the background transparent, for pages that are light or dark.
"""

from __future__ import annotations

import csv
import statistics
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from anomalib_mkd.files import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

    Rows = Sequence[Mapping[str, str]]

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
GREY = "#808a94"
COLOURS = {
    "MixedDistillation": "#2e9d46",
    "MixedDistillation fast": "#8fd19e",
    "MixedDistillation accurate": "#14592a",
    "Patchcore": "#d9822b",
    "Patchcore 10 %": "#a8551a",
    "Padim": "#7b6fd0",
}
SHOWN = ("bottle", "group20085", "metal_plate", "screw")
"""Comparisons that are drawn."""
MILLISECONDS = {f"{value}": value for value in (5, 10, 20, 50, 100, 200)}
PICTURES = {f"{count}": count for count in (5, 10, 25, 50, 100)} | {"all": 200}
"""Labels of the horizontal axes and their places; "all" stands for 160 to 320 images."""
KINDS = {"MixedDistillation": "default", "Patchcore": "coreset0.01", "Patchcore 10 %": "coreset0.1"}
"""Models with few images, and their variants."""
METRICS = {"image_AUROC": "-", "AUPRO": ":"}
"""What few images cost, and the lines that show it."""


def read(file: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def plot_comparison(axes: Axes, rows: Rows) -> None:
    """Draw filled points for f32, joined to hollow ones for 8 bits."""
    for row in rows:
        places = [
            (1000 * float(row[f"{kind}latency"]), 100 * float(row[auroc]))
            for kind, auroc in (("", "image_auroc"), ("int8_", "int8_auroc"))
            if row[f"{kind}latency"] and row[auroc]
        ]
        if not places:
            continue
        style: dict[str, Any] = {"color": COLOURS[row["model"]], "linewidth": 1.4, "markersize": 9}
        axes.plot(*zip(*places, strict=True), "-", **style)
        axes.plot(*places[0], "o", label=row["model"], **style)
        axes.plot(*zip(*places[1:], strict=True), "o", markerfacecolor="none", markeredgewidth=1.6, **style)


def plot_few_pictures(axes: Axes, rows: Rows) -> None:
    """Draw a line for each model and metric, through the means of the seeds."""
    for model, variant in KINDS.items():
        for metric, line in METRICS.items():
            values = {
                place: [
                    100 * float(row["value"])
                    for row in rows
                    if (row["model"], row["variant"], row["metric"]) == (model.split()[0], variant, metric)
                    and row["protocol"] == ("user" if label == "all" else f"good{label}")
                ]
                for label, place in PICTURES.items()
            }
            means = {place: statistics.fmean(found) for place, found in values.items() if found}
            style: dict[str, Any] = {"color": COLOURS[model], "linewidth": 1.8, "markersize": 5}
            axes.plot([*means], [*means.values()], f"o{line}", label=f"{model}, {metric.replace('_', ' ')}", **style)


def draw(
    panels: Mapping[str, Rows], plot: Callable[[Axes, Rows], None], ticks: Mapping[str, int], labels: tuple[str, str]
) -> bytes:
    """Draw a row of panels, as PNG.

    Args:
        panels: Title to rows.
        plot: Draws the rows into a panel.
        ticks: Labels of the horizontal axis, which is logarithmic, and their places.
        labels: Of both axes.
    """
    with plt.rc_context(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), GREY)):
        figure, grid = plt.subplots(1, len(panels), figsize=(12, 3.9), sharey=True, layout="constrained")
        for axes, (title, rows) in zip(grid, panels.items(), strict=True):
            plot(axes, rows)
            axes.set(title=title, xscale="log", xlim=(min(ticks.values()) / 1.5, max(ticks.values()) * 1.5))
            axes.xaxis.set_major_locator(FixedLocator([*ticks.values()]))
            axes.xaxis.set_major_formatter(FixedFormatter([*ticks]))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(color=GREY, alpha=0.25)
            axes.spines[:].set_visible(False)
        figure.supxlabel(labels[0], fontsize="medium")
        grid[0].set_ylabel(labels[1])
        named = {text: line for axes in grid for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(named.values(), named, loc="outside upper center", ncols=min(len(named), 4), frameon=False)
        drawn = BytesIO()
        figure.savefig(drawn, dpi=80, transparent=True, pil_kwargs={"optimize": True})
    return drawn.getvalue()


def main() -> None:
    """Read, draw, and replace the plots."""
    compared = {name: read(ROOT / "results" / "comparisons" / name / "compare.csv") for name in SHOWN}
    accuracy = [
        row
        for row in read(ROOT / "results/accuracy.csv")
        if row["variant"] in KINDS.values()
        and (row["subset"], row["weights"]) == ("all", "resnet18.tv_in1k")
        and row["steps"] in {"300", "0"}
        and (row["precision"] != "int8" and row["seed"] in {"0", "1"})
    ]
    few = dict.fromkeys(row["data"] for row in accuracy if row["protocol"].startswith("good"))
    trained = {data.rsplit("/", 1)[-1]: [row for row in accuracy if row["data"] == data] for data in few}
    latency = ("one image, ms, 1 thread (filled: f32, hollow: 8 bits)", "image AUROC, %")
    for name, picture in (
        ("comparison.png", draw(compared, plot_comparison, MILLISECONDS, latency)),
        ("few_pictures.png", draw(trained, plot_few_pictures, PICTURES, ("good training images", "%"))),
    ):
        with whole(IMAGES / name) as unfinished:
            unfinished.write_bytes(picture)
        print(f"Wrote {name}, {len(picture) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
