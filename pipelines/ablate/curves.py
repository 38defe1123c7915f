"""Learning curves of a grid's runs: validation Recall@10 against minutes of training."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines import artifacts
from pipelines.ablate.plot import INK, STYLES, to_png
from pipelines.train.history import validations
from pipelines.workspace import Workspace

Lines = dict[str, dict[str, list[tuple[float, float]]]]  # label → run → minutes and Recall@10 in percent
COLUMNS = 4  # panels in a row


def collect_curves(workspace: Workspace, table: pa.Table) -> pa.Table:
    """Collect the validations of all runs of a grid that exist.

    Args:
        workspace: workspace of the runs.
        table: artifact of kind "grid".

    Returns:
        Artifact of kind "curves". The label of a run with several evaluations is the name of its system,
        because the training does not depend on the decoding.

    Raises:
        UserError: the history of a run is damaged.
    """
    rows_by_run: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["run"]:
            rows_by_run.setdefault(row["run"], []).append(row)
    points = []
    for name, rows in rows_by_run.items():
        run = workspace.run(name)
        if not run.history.exists():
            continue
        first = rows[0]
        has_one_label = len({row["label"] for row in rows}) == 1
        shared = {
            column: first[column] for column in ("dataset", "system", "seed", "run", "commit", "machine")
        }
        shared["label"] = first["label"] if has_one_label else first["system"]
        points += [{**shared, **point} for point in validations(run)]
    types = artifacts.SCHEMAS["curves"]
    return pa.table(
        {
            column: pa.array([point[column] for point in points], arrow_type)
            for column, arrow_type in types.items()
        }
    )


def draw_curves(table: pa.Table, names: dict[tuple[str, str], str]) -> bytes | None:
    """Draw one line per run; runs with the same label have the same style. See `panels_of` for the panels.

    Args:
        table: artifact of kind "curves".
        names: mapping from data set and label to the name in the legend, if it is another one.

    Returns:
        PNG; None if no run has two validations.
    """
    panels = panels_of(table)
    if not any(len(line) > 1 for _, labels in panels for lines in labels.values() for line in lines.values()):
        return None
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (0.8 + 6.2 * columns, 4.2) if rows == 1 else (3.4 * columns, 0.8 + 2.4 * rows)
    figure = Figure(figsize=size)
    grid = [*figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, sharey=rows > 1).flat]
    for axes in grid[len(panels) :]:
        axes.remove()
    for number, (axes, (title, lines)) in enumerate(zip(grid, panels, strict=False)):
        _draw_panel(axes, title, lines, names)
        is_lowest = number + columns >= len(panels)
        axes.tick_params(labelbottom=is_lowest)
        axes.set_xlabel("minutes of training, validation included" if is_lowest else "")
        axes.set_ylabel("validation Recall@10 (%)" if number % columns == 0 else "")
    return to_png(figure)


def _draw_panel(axes: Axes, title: str, lines: Lines, names: dict[tuple[str, str], str]) -> None:
    dataset = title.split(":")[0]
    for (label, by_run), (color, marker, style) in zip(lines.items(), STYLES, strict=False):
        legend: str | None = names.get((dataset, label), label)
        for points in by_run.values():
            minutes, recalls = zip(*points, strict=True)
            axes.plot(
                minutes,
                recalls,
                label=legend,
                color=color,
                marker=marker,
                markersize=4,
                linestyle=style,
                linewidth=1.2,
            )
            legend = None  # one entry for all runs of a label
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7, framealpha=0, labelcolor=INK)


def panels_of(table: pa.Table) -> list[tuple[str, Lines]]:
    """Return titles and lines of the panels, one panel for each data set.

    A data set with more labels than there are styles has one panel for each label after the first one. Such a
    panel also shows the first label of the same system or, for that label itself, the first label of all.

    Args:
        table: artifact of kind "curves".
    """
    lines_of: dict[str, Lines] = {}
    first_labels: dict[tuple[str, str], str] = {}  # data set and system → first label
    reference_of: dict[tuple[str, str], str] = {}  # data set and label → label of the line to compare with
    for point in table.to_pylist():
        dataset, label = point["dataset"], point["label"]
        reference_of[dataset, label] = first_labels.setdefault((dataset, point["system"]), label)
        line = lines_of.setdefault(dataset, {}).setdefault(label, {}).setdefault(point["run"], [])
        line.append((point["minutes"], 100 * point["recall@10"]))
    panels: list[tuple[str, Lines]] = []
    for dataset, lines in lines_of.items():
        if len(lines) <= len(STYLES):
            panels.append((dataset, lines))
            continue
        first, *others = lines
        for label in others:
            reference = reference_of[dataset, label]
            reference = first if reference == label else reference
            panels.append((f"{dataset}: {label}", {reference: lines[reference], label: lines[label]}))
    return panels
