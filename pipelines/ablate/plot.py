"""The picture of a recipe: dots beside the paper's figures, or lines over an option.

Backgrounds are transparent and all lines of a middle brightness, so that a page may be light or dark; what is what is said by markers
and line styles, so that it may be grey.
"""

from __future__ import annotations

import dataclasses
import io
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipelines.ablate.grid import row_label
from pipelines.ablate.metrics import Metric, metric
from pipelines.ablate.recipe import AXIS_K, DIFFERENCE, Recipe
from pipelines.ablate.summary import Entry, Row

INK = "#767676"  # text and axes: 4.5 to 1 on white and on black
STYLES = [  # colour of at least 3 to 1 on white and on black, marker, line
    ("#2b7bba", "o", "-"),
    ("#c8561b", "s", "--"),
    ("#2a8f6b", "^", "-."),
    ("#a4649f", "D", ":"),
    ("#a07a00", "v", (0, (5, 1))),
    ("#767676", "P", (0, (3, 1, 1, 1))),
    ("#b8434e", "X", (0, (1, 1))),
]
INCH_ROW, INCH_PANEL, DPI = 0.24, 2.6, 130


def draw(recipe: Recipe, rows: list[Row]) -> bytes | None:
    """A recipe's rows as PNG; None where there is nothing to draw."""
    if not any(entry.values for row in rows for entry in row.entries.values()):
        return None
    return png(_lines(recipe, rows) if recipe.plot.get("x") else _dots(recipe, rows))


def png(figure: Figure) -> bytes:
    """A figure as a PNG of a report."""
    for axes in figure.axes:
        _inked(axes)
    figure.tight_layout()
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, transparent=True)
    return file.getvalue()


def _dots(recipe: Recipe, rows: list[Row]) -> Figure:
    """A panel a data set and metric: filled dots ours, with their spread, open diamonds the paper's."""
    datasets, metrics = (
        [*dict.fromkeys(row.dataset for row in rows)],
        [metric(label) for label in recipe.metrics],
    )
    labels = [*dict.fromkeys(row.label for row in rows)]
    lines = max(3, sum(1 + wrapped(label).count("\n") for label in labels))
    size = (2.6 + INCH_PANEL * len(metrics), (0.9 + INCH_ROW * lines) * len(datasets))
    figure = Figure(figsize=size)
    grid = figure.subplots(len(datasets), len(metrics), squeeze=False, sharey=True)
    for dataset, line in zip(datasets, grid, strict=True):
        here = {row.label: row for row in rows if row.dataset == dataset}
        for asked, axes in zip(metrics, line, strict=True):
            for place, label in enumerate(labels):
                if label in here:
                    _dot(axes, here[label].entries[asked.label], place, STYLES[0][0])
            axes.set_yticks(range(len(labels)), [wrapped(label) for label in labels])
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_xlabel(asked.axis)
            axes.set_title(dataset, fontsize=9)
    return figure


def wrapped(label: str, width: int = 40) -> str:
    """A label on lines of bounded width."""
    return textwrap.fill(label, width, break_long_words=False)


def _dot(axes: Axes, entry: Entry, place: int, colour: str) -> None:
    m = entry.metric
    if entry.mean is not None:
        error = _error(entry)
        axes.errorbar(
            m.factor * entry.mean,
            place,
            xerr=error,
            color=colour,
            marker="o",
            markersize=5,
            capsize=2,
            linestyle="none",
        )
    if entry.paper is not None:
        axes.plot(
            entry.paper,
            place,
            marker="D",
            markersize=5,
            color=STYLES[1][0],
            fillstyle="none",
            linestyle="none",
        )


def _error(entry: Entry) -> list[list[float]] | None:
    """Below and above, in units of the axis: the standard deviation over seeds, else the interval over users."""
    factor, mean = entry.metric.factor, entry.mean or 0.0
    if entry.sd is not None:
        return [[factor * entry.sd]] * 2
    if entry.low is None or entry.high is None:
        return None
    return [[factor * max(0.0, mean - entry.low)], [factor * max(0.0, entry.high - mean)]]


def _lines(recipe: Recipe, rows: list[Row]) -> Figure:
    """A panel a data set, a line a system, over an option or the cut-offs; dotted with open markers the paper's figures."""
    datasets = [*dict.fromkeys(row.dataset for row in rows)]
    figure = Figure(figsize=(0.8 + 4.4 * len(datasets), 3.4))
    for dataset, axes in zip(datasets, figure.subplots(1, len(datasets), squeeze=False)[0], strict=True):
        y = recipe.plot.get("y", recipe.metrics[0])
        asked = metric(y.get(dataset, recipe.metrics[0]) if isinstance(y, dict) else y)
        here = [row for row in rows if row.dataset == dataset]
        lines = _series(recipe, here, asked)
        axes.set_xticks(sorted({point["x"] for points in lines.values() for point in points}))
        for number, ((name, theirs), points) in enumerate(lines.items()):
            colour, marker, style = STYLES[number % len(STYLES)]
            _line(axes, points, name, "own", color=colour, marker=marker, linestyle=style)
            _line(
                axes,
                points,
                f"{theirs}, paper",
                "paper",
                color=colour,
                marker=marker,
                linestyle=":",
                fillstyle="none",
                alpha=0.8,
            )
        x = recipe.plot["x"]
        axes.set_xlabel("K, length of the list (items)" if x == AXIS_K else _spoken(x))
        axes.set_ylabel(_y_label(recipe, asked, x == AXIS_K))
        axes.set_title(dataset, fontsize=9)
        if axes.lines:
            axes.legend(fontsize=7, framealpha=0, labelcolor=INK)
    return figure


def _series(recipe: Recipe, rows: list[Row], asked: Metric) -> dict[tuple[str, str], list[dict[str, float]]]:
    """What a line of ours and one of the paper's are called → points: x, "own" and "paper", as the plot wants them, and the sd or None."""
    x = recipe.plot["x"]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        entries = [row.entries[asked.label]]
        if x == AXIS_K:
            entries = [e for e in row.entries.values() if e.metric.name == asked.name and e.metric.k]
        elif x not in row.setting:
            continue
        setting = {option: value for option, value in row.setting.items() if option != x}
        name = dataclasses.replace(row, setting=setting).brief, row_label(row.system, setting)
        for entry in entries:
            base = _base(recipe, rows, row, entry)
            point = {
                "x": entry.metric.k if x == AXIS_K else row.setting[x],
                "error": None if base else _error(entry),
            }
            found.setdefault(name, []).append(
                point | {kind: _relative(recipe, entry, base, kind) for kind in ("own", "paper")}
            )
    return found


def _base(recipe: Recipe, rows: list[Row], row: Row, entry: Entry) -> Entry | None:
    """What a figure is divided by or less than: the same one of the row that differs as `relative_to` says."""
    wanted = recipe.plot.get("relative_to")
    if not wanted:
        return None
    system, setting = (
        wanted.get("system", row.system),
        {**row.setting, **{k: v for k, v in wanted.items() if k != "system"}},
    )
    same = [other for other in rows if other.system == system]
    exact = [other for other in same if other.setting == setting] or (same if "system" in wanted else [])
    return next((other.entries[entry.metric.label] for other in exact), Entry(entry.metric))


def _relative(recipe: Recipe, entry: Entry, base: Entry | None, kind: str) -> float | None:
    factor = entry.metric.factor
    value, other = (
        (e.paper / factor if e.paper is not None else None) if kind == "paper" else e.mean
        for e in (entry, base or entry)
    )
    if value is None or other is None or (base and recipe.plot.get("as") != DIFFERENCE and not other):
        return None
    if base is None:
        return factor * value
    return factor * (value - other) if recipe.plot.get("as") == DIFFERENCE else 100 * value / other


def _line(axes: Axes, points: list[dict[str, Any]], name: str, kind: str, **style: Any) -> None:
    there = [point for point in points if point[kind] is not None]
    if not there:
        return
    errors = [point["error"] for point in there] if kind == "own" else [None]
    both = None if None in errors else [[error[side][0] for error in errors] for side in (0, 1)]
    axes.errorbar(
        [p["x"] for p in there],
        [p[kind] for p in there],
        yerr=both,
        label=name,
        markersize=5,
        capsize=2,
        **style,
    )


def _y_label(recipe: Recipe, asked: Metric, over_k: bool) -> str:
    axis = f"{asked.axis.split('@')[0]}@K (%)" if over_k else asked.axis
    if "relative_to" not in recipe.plot:
        return axis
    named = row_label(
        recipe.plot["relative_to"].get("system", ""),
        {k: v for k, v in recipe.plot["relative_to"].items() if k != "system"},
    )
    named = named.removeprefix(" · ")
    if recipe.plot.get("as") == DIFFERENCE:
        return f"{axis.replace('%', 'percentage points')} above {named}"
    return f"{axis.removesuffix(' (%)')}, % of that at {named}"


def _spoken(option: str) -> str:
    units = {
        "nfe": "model evaluations per recommendation (NFE)",
        "drop_items": "share of training items dropped",
        "beams": "beams",
    }
    return units.get(option, {"sids": "layers of semantic IDs"}.get(option, option.replace("_", " ")))


def _inked(axes: Axes) -> None:
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)
        text.set_fontsize(9)
    for spine in axes.spines.values():
        spine.set_color(INK)
