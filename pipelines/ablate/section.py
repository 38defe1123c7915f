"""Section of a report: the tables, tests, plots and facts of one grid."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from pipelines import artifacts, typed_json
from pipelines.ablate.curves import draw_curves
from pipelines.ablate.grid import GridSettings
from pipelines.ablate.groups import draw_groups
from pipelines.ablate.metrics import find_metric
from pipelines.ablate.plot import draw
from pipelines.ablate.recipe import Recipe, from_dict
from pipelines.ablate.summary import PairedTest, Row, paired_tests, rows_of, short_labels
from pipelines.artifacts import Provenance
from pipelines.errors import UserError
from pipelines.workspace import Workspace

CURVES = "curves.parquet"
GROUPS = "groups.parquet"
DIGEST_CHARACTERS = 12  # of a sha256 in a report


class GridConfig(TypedDict):
    """Configuration in results.parquet.

    Attributes:
        recipe: recipe of the grid.
        scale: settings of the grid; reports of earlier versions have this key too.
        command: command that makes the report again.
    """

    recipe: Recipe
    scale: GridSettings
    command: str


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: title; empty for a single table.
        header: titles of the columns.
        rows: rows of cells; a cell is a list of lines.
        measured: true if the table holds a measured value.
    """

    title: str
    header: list[str]
    rows: list[list[list[str]]]
    measured: bool


@dataclass(frozen=True, eq=False)
class Section:
    """Content of a report on one grid.

    Attributes:
        recipe: recipe of the grid.
        budget: preset of every run.
        tables: one table for each data set, or one table for all of them if each has a single row.
        paired_tests: tests of the best rows against the runners-up.
        facts: facts on how the values were measured, by name.
        problems: mapping from a cell without values to the reason.
        png: plot of the values.
        curves: plot of the learning curves.
        groups: plot of the groups of targets.
    """

    recipe: Recipe
    budget: str
    tables: list[Table]
    paired_tests: list[PairedTest]
    facts: dict[str, str]
    problems: dict[str, str]
    png: bytes | None
    curves: bytes | None
    groups: bytes | None

    @property
    def anchor(self) -> str:
        """Name of the section in a page's links, and name of the report's folder."""
        return f"{self.recipe.name}-{self.budget}"

    @staticmethod
    def data_address(png: bytes) -> str:
        """Return a PNG as a data URL."""
        return "data:image/png;base64," + base64.b64encode(png).decode()


def read_section(workspace: Workspace, path: Path) -> Section:
    """Read the section of a report.

    Args:
        workspace: workspace of the runs.
        path: path of results.parquet; curves.parquet and groups.parquet may lie beside it.

    Raises:
        UserError: the file is missing, cannot be read, or does not hold the configuration of its grid.
    """
    table = artifacts.read(path, "grid", hint="Run `maskgr ablate` first.")
    provenance = artifacts.provenance(path)
    results = table.to_pylist()
    try:
        if provenance is None:
            raise ValueError("it has no provenance")
        typed_json.check(provenance["config"], GridConfig)
        inputs = {
            (result["dataset"], *pair)
            for result in results
            for pair in typed_json.parse(result["inputs"] or "{}", dict[str, str]).items()
        }
    except ValueError as error:
        raise UserError(
            f"{path} does not say which grid it is of ({error}). Run `maskgr ablate` again."
        ) from None
    config = provenance["config"]
    recipe = from_dict(config["recipe"])
    settings = GridSettings(**{**config["scale"], "datasets": tuple(config["scale"]["datasets"])})
    rows = rows_of(recipe, settings, table)
    labels = short_labels(rows)
    curves, groups = path.with_name(CURVES), path.with_name(GROUPS)
    return Section(
        recipe,
        settings.budget,
        _tables(recipe, rows),
        paired_tests(workspace, rows, table),
        _facts(settings, results, inputs, provenance),
        _problems(results, labels),
        draw(recipe, rows),
        None if artifacts.stale(curves) else draw_curves(artifacts.read(curves, "curves"), labels),
        None if artifacts.stale(groups) else draw_groups(artifacts.read(groups, "groups"), labels),
    )


def _problems(results: list[dict[str, Any]], labels: dict[tuple[str, str], str]) -> dict[str, str]:
    """Return the reason, or else the state, of each cell without values."""
    problems = {}
    for result in results:
        if result["state"] != "done":
            label = labels.get((result["dataset"], result["label"]), result["label"])
            name = f"{result['dataset']} · {label} · seed {result['seed']}"
            problems[name] = result["reason"] or result["state"]
    return problems


def _tables(recipe: Recipe, rows: list[Row]) -> list[Table]:
    """Return the tables of a section, see `Section.tables`."""
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    if len(rows) == len(datasets):
        return [_table(recipe, "", {row.dataset: row for row in rows})]
    return [
        _table(recipe, dataset, {row.label: row for row in rows if row.dataset == dataset})
        for dataset in datasets
    ]


def _table(recipe: Recipe, title: str, rows: dict[str, Row]) -> Table:
    return Table(
        title,
        header=["", *map(_heading, recipe.metrics)],
        rows=[[[name], *(entry.lines for entry in row.entries.values())] for name, row in rows.items()],
        measured=any(entry.values for row in rows.values() for entry in row.entries.values()),
    )


def _heading(label: str) -> str:
    metric = find_metric(label)
    unit = "%" if metric.factor == 100 else "nats" if metric.source == "diagnosis" else ""
    return f"{label} ({unit})" if unit else label


def _facts(
    settings: GridSettings,
    results: list[dict[str, Any]],
    inputs: set[tuple[str, str, str]],
    provenance: Provenance,
) -> dict[str, str]:
    """Return facts on how the values were measured; several values of one fact stand side by side.

    Args:
        settings: settings of the grid.
        results: rows of results.parquet.
        inputs: data set, name and sha256 of each input.
        provenance: provenance of results.parquet.
    """

    def values(column: str) -> str:
        return "; ".join(dict.fromkeys(str(row[column]) for row in results if row[column])) or "unknown"

    trainings = {row["run"]: row["train_seconds"] for row in results if row["run"]}
    evaluations = {
        (row["run"], row["evaluation"]): row["eval_seconds"] or 0.0 for row in results if row["run"]
    }
    minutes = sum(trainings.values()) / 60, sum(evaluations.values()) / 60
    digests = [f"{dataset} {name} {sha256[:DIGEST_CHARACTERS]}" for dataset, name, sha256 in sorted(inputs)]
    return {
        "budget": _budget(settings, results),
        "wall time": f"{minutes[0]:,.1f} min to train {len(trainings)} runs, {minutes[1]:,.1f} to evaluate",
        "machine": values("machine"),
        "commit": values("commit"),
        "data (sha256)": "; ".join(digests) or "none",
        "written": f"{provenance['written']} by maskgr {provenance['version']}",
        "command": provenance["config"]["command"],
    }


def _budget(settings: GridSettings, results: list[dict[str, Any]]) -> str:
    """Return the preset, the bound on the minutes, the numbers of seeds, and the split."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for row in results:
        seeds.setdefault((row["dataset"], row["label"]), set()).add(row["seed"])
    counts = sorted({len(of_row) for of_row in seeds.values()})
    bound = f", {settings.minutes:g} minutes a run" if settings.minutes is not None else ""
    plural = "s" * (counts != [1])
    return f"{settings.budget}{bound}, {' or '.join(map(str, counts))} seed{plural}, {settings.split} users"
