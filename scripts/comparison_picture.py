# Copyright (C) 2026 The anomalib-mkd authors
# SPDX-License-Identifier: Apache-2.0

"""Draw docs/images/comparison.png from the committed comparisons: accuracy against latency, a panel for each category.

usage: python scripts/comparison_picture.py

Text is grey and the background transparent, for pages that are light or dark.
"""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from anomalib_mkd.files import whole

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "results" / "comparisons"
TARGET = ROOT / "docs" / "images" / "comparison.png"
GREY = "#808a94"
COLOURS = {"MixedDistillation": "#2e9d46", "Patchcore": "#d9822b", "Patchcore 10 %": "#a8551a", "Padim": "#7b6fd0"}
TICKS = (10, 20, 50, 100, 200, 500)
"""Of the latency, in ms."""


def rows_of(file: Path) -> list[dict[str, str]]:
    """Read the models of a comparison that have figures."""
    with file.open(encoding="utf-8", newline="") as opened:
        return [row for row in csv.DictReader(opened) if row["latency"] and row["image_auroc"]]


def draw(comparisons: dict[str, list[dict[str, str]]]) -> bytes:
    """Draw filled points for f32, joined to hollow ones for 8 bits, as PNG.

    Args:
        comparisons: Category to rows.
    """
    with plt.rc_context(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), GREY)):
        figure, grid = plt.subplots(1, len(comparisons), figsize=(12, 3.6), sharey=True, layout="constrained")
        for axes, (category, rows) in zip(grid, comparisons.items(), strict=True):
            for row in rows:
                places = [
                    (1000 * float(row[f"{kind}latency"]), 100 * float(row[auroc]))
                    for kind, auroc in (("", "image_auroc"), ("int8_", "int8_auroc"))
                    if row[f"{kind}latency"] and row[auroc]
                ]
                style = {"color": COLOURS[row["model"]], "linewidth": 1.4, "markersize": 9}
                axes.plot(*zip(*places, strict=True), "-", **style)
                axes.plot(*places[0], "o", label=row["model"], **style)
                axes.plot(*zip(*places[1:], strict=True), "o", markerfacecolor="none", markeredgewidth=1.6, **style)
            axes.set(title=category, xscale="log", xlim=(TICKS[0] / 1.5, TICKS[-1] * 1.5))
            axes.xaxis.set_major_locator(FixedLocator(TICKS))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(color=GREY, alpha=0.25)
            axes.spines[:].set_visible(False)
        grid[0].set_ylabel("image AUROC, %")
        figure.supxlabel("one picture, ms, 1 thread (filled: f32, hollow: 8 bits)", fontsize="medium")
        named = {text: line for axes in grid for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(named.values(), named, loc="outside upper center", ncols=len(named), frameon=False)
        drawn = BytesIO()
        figure.savefig(drawn, dpi=80, transparent=True, pil_kwargs={"optimize": True})
    return drawn.getvalue()


def main() -> None:
    """Read, draw, and replace the picture."""
    picture = draw({file.parent.name: rows_of(file) for file in sorted(SOURCE.glob("*/compare.csv"))})
    with whole(TARGET) as unfinished:
        unfinished.write_bytes(picture)
    print(f"Wrote {TARGET.name}, {len(picture) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
