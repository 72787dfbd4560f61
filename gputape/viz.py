"""Figures of a training run, as PNG files. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BackendError

INK, BLUE, ORANGE = "#222222", "#2468a2", "#c8641e"


def _figure(width: float, height: float) -> Any:
    """An empty figure that draws with Agg, without a display and without pyplot's global state."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise BackendError(f"viz: matplotlib is missing ({e}). Run: pip install 'gputape[train]'") from e
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def loss_curve(
    path: str | Path, epochs: Sequence[int], loss: Sequence[float], accuracy: Sequence[float], title: str
) -> None:
    """Training loss (left axis, logarithmic) and accuracy in percent (right axis) by epoch."""
    figure = _figure(6.4, 4.0)
    from matplotlib.ticker import LogLocator, NullLocator

    left = figure.add_subplot()
    _tidy(left)
    style = {"linewidth": 1.8, "marker": "o" if len(epochs) < 4 else None}
    left.semilogy(epochs, loss, color=BLUE, **style)
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    left.yaxis.set_minor_locator(NullLocator())
    left.set(xlabel="epoch", ylabel="cross entropy (nats)", title=title)
    left.yaxis.label.set_color(BLUE)
    right = left.twinx()
    right.plot(epochs, [100 * a for a in accuracy], color=ORANGE, **style)
    right.set(ylabel="training accuracy (%)", ylim=(None, 100.5))
    right.yaxis.label.set_color(ORANGE)
    right.spines["top"].set_visible(False)
    left.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path)


def confusion_matrix(path: str | Path, counts: Any, title: str) -> None:
    """Counts (true class, predicted class) as a table; the colour of a cell is its share of the row."""
    counts = np.asarray(counts)
    n = len(counts)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _figure(0.55 * n + 1.6, 0.55 * n + 0.9)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(n, n):
        if counts[i, j]:
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color="white" if share[i, j] > 0.5 else INK)
    axes.set(xlabel="predicted class", ylabel="true class", title=title, xticks=range(n), yticks=range(n))
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.03)
    figure.savefig(path)
