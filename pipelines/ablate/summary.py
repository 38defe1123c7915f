"""From tidy rows to what a table shows: means over seeds, the paper's figures beside them, the best against the runner-up."""

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
from pipelines.ablate.metrics import Metric, metric
from pipelines.ablate.published import OURS, UNKNOWN, named
from pipelines.ablate.recipe import Recipe, System
from pipelines.errors import UserError
from pipelines.evaluate.compare import differences, read_ranking
from pipelines.workspace import Workspace

Evaluated = tuple[str, Path]  # a run's name, and an evaluation's folder


@dataclass(frozen=True)
class Entry:
    """One figure of one row of a table; values as stored (fractions, nats, counts), `paper` in the paper's units.

    Attributes:
        values: one for each seed that is done.
        low, high: 95 % interval over users; of several seeds the mean of their bounds.
        compared: the row is the model that the paper's figure is of, decoded like it as far as is known.
        reason: why there is no value.
    """

    metric: Metric
    values: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    paper: float | None = None
    compared: bool = False
    reason: str | None = None

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def lines(self) -> list[str]:
        """The figure, its interval, the paper's figure, and of its own model the difference."""
        m = self.metric
        if self.mean is None:
            own = ["missing" if self.reason is None else "cannot be run"]
        else:
            own = [m.shown(self.mean) + ("" if self.sd is None else f" ± {m.shown(self.sd)}")]
            own += [f"{m.shown(self.low)} to {m.shown(self.high)}"] * (self.low is not None)
        if self.paper is None:
            return own
        shown = self.compared and self.mean is not None
        difference = f" ({m.shown(self.mean - self.paper / m.factor, sign=True)})" if shown else ""
        return [*own, f"paper {self.paper:,.{m.decimals}f}{difference}"]


@dataclass(frozen=True)
class Row:
    """A system with its settings on one data set.

    Attributes:
        name: what the system is called here: a published model's name says whether the row is that model.
        entries: metric label → figure.
    """

    dataset: str
    system: str
    name: str
    setting: dict[str, Any]
    entries: dict[str, Entry]

    @property
    def key(self) -> str:
        """What artifacts call it."""
        return row_label(self.system, self.setting)

    @property
    def label(self) -> str:
        """What tables call it."""
        return row_label(self.name, self.setting)

    @property
    def brief(self) -> str:
        """What is beside or below its table calls it: without what makes it ours, but not without saying that it is."""
        name, ours, _ = self.name.partition(OURS)
        return row_label(name + OURS.rstrip(": ") * bool(ours), self.setting)


@dataclass(frozen=True)
class PairedTest:
    """The best of a data set by one metric, against the runner-up: the difference as a fraction, its interval, p."""

    dataset: str
    metric: Metric
    best: str
    runner_up: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def rows_of(recipe: Recipe, scale: GridSettings, table: pa.Table) -> list[Row]:
    """The rows of a recipe's tables, in the recipe's order.

    Args:
        table: an artifact of kind "grid" of this recipe at this scale.
    """
    found: dict[tuple[str, str, str], list[dict]] = {}
    for row in table.to_pylist():
        found.setdefault((row["dataset"], row["label"], row["metric"]), []).append(row)
    rows = []
    for dataset in dict.fromkeys(scale.datasets or recipe.datasets):
        for system in recipe.systems:
            for setting, values in combinations(recipe, system, scale, dataset):
                shown = system.shown | setting
                key = (dataset, row_label(system.name, shown))
                if (*key, recipe.metrics[0]) not in found:
                    continue
                paper = _paper(recipe, dataset, system.name, system.shown | values)
                told = _told(system, found[(*key, recipe.metrics[0])])
                compared = not told and not setting.get(
                    "constrained"
                )  # no figure of the paper is known to be of constrained beams
                entries = {
                    m: _entry(metric(m), found[(*key, m)], paper.get(m), compared) for m in recipe.metrics
                }
                rows.append(
                    Row(dataset, system.name, named(system, told, bool(recipe.paper)), shown, entries)
                )
    return rows


def _told(system: System, rows: list[dict]) -> str | None:
    """The departures that a report recorded."""
    return rows[0].get("departures", UNKNOWN if system.model else None)


def _entry(asked: Metric, rows: list[dict], paper: float | None, compared: bool) -> Entry:
    done = [row for row in rows if row["value"] is not None]
    bounds = [
        statistics.fmean(row[end] for row in done) if done and done[0][end] is not None else None
        for end in ("low", "high")
    ]
    reason = next((row["reason"] for row in rows if row["reason"]), None)
    return Entry(asked, tuple(row["value"] for row in done), *bounds, paper, compared, reason)


def _paper(recipe: Recipe, dataset: str, system: str, values: dict[str, Any]) -> dict[str, float]:
    """The paper's figures of a row: those whose every option is the row's."""
    found: dict[str, float] = {}
    for entry in recipe.paper:
        figures = {key: value for key, value in entry.items() if key in recipe.metrics}
        about = {
            key: value
            for key, value in entry.items()
            if key not in figures and key not in ("dataset", "system")
        }
        here = entry["system"] == system and entry.get("dataset", recipe.datasets[0]) == dataset
        if here and all(_same(values.get(option), value) for option, value in about.items()):
            found |= figures
    return found


def _same(one: Any, other: Any) -> bool:
    numbers = all(isinstance(value, int | float) for value in (one, other))
    return math.isclose(one, other) if numbers else one == other


def paired_tests(workspace: Workspace, rows: list[Row], table: pa.Table) -> list[PairedTest]:
    """For each data set and ranking metric, the best row against the best of another system (or, of a single system, of another row).

    Rows that have other targets than the best, e.g. two items ahead, are passed over.
    The two are compared user by user, each user's result a mean over the seeds; see `evaluate.compare`.
    """
    places = _evaluations(workspace, table)
    found = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        here = [row for row in rows if row.dataset == dataset]
        for label in here[0].entries:
            asked = here[0].entries[label].metric
            ranked = [row for row in here if row.entries[label].mean is not None and asked.k is not None]
            ranked.sort(key=lambda row: -(row.entries[label].mean or 0.0))
            others = [row for row in ranked[1:] if row.system != ranked[0].system] or ranked[1:]
            tested = (_contest(dataset, asked, ranked[0], other, places) for other in others)
            if others:
                found.append(
                    next(filter(None, tested), PairedTest(dataset, asked, ranked[0].brief, others[0].brief))
                )
    return found


def _contest(
    dataset: str, asked: Metric, best: Row, other: Row, places: dict[tuple[str, str], tuple[Evaluated, ...]]
) -> PairedTest | None:
    """None where the two are of other lists or users."""
    try:
        found = _compared(places[dataset, other.key], places[dataset, best.key])
    except UserError:
        return None
    row = list(zip(found["metric"], found["k"], strict=True)).index((asked.name, asked.k))
    return PairedTest(
        dataset,
        asked,
        best.brief,
        other.brief,
        *(float(found[name][row]) for name in ("difference", "low", "high", "p")),
    )


@functools.lru_cache(maxsize=256)
def _compared(baseline: tuple[Evaluated, ...], other: tuple[Evaluated, ...]) -> dict[str, Sequence]:
    return differences(*([read_ranking(*evaluated) for evaluated in side] for side in (baseline, other)))


def _evaluations(workspace: Workspace, table: pa.Table) -> dict[tuple[str, str], tuple[Evaluated, ...]]:
    """Data set and row → run and folder of each of its seeds that is done."""
    found: dict[tuple[str, str], dict[Evaluated, None]] = {}
    for row in table.to_pylist():
        if row["run"] and row["evaluation"]:
            evaluated = (row["run"], workspace.run(row["run"]).evaluation(row["evaluation"]))
            found.setdefault((row["dataset"], row["label"]), {})[evaluated] = None
    return {row: tuple(seeds) for row, seeds in found.items()}


def labels(rows: list[Row]) -> dict[tuple[str, str], str]:
    """Data set and what artifacts call a row, or all rows of a system → what is beside or below its table calls it."""
    systems = {(row.dataset, row.system): dataclasses.replace(row, setting={}).brief for row in rows}
    return systems | {(row.dataset, row.key): row.brief for row in rows}
