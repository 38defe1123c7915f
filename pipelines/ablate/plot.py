"""Plot of a recipe: dots beside the paper's figures, or lines over an option.

Plots suit light and dark pages: the background is transparent, and all lines have a medium brightness. They
can be printed in gray: markers and line styles, too, distinguish the systems.
"""

from __future__ import annotations

import dataclasses
import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipelines.ablate.grid import row_label
from pipelines.ablate.metrics import Metric, find_metric
from pipelines.ablate.recipe import AXIS_K, DIFFERENCE, Recipe
from pipelines.ablate.summary import Entry, Row

LineStyle = str | tuple[int, tuple[int, ...]]
INK = "#767676"  # color of text and axes: contrast of 4.5 to 1 on white and on black
STYLES: list[
    tuple[str, str, LineStyle]
] = [  # color (contrast of at least 3 to 1 on both), marker, line style
    ("#2b7bba", "o", "-"),
    ("#c8561b", "s", "--"),
    ("#2a8f6b", "^", "-."),
    ("#a4649f", "D", ":"),
    ("#a07a00", "v", (0, (5, 1))),
    ("#767676", "P", (0, (3, 1, 1, 1))),
    ("#b8434e", "X", (0, (1, 1))),
]
INCHES_PER_ROW, INCHES_PER_PANEL, DPI = 0.24, 2.6, 130
AXIS_TITLES = {  # option → title of its axis
    "nfe": "function evaluations per recommendation (NFE)",
    "drop_items": "share of training items dropped",
    "beams": "beams",
    "sids": "levels of semantic IDs",
}
Error = list[list[float]]  # lengths of an error bar below and above, in units of the axis


@dataclass(frozen=True)
class Point:
    """A point of a line, in units of the axes.

    Attributes:
        x: value of the option, or cut-off.
        measured: measured value; None if there is none.
        paper: figure of the paper; None if there is none.
        error: error bar of the measured value; None if there is none.
    """

    x: float
    measured: float | None
    paper: float | None
    error: Error | None


def draw(recipe: Recipe, rows: list[Row]) -> bytes | None:
    """Draw the rows of a recipe as PNG; return None if no row has a value."""
    if not any(entry.values for row in rows for entry in row.entries.values()):
        return None
    return to_png(_lines(recipe, rows) if recipe.plot.get("x") else _dots(recipe, rows))


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG in the style of a report."""
    for axes in figure.axes:
        _apply_style(axes)
    figure.tight_layout()
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, transparent=True)
    return file.getvalue()


def _dots(recipe: Recipe, rows: list[Row]) -> Figure:
    """Draw a panel for each data set and metric.

    Filled dots with error bars are measured values, open diamonds are figures of the paper.
    """
    datasets = [*dict.fromkeys(row.dataset for row in rows)]
    metrics = [find_metric(label) for label in recipe.metrics]
    labels = [*dict.fromkeys(row.label for row in rows)]
    lines = max(3, sum(1 + wrapped(label).count("\n") for label in labels))
    width = 2.6 + INCHES_PER_PANEL * len(metrics)
    height = (0.9 + INCHES_PER_ROW * lines) * len(datasets)
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(datasets), len(metrics), squeeze=False, sharey=True)
    for dataset, panels in zip(datasets, grid, strict=True):
        by_label = {row.label: row for row in rows if row.dataset == dataset}
        for metric, axes in zip(metrics, panels, strict=True):
            for y, label in enumerate(labels):
                if label in by_label:
                    _draw_dot(axes, by_label[label].entries[metric.label], y, STYLES[0][0])
            axes.set_yticks(range(len(labels)), [wrapped(label) for label in labels], parse_math=False)
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_xlabel(metric.axis)
            axes.set_title(dataset, fontsize=9)
    return figure


def wrapped(label: str, width: int = 40) -> str:
    """Return a label in lines of at most `width` characters; longer words are not broken."""
    return textwrap.fill(label, width, break_long_words=False)


def _draw_dot(axes: Axes, entry: Entry, y: int, color: str) -> None:
    if entry.mean is not None:
        axes.errorbar(
            entry.metric.factor * entry.mean,
            y,
            xerr=_error(entry),
            color=color,
            marker="o",
            markersize=5,
            capsize=2,
            linestyle="none",
        )
    if entry.paper is not None:
        axes.plot(
            entry.paper,
            y,
            marker="D",
            markersize=5,
            color=STYLES[1][0],
            fillstyle="none",
            linestyle="none",
        )


def _error(entry: Entry) -> Error | None:
    """Return the error bar: the standard deviation over seeds or, for one seed, the interval over users."""
    factor, mean = entry.metric.factor, entry.mean or 0.0
    if entry.sd is not None:
        return [[factor * entry.sd]] * 2
    if entry.low is None or entry.high is None:
        return None
    return [[factor * max(0.0, mean - entry.low)], [factor * max(0.0, entry.high - mean)]]


def _lines(recipe: Recipe, rows: list[Row]) -> Figure:
    """Draw a panel for each data set and a line for each system, over an option or the cut-offs.

    The paper's figures are dotted lines with open markers.
    """
    datasets = [*dict.fromkeys(row.dataset for row in rows)]
    figure = Figure(figsize=(0.8 + 4.4 * len(datasets), 3.4))
    panels = figure.subplots(1, len(datasets), squeeze=False)[0]
    for dataset, axes in zip(datasets, panels, strict=True):
        y = recipe.plot.get("y", recipe.metrics[0])
        metric = find_metric(y.get(dataset, recipe.metrics[0]) if isinstance(y, dict) else y)
        lines = _series(recipe, [row for row in rows if row.dataset == dataset], metric)
        axes.set_xticks(sorted({point.x for points in lines.values() for point in points}))
        for number, ((name, paper_name), points) in enumerate(lines.items()):
            color, marker, style = STYLES[number % len(STYLES)]
            _draw_measured(axes, points, name, color=color, marker=marker, linestyle=style)
            _draw_paper(axes, points, f"{paper_name}, paper", color=color, marker=marker)
        x = recipe.plot["x"]
        axes.set_xlabel(
            "K, length of the list (items)" if x == AXIS_K else AXIS_TITLES.get(x, x.replace("_", " "))
        )
        axes.set_ylabel(_y_title(recipe, metric, x == AXIS_K))
        axes.set_title(dataset, fontsize=9)
        if axes.lines:
            axes.legend(fontsize=7, framealpha=0, labelcolor=INK)
    return figure


def _series(recipe: Recipe, rows: list[Row], metric: Metric) -> dict[tuple[str, str], list[Point]]:
    """Return the points of each line.

    Returns:
        Mapping from the names of the measured line and of the paper's line to points.
    """
    x = recipe.plot["x"]
    lines: dict[tuple[str, str], list[Point]] = {}
    for row in rows:
        if x == AXIS_K:
            entries = {
                entry.metric.k: entry
                for entry in row.entries.values()
                if entry.metric.name == metric.name and entry.metric.k
            }
        elif x in row.varied_options:
            entries = {row.varied_options[x]: row.entries[metric.label]}
        else:
            continue
        others = {option: value for option, value in row.varied_options.items() if option != x}
        names = dataclasses.replace(row, varied_options=others).short_label, row_label(row.system, others)
        for x_value, entry in entries.items():
            reference = _reference(recipe, rows, row, entry)
            point = Point(
                x_value,
                _y_value(recipe, entry, reference, _measured),
                _y_value(recipe, entry, reference, _paper),
                None if reference else _error(entry),
            )
            lines.setdefault(names, []).append(point)
    return lines


def _reference(recipe: Recipe, rows: list[Row], row: Row, entry: Entry) -> Entry | None:
    """Return the entry to which a row's entry is compared: that of the row with the settings in
    `relative_to`.

    Returns:
        Entry, without values if there is no such row; None if the plot shows no comparison.
    """
    relative_to = recipe.plot.get("relative_to")
    if not relative_to:
        return None
    system = relative_to.get("system", row.system)
    options = {option: value for option, value in relative_to.items() if option != "system"}
    candidates = [other for other in rows if other.system == system]
    matching = [other for other in candidates if other.varied_options == {**row.varied_options, **options}]
    if not matching and "system" in relative_to:
        matching = candidates
    return next((other.entries[entry.metric.label] for other in matching), Entry(entry.metric))


def _measured(entry: Entry) -> float | None:
    return entry.mean


def _paper(entry: Entry) -> float | None:
    """Return the paper's figure in units of stored values."""
    return entry.paper / entry.metric.factor if entry.paper is not None else None


def _y_value(
    recipe: Recipe, entry: Entry, reference: Entry | None, value_of: Callable[[Entry], float | None]
) -> float | None:
    """Return the value of an entry in units of the axis, compared to the reference if there is one."""
    value = value_of(entry)
    if value is None:
        return None
    if reference is None:
        return entry.metric.factor * value
    base = value_of(reference)
    if base is None:
        return None
    if recipe.plot.get("as") == DIFFERENCE:
        return entry.metric.factor * (value - base)
    return 100 * value / base if base else None


def _draw_measured(axes: Axes, points: list[Point], name: str, **style: Any) -> None:
    points = [point for point in points if point.measured is not None]
    if not points:
        return
    errors = [point.error for point in points if point.error is not None]
    both = None
    if len(errors) == len(points):
        both = [[error[side][0] for error in errors] for side in (0, 1)]
    axes.errorbar(
        [point.x for point in points],
        [point.measured for point in points if point.measured is not None],
        yerr=both,
        label=name,
        markersize=5,
        capsize=2,
        **style,
    )


def _draw_paper(axes: Axes, points: list[Point], name: str, **style: Any) -> None:
    points = [point for point in points if point.paper is not None]
    if not points:
        return
    axes.errorbar(
        [point.x for point in points],
        [point.paper for point in points if point.paper is not None],
        label=name,
        markersize=5,
        capsize=2,
        linestyle=":",
        fillstyle="none",
        alpha=0.8,
        **style,
    )


def _y_title(recipe: Recipe, metric: Metric, over_k: bool) -> str:
    axis = f"{metric.axis.split('@')[0]}@K (%)" if over_k else metric.axis
    relative_to = recipe.plot.get("relative_to")
    if relative_to is None:
        return axis
    options = {option: value for option, value in relative_to.items() if option != "system"}
    reference = row_label(relative_to.get("system", ""), options)
    if recipe.plot.get("as") == DIFFERENCE:
        return f"{axis.replace('%', 'percentage points')} above {reference}"
    return f"{axis.removesuffix(' (%)')}, % of that at {reference}"


def _apply_style(axes: Axes) -> None:
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    titles, legend = (axes.title, axes.xaxis.label, axes.yaxis.label), axes.get_legend()
    for text in titles:
        text.set_color(INK)
        text.set_fontsize(9)
    for text in (*titles, *(legend.get_texts() if legend else ())):
        text.set_parse_math(False)  # a name may hold dollar signs
    for spine in axes.spines.values():
        spine.set_color(INK)
