"""Training steps as a chart: how long each way takes, in steps of PyTorch eager."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gputape.viz import INK, _figure, _tidy

BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # of numbers, which a line may cross
COLOURS = ("#9fc5e8", "#2468a2", "#6aa84f", "#999999", "#cc9966", "#c8641e", "#8e63a8")
HIGHEST = 3.0  # where bars are cut off


def steps_chart(path: Path, ratios: Mapping[str, Mapping[str, float]], bars: Mapping[str, float], title: str) -> None:
    """Bars of ratios by model, one for each way; `bars` marks what gputape's compiled step may take."""
    ways = list(dict.fromkeys(way for found in ratios.values() for way in found))
    figure = _figure(8.8, 4.4)
    axes = figure.add_subplot()
    _tidy(axes)
    axes.grid(False, axis="x")
    height = min(HIGHEST, 1.06 * max(max(found.values()) for found in ratios.values()))
    axes.set_ylim(0, height)
    width, number = 0.84 / len(ways), 0.06 * height  # of a bar; and how high its number is
    for k, (way, colour) in enumerate(zip(ways, COLOURS)):
        at = [i + (k - (len(ways) - 1) / 2) * width for i, found in enumerate(ratios.values()) if way in found]
        tops = values = [found[way] for found in ratios.values() if way in found]
        axes.bar(at, values, 0.92 * width, color=colour, label=way)
        if way == "gputape compiled":
            bar = [bars[name] for name, found in ratios.items() if way in found]
            tops = [b if v <= b < v + number else v for v, b in zip(values, bar, strict=True)]
            ends = [x - width / 2 for x in at], [x + width / 2 for x in at]
            axes.hlines(bar, *ends, color="#d00000", linewidth=2, label="bar of gputape compiled", zorder=3)
        for x, v, top in zip(at, values, tops, strict=True):
            over = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom", "bbox": BACKGROUND}
            axes.annotate(f"{v:.2f}", (x, min(top, height - number)), fontsize=7.5, color=INK, **over)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle="--", zorder=0.5)
    axes.set_xticks(range(len(ratios)), list(ratios))
    axes.set(ylabel="time ÷ PyTorch eager", title=title)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=4)
    figure.savefig(path)
