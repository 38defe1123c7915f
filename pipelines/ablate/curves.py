"""What the runs of a grid had learnt by when: validation Recall@10 against minutes of training."""

from __future__ import annotations

import pyarrow as pa
from matplotlib.figure import Figure

from pipelines import artifacts
from pipelines.ablate.plot import INK, STYLES, png
from pipelines.train.history import validations
from pipelines.workspace import Workspace

Lines = dict[str, dict[str, list[tuple[float, float]]]]  # label → run → its minutes and Recall@10 in percent
COLUMNS = 4  # of panels


def curves(workspace: Workspace, table: pa.Table) -> pa.Table:
    """The validations of all runs of a grid that are there; an artifact of kind "curves".

    Args:
        table: an artifact of kind "grid".
    """
    labels: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        if row["run"]:
            labels.setdefault(row["run"], []).append(row)
    points = []
    for name, rows in labels.items():
        run = workspace.run(name)
        if not run.history.exists():
            continue
        first = rows[0]
        alike = (
            len({row["label"] for row in rows}) == 1
        )  # else evaluations differ, of which a training knows nothing
        about = {
            column: first[column] for column in ("dataset", "system", "seed", "run", "commit", "machine")
        }
        about["label"] = first["label"] if alike else first["system"]
        points += [{**about, **point} for point in validations(run)]
    kinds = artifacts.SCHEMAS["curves"]
    return pa.table(
        {column: pa.array([point[column] for point in points], kind) for column, kind in kinds.items()}
    )


def draw_curves(table: pa.Table, named: dict[tuple[str, str], str]) -> bytes | None:
    """A line a run, runs of one label alike, as PNG; None where no run has two validations. The panels are those of `panels_of`.

    Args:
        named: data set and label → what the legend calls it, where that is another name.
    """
    panels = panels_of(table)
    if not any(len(line) > 1 for _, labels in panels for lines in labels.values() for line in lines.values()):
        return None
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.8 + 6.2 * columns, 4.2) if rows == 1 else (3.4 * columns, 0.8 + 2.4 * rows))
    grid = [*figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, sharey=rows > 1).flat]
    for axes in grid[len(panels) :]:
        axes.remove()
    for place, (axes, (title, labels)) in enumerate(zip(grid, panels, strict=False)):
        dataset = title.split(":")[0]
        for (label, lines), (colour, marker, style) in zip(labels.items(), STYLES, strict=False):
            for number, line in enumerate(lines.values()):
                legend = named.get((dataset, label), label) if number == 0 else None
                axes.plot(
                    *zip(*line, strict=True),
                    label=legend,
                    color=colour,
                    marker=marker,
                    markersize=4,
                    linestyle=style,
                    linewidth=1.2,
                )
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=7, framealpha=0, labelcolor=INK)
        lowest = place + columns >= len(panels)
        axes.tick_params(labelbottom=lowest)
        axes.set_xlabel("minutes of training, validation included" if lowest else "")
        axes.set_ylabel("validation Recall@10 (%)" if place % columns == 0 else "")
    return png(figure)


def panels_of(table: pa.Table) -> list[tuple[str, Lines]]:
    """Titles and lines of the panels: one a data set.

    Where a data set has more labels than there are styles, one a label, over the runs of its system's first label or, where it is
    that itself, of the first of all.
    """
    found: dict[str, Lines] = {}
    firsts: dict[tuple[str, str], str] = {}  # data set and system → its first label
    below: dict[tuple[str, str], str] = {}  # data set and label → what it is drawn over
    for point in table.to_pylist():
        dataset, label = point["dataset"], point["label"]
        below[dataset, label] = firsts.setdefault((dataset, point["system"]), label)
        line = found.setdefault(dataset, {}).setdefault(label, {}).setdefault(point["run"], [])
        line.append((point["minutes"], 100 * point["recall@10"]))
    panels: list[tuple[str, Lines]] = []
    for dataset, labels in found.items():
        if len(labels) <= len(STYLES):
            panels.append((dataset, labels))
            continue
        top, *others = labels
        for label in others:
            under = below[dataset, label] if below[dataset, label] != label else top
            panels.append((f"{dataset}: {label}", {under: labels[under], label: labels[label]}))
    return panels
