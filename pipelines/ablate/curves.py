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
        alike = len({row["label"] for row in rows}) == 1  # else evaluations differ, of which a training knows nothing
        about = {column: first[column] for column in ("dataset", "system", "seed", "run", "commit", "machine")}
        about["label"] = first["label"] if alike else first["system"]
        points += [{**about, **point} for point in validations(run)]
    kinds = artifacts.SCHEMAS["curves"]
    return pa.table({column: pa.array([point[column] for point in points], kind) for column, kind in kinds.items()})


def draw_curves(table: pa.Table) -> bytes | None:
    """Lines of all runs, those of one label alike, as PNG; None where no run has two validations.

    A panel a data set; where one has more labels than there are styles, a panel for each label, over the runs of the first.
    """
    found: dict[str, Lines] = {}
    for point in table.to_pylist():
        line = found.setdefault(point["dataset"], {}).setdefault(point["label"], {}).setdefault(point["run"], [])
        line.append((point["minutes"], 100 * point["recall@10"]))
    if not any(len(line) > 1 for labels in found.values() for lines in labels.values() for line in lines.values()):
        return None
    panels: list[tuple[str, Lines]] = []
    for dataset, labels in found.items():
        if len(labels) <= len(STYLES):
            panels.append((dataset, labels))
        else:
            (first, below), *others = labels.items()
            panels += [(f"{dataset}: {label}", {first: below, label: lines}) for label, lines in others]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.8 + 6.2 * columns, 4.2 * rows) if rows == 1 else (3.4 * columns, 0.8 + 2.4 * rows))
    grid = [*figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, sharey=rows > 1).flat]
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (title, labels) in zip(grid, panels, strict=False):
        for (label, lines), (colour, marker, style) in zip(labels.items(), STYLES, strict=False):
            for place, line in enumerate(lines.values()):
                named = label if place == 0 else None
                axes.plot(*zip(*line, strict=True), label=named, color=colour, marker=marker, markersize=4, linestyle=style, linewidth=1.2)
        axes.set_title(title, fontsize=9)
        axes.legend(fontsize=7, framealpha=0, labelcolor=INK)
    for place, axes in enumerate(grid[: len(panels)]):
        axes.tick_params(labelbottom=place + columns >= len(panels))
        if place + columns >= len(panels):
            axes.set_xlabel("minutes of training, validation included")
        if place % columns == 0:
            axes.set_ylabel("validation Recall@10 (%)")
    return png(figure)
