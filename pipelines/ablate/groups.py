"""Groups of targets of a report's rows: Recall@10 and NDCG@10 by popularity and by length of the history."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines import artifacts
from pipelines.ablate.plot import INK, STYLES, to_png, wrapped
from pipelines.ablate.summary import Evaluated, evaluations_of
from pipelines.data.groups import training_groups
from pipelines.data.held_out import HeldOut
from pipelines.data.stored import StoredSequences
from pipelines.errors import UserError
from pipelines.evaluate.config import HISTORY_LENGTH, POPULARITY
from pipelines.evaluate.groups import Grouping, grouped_metrics, grouping
from pipelines.evaluate.metrics import targets_per_user
from pipelines.evaluate.popularity import popularity_ranks
from pipelines.evaluate.stored_ranks import Ranking, read_ranking
from pipelines.processes import Processes
from pipelines.workspace import Dataset, Workspace

AXES = {  # grouping of `eval --by` → title of the axis
    POPULARITY: "training interactions of the target",
    HISTORY_LENGTH: "items of the history",
}
CUTOFF = 10
METRICS = {"recall": f"R@{CUTOFF}", "ndcg": f"N@{CUTOFF}"}  # name in artifacts → label
REFERENCE = "most popular items"  # label of the row that is no system of the recipe
LABEL_WIDTH = 10  # characters of a line below a tick
LEGEND_WIDTH = 28  # characters of a line of the legend
SHIFT = 0.07  # distance between the markers of two lines, so that their error bars stand side by side
Lines = dict[str, dict[str, list[dict[str, Any]]]]  # label → grouping → rows of the groups, in order


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a data set, grouped.

    Attributes:
        users: histories and targets.
        counts: number of training interactions of each item, int64 [N].
        groupings: the groups of each grouping.
    """

    users: HeldOut
    counts: np.ndarray
    groupings: dict[str, Grouping]


def collect_groups(workspace: Workspace, table: pa.Table) -> pa.Table:
    """Measure the groups of `eval --by popularity` and `--by history-length` for each row of a report.

    Values are means over the seeds, and bounds the means of the seeds' bounds, as in the report's tables.
    Left out are seeds without readable ranks, with several items ahead, with `--cold` (the items have other
    counts of their own) and with lists of fewer than ten items. A row of the most popular items precedes the
    rows of each data set; they include seen items unless the first row's lists do not.

    Args:
        workspace: workspace of the runs.
        table: artifact of kind "grid".

    Returns:
        Artifact of kind "groups".

    Raises:
        UserError: a data set is damaged.
    """
    systems = {(row["dataset"], row["label"]): row["system"] for row in table.to_pylist()}
    targets: dict[str, Targets] = {}
    rows = []
    for (dataset, label), evaluated in evaluations_of(workspace, table).items():
        rankings = _rankings(workspace, evaluated)
        if not rankings:
            continue
        if dataset not in targets:
            targets[dataset] = _targets(workspace.dataset(dataset), rankings[0].split)
            rows += [
                {"dataset": dataset, "system": "", "label": REFERENCE, "seeds": 1, **row}
                for row in _popular(targets[dataset], rankings[0])
            ]
        by_seed = [_of_run(targets[dataset], ranking) for ranking in rankings]
        shared = {"dataset": dataset, "system": systems[dataset, label], "label": label}
        for same in zip(*by_seed, strict=True):
            means = {name: statistics.fmean(row[name] for row in same) for name in ("value", "low", "high")}
            rows.append({**shared, "seeds": len(same), **same[0], **means})
    types = artifacts.SCHEMAS["groups"]
    return pa.table(
        {column: pa.array([row[column] for row in rows], arrow_type) for column, arrow_type in types.items()}
    )


def _rankings(workspace: Workspace, evaluated: tuple[Evaluated, ...]) -> list[Ranking]:
    """Read the ranks of the seeds of a row, except those that `collect_groups` leaves out."""
    found = []
    for run, folder in evaluated:
        with suppress(UserError):
            ranking = read_ranking(run, folder)
            is_cold = workspace.run(run).read_config().get("train", {}).get("cold")
            if ranking.beams >= CUTOFF and targets_per_user(ranking.table) == 1 and not is_cold:
                found.append(ranking)
    return found


def _targets(dataset: Dataset, split: str) -> Targets:
    N = artifacts.count(dataset.items)
    stored = StoredSequences(dataset.sequences, N)
    users = HeldOut(stored, split)
    counts = training_groups(stored.groups, N).item_counts(N, Processes())
    return Targets(users, counts, {by: grouping(by, users, counts) for by in AXES})


def _of_run(targets: Targets, ranking: Ranking) -> Iterator[dict[str, Any]]:
    """Measure one evaluation."""
    return _measured(targets, lambda: [ranking.table], ranking.beams)


def _popular(targets: Targets, ranking: Ranking) -> Iterator[dict[str, Any]]:
    """Measure the most popular items with the list length and the candidates of an evaluation."""
    provenance = artifacts.provenance(ranking.path)
    exclude_seen = bool(provenance and provenance["config"].get("exclude_seen"))
    return _measured(
        targets,
        lambda: (
            popularity_ranks(targets.counts, split, ranking.beams, exclude_seen)
            for split in targets.users.chunks()
        ),
        ranking.beams,
    )


def _measured(
    targets: Targets, ranks: Callable[[], Iterable[pa.Table]], list_length: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all groups; see `grouped_metrics` for the arguments."""
    for by, groups in targets.groupings.items():
        for group, metrics in grouped_metrics(groups, ranks, list_length):
            for row in metrics.to_pylist():
                if row["metric"] in METRICS and row["k"] == CUTOFF:
                    yield {
                        "grouping": by,
                        "group": group,
                        "targets": row["users"],
                        "metric": METRICS[row["metric"]],
                        **{name: row[name] for name in ("value", "low", "high")},
                    }


def draw_groups(table: pa.Table, names: dict[tuple[str, str], str]) -> bytes:
    """Draw Recall@10 of the groups: a panel for each data set and grouping, and a line for each row.

    Of a data set with more rows than there are styles, the rows with the highest Recall@10 are drawn.

    Args:
        table: artifact of kind "groups".
        names: mapping from data set and label to the name in the legend, if it is another one.

    Returns:
        PNG.
    """
    lines_of: dict[str, Lines] = {}
    references: dict[str, Lines] = {}
    for row in table.to_pylist():
        if row["metric"] == METRICS["recall"]:
            lines = (lines_of if row["system"] else references).setdefault(row["dataset"], {})
            lines.setdefault(row["label"], {}).setdefault(row["grouping"], []).append(row)
    figure = Figure(figsize=(10.5, 0.4 + 3.1 * len(lines_of)))
    grid = figure.subplots(len(lines_of), len(AXES), squeeze=False, sharey="row")
    for panels, (dataset, lines) in zip(grid, lines_of.items(), strict=True):
        drawn = [(names.get((dataset, label), label), lines[label]) for label in _best(lines)]
        for axes, (by, title) in zip(panels, AXES.items(), strict=True):
            for reference in references.get(dataset, {}).values():
                _draw_reference(axes, reference[by])
            for number, (name, groups) in enumerate(drawn):
                _draw_line(axes, groups[by], name, number, SHIFT * (number - (len(drawn) - 1) / 2))
            ticks = [wrapped(row["group"], LABEL_WIDTH) for row in drawn[0][1][by]]
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlabel(title)
            axes.set_title(dataset, fontsize=9)
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("Recall@10 (%)")
        panels[-1].legend(
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            fontsize=7,
            framealpha=0,
            labelcolor=INK,
            handlelength=3.2,  # shows the line style
        )
    return to_png(figure)


def _best(lines: Lines) -> list[str]:
    """Return the labels with the highest Recall@10 over all targets, as many as there are styles, in their
    order.
    """
    hits = {
        label: sum(row["targets"] * row["value"] for row in groups[POPULARITY])
        for label, groups in lines.items()
    }
    best = sorted(hits, key=lambda label: -hits[label])[: len(STYLES)]
    return [label for label in lines if label in best]


def _draw_line(axes: Axes, groups: list[dict[str, Any]], name: str, number: int, shift: float) -> None:
    color, marker, style = STYLES[number]
    values = np.array([[row[column] for column in ("value", "low", "high")] for row in groups]) * 100
    value, low, high = values.T
    axes.errorbar(
        np.arange(len(groups)) + shift,
        value,
        yerr=np.maximum(0, [value - low, high - value]),
        label=wrapped(name, LEGEND_WIDTH),
        color=color,
        marker=marker,
        markersize=4,
        linestyle=style,
        linewidth=1.2,
        elinewidth=0.9,
        capsize=2,
    )


def _draw_reference(axes: Axes, groups: list[dict[str, Any]]) -> None:
    axes.plot([100 * row["value"] for row in groups], label=REFERENCE, color=INK, linewidth=1.0)
