"""Plot of the curves of a run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.ablate.plot import STYLES, to_png
from pipelines.views.run import Curve

TITLES = {"loss": "loss", "recall@10": "validation Recall@10 (%)", "learning_rate": "learning rate"}
SIZE = (7.0, 2.2)  # inches of a panel


def draw_curves(curves: Sequence[Curve], title: str) -> bytes:
    """Return the curves of a run as PNG, a panel for each measure over the steps.

    Args:
        curves: at least one curve.
        title: title of the plot.
    """
    return to_png(figure_of(curves, title))


def figure_of(curves: Sequence[Curve], title: str) -> Figure:
    """Return the figure of `draw_curves`."""
    figure = Figure(figsize=(SIZE[0], 0.5 + SIZE[1] * len(curves)))
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, curve, (color, _, _) in zip(panels, curves, STYLES, strict=False):
        factor = 100 if curve.measure == "recall@10" else 1
        marker = "o" if len(curve.steps) < 50 else ""
        values = [factor * value for value in curve.values]
        axes.plot(curve.steps, values, color=color, marker=marker, markersize=3, linewidth=1.2)
        axes.set_ylabel(TITLES[curve.measure])
    panels[0].set_title(title)
    panels[-1].set_xlabel("steps")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
