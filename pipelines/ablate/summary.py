"""Rows of a report's tables, from the results of a grid.

A row holds means over seeds and, beside them, the paper's figures. The best row is tested against the
runner-up.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.ablate.grid import GridSettings, combinations, row_label
from pipelines.ablate.metrics import Metric, find_metric
from pipelines.ablate.published import OURS, UNKNOWN, display_name
from pipelines.ablate.recipe import Recipe, System
from pipelines.errors import UserError
from pipelines.evaluate.compare import differences
from pipelines.evaluate.stored_ranks import read_ranking
from pipelines.workspace import Workspace

Evaluated = tuple[str, Path]  # name of a run, and folder of an evaluation of it
RowKey = tuple[str, str]  # data set, and label of a row in artifacts


@dataclass(frozen=True)
class Entry:
    """One entry of a table. Values are stored values (fractions, nats, counts).

    Attributes:
        metric: metric of the entry.
        values: values of all seeds that are done.
        low: lower bound of the 95 % interval over users; for several seeds, the mean of their bounds.
        high: upper bound, as for `low`.
        paper: the paper's figure, in the paper's units; None if there is none.
        comparable: if true, the row is the model of the paper's figure, decoded in the same way as far as it
            is known.
        reason: reason why there is no value.
    """

    metric: Metric
    values: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    paper: float | None = None
    comparable: bool = False
    reason: str | None = None

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def lines(self) -> list[str]:
        """Text of the entry: the value, its interval, and the paper's figure.

        If the entry is comparable, the difference from the paper's figure follows.
        """
        metric, mean = self.metric, self.mean
        if mean is None:
            lines = ["missing" if self.reason is None else "cannot be run"]
        else:
            deviation = "" if self.sd is None else f" ± {metric.format(self.sd)}"
            lines = [metric.format(mean) + deviation]
            if self.low is not None:
                lines.append(f"{metric.format(self.low)} to {metric.format(self.high)}")
        if self.paper is not None:
            difference = ""
            if self.comparable and mean is not None:
                difference = f" ({metric.format(mean - self.paper / metric.factor, sign=True)})"
            lines.append(f"paper {self.paper:,.{metric.decimals}f}{difference}")
        return lines


@dataclass(frozen=True)
class Row:
    """A system with its varied options on one data set.

    Attributes:
        dataset: name of the data set.
        system: name of the system in the recipe.
        name: name of the system in tables, see `published.display_name`.
        varied_options: options that distinguish the row from the system's other rows, with their values.
        entries: mapping from the label of a metric to an entry.
    """

    dataset: str
    system: str
    name: str
    varied_options: dict[str, Any]
    entries: dict[str, Entry]

    @property
    def key(self) -> str:
        """Label in artifacts."""
        return row_label(self.system, self.varied_options)

    @property
    def label(self) -> str:
        """Label in tables."""
        return row_label(self.name, self.varied_options)

    @property
    def short_label(self) -> str:
        """Label outside tables: it tells that the system differs from the published one, but not how."""
        name, ours, _ = self.name.partition(OURS)
        return row_label(name + OURS.rstrip(": ") * bool(ours), self.varied_options)


@dataclass(frozen=True)
class PairedTest:
    """Paired test of the best row of a data set against the runner-up by one metric.

    Attributes:
        dataset: name of the data set.
        metric: metric by which the rows are ranked.
        best: short label of the best row.
        runner_up: short label of the runner-up.
        difference: difference as a fraction; None if the rows cannot be compared.
        low: lower bound of its 95 % interval.
        high: upper bound.
        p: p value of the permutation test.
    """

    dataset: str
    metric: Metric
    best: str
    runner_up: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def rows_of(recipe: Recipe, settings: GridSettings, table: pa.Table) -> list[Row]:
    """Return the rows of a recipe's tables, in the recipe's order.

    Args:
        recipe: recipe of the grid.
        settings: settings of the grid.
        table: artifact of kind "grid" of this recipe and these settings.
    """
    groups: dict[
        tuple[str, str, str], list[dict[str, Any]]
    ] = {}  # data set, label, metric → rows of the seeds
    for result in table.to_pylist():
        groups.setdefault((result["dataset"], result["label"], result["metric"]), []).append(result)
    rows = []
    for dataset in dict.fromkeys(settings.datasets or recipe.datasets):
        for system in recipe.systems:
            for varied_options, options in combinations(recipe, system, settings, dataset):
                shown = system.shown | varied_options
                label = row_label(system.name, shown)
                first = groups.get((dataset, label, recipe.metrics[0]))
                if first is None:
                    continue
                figures = _paper_figures(recipe, dataset, system.name, system.shown | options)
                departures = _recorded_departures(system, first)
                # No figure of the paper is known to be of constrained beams.
                comparable = not departures and not varied_options.get("constrained")
                entries = {
                    metric: _entry(
                        find_metric(metric), groups[dataset, label, metric], figures.get(metric), comparable
                    )
                    for metric in recipe.metrics
                }
                name = display_name(system, departures, bool(recipe.paper))
                rows.append(Row(dataset, system.name, name, shown, entries))
    return rows


def _recorded_departures(system: System, results: list[dict[str, Any]]) -> str | None:
    """Return the departures from the published model that a report recorded."""
    departures: str | None = results[0].get("departures", UNKNOWN if system.model else None)
    return departures


def _entry(metric: Metric, results: list[dict[str, Any]], paper: float | None, comparable: bool) -> Entry:
    done = [result for result in results if result["value"] is not None]
    return Entry(
        metric,
        tuple(result["value"] for result in done),
        low=_mean_bound(done, "low"),
        high=_mean_bound(done, "high"),
        paper=paper,
        comparable=comparable,
        reason=next((result["reason"] for result in results if result["reason"]), None),
    )


def _mean_bound(results: list[dict[str, Any]], name: str) -> float | None:
    if not results or results[0][name] is None:
        return None
    return statistics.fmean(result[name] for result in results)


def _paper_figures(recipe: Recipe, dataset: str, system: str, options: dict[str, Any]) -> dict[str, float]:
    """Return the paper's figures of a row, by metric: those whose options all have the row's values."""
    figures: dict[str, float] = {}
    for row in recipe.paper:
        values = {key: value for key, value in row.items() if key in recipe.metrics}
        conditions = {
            key: value for key, value in row.items() if key not in values and key not in ("dataset", "system")
        }
        if row["system"] != system or row.get("dataset", recipe.datasets[0]) != dataset:
            continue
        if all(_equal(options.get(option), value) for option, value in conditions.items()):
            figures |= values
    return figures


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other)
    return bool(one == other)


def paired_tests(workspace: Workspace, rows: list[Row], table: pa.Table) -> list[PairedTest]:
    """Test the best row against the runner-up, for each data set and ranking metric.

    The runner-up is the best row of another system or, if there is only one system, the second-best row. Rows
    with other targets than the best row, e.g. with another horizon, are passed over. The rows are compared
    user by user; the result of a user is the mean over the seeds. See `evaluate.compare`.

    Args:
        workspace: workspace of the runs.
        rows: rows of the tables.
        table: artifact of kind "grid".
    """
    evaluations = evaluations_of(workspace, table)
    tests = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        of_dataset = [row for row in rows if row.dataset == dataset]
        for label in of_dataset[0].entries:
            metric = of_dataset[0].entries[label].metric
            ranked = [
                row for row in of_dataset if row.entries[label].mean is not None and metric.k is not None
            ]
            ranked.sort(key=lambda row: -(row.entries[label].mean or 0.0))
            others = [row for row in ranked[1:] if row.system != ranked[0].system] or ranked[1:]
            if not others:
                continue
            results = (_paired_test(dataset, metric, ranked[0], other, evaluations) for other in others)
            untested = PairedTest(dataset, metric, ranked[0].short_label, others[0].short_label)
            tests.append(next(filter(None, results), untested))
    return tests


def _paired_test(
    dataset: str, metric: Metric, best: Row, other: Row, evaluations: dict[RowKey, tuple[Evaluated, ...]]
) -> PairedTest | None:
    """Compare two rows; return None if their lists or users differ."""
    try:
        compared = _compare(evaluations[dataset, other.key], evaluations[dataset, best.key])
    except UserError:
        return None
    index = list(zip(compared["metric"], compared["k"], strict=True)).index((metric.name, metric.k))
    difference, low, high, p = (float(compared[name][index]) for name in ("difference", "low", "high", "p"))
    return PairedTest(dataset, metric, best.short_label, other.short_label, difference, low, high, p)


@functools.lru_cache(maxsize=256)
def _compare(baseline: tuple[Evaluated, ...], other: tuple[Evaluated, ...]) -> dict[str, Sequence[Any]]:
    return differences(
        [read_ranking(run, folder) for run, folder in baseline],
        [read_ranking(run, folder) for run, folder in other],
    )


def evaluations_of(workspace: Workspace, table: pa.Table) -> dict[RowKey, tuple[Evaluated, ...]]:
    """Return the evaluations of the seeds that are done, for each row."""
    evaluations: dict[RowKey, dict[Evaluated, None]] = {}
    for result in table.to_pylist():
        if result["run"] and result["evaluation"]:
            folder = workspace.run(result["run"]).evaluation(result["evaluation"])
            evaluations.setdefault((result["dataset"], result["label"]), {})[result["run"], folder] = None
    return {row: tuple(seeds) for row, seeds in evaluations.items()}


def short_labels(rows: list[Row]) -> dict[RowKey, str]:
    """Return the short labels of rows and of systems, by data set and label in artifacts."""
    systems = {
        (row.dataset, row.system): dataclasses.replace(row, varied_options={}).short_label for row in rows
    }
    return systems | {(row.dataset, row.key): row.short_label for row in rows}
