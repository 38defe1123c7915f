"""What the runs of a grid had learnt by when: validation Recall@10 against minutes of training."""

from __future__ import annotations

import pyarrow as pa
from matplotlib.figure import Figure

from pipelines import artifacts
from pipelines.ablate.plot import INK, STYLES, png
from pipelines.train.history import validations
from pipelines.workspace import Workspace


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
    """A panel a data set, a line a run, runs of one label alike; as PNG. None where no run has two validations."""
    points = table.to_pylist()
    found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}  # data set → label → run → points
    for point in points:
        lines = found.setdefault(point["dataset"], {}).setdefault(point["label"], {})
        lines.setdefault(point["run"], []).append((point["minutes"], 100 * point["recall@10"]))
    if not any(len(line) > 1 for labels in found.values() for lines in labels.values() for line in lines.values()):
        return None
    figure = Figure(figsize=(0.8 + 6.2 * len(found), 4.2))
    for (dataset, labels), axes in zip(found.items(), figure.subplots(1, len(found), squeeze=False)[0], strict=True):
        for number, (label, lines) in enumerate(labels.items()):
            colour, marker, style = STYLES[number % len(STYLES)]
            for place, line in enumerate(lines.values()):
                named = label if place == 0 else None
                axes.plot(*zip(*line, strict=True), label=named, color=colour, marker=marker, markersize=4, linestyle=style, linewidth=1.2)
        axes.set_xlabel("minutes of training, validation included")
        axes.set_ylabel("validation Recall@10 (%)")
        axes.set_title(dataset, fontsize=9)
        axes.legend(fontsize=7, framealpha=0, labelcolor=INK)
    return png(figure)
