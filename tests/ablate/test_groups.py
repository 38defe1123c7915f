"""Groups of targets in the report: those of `eval --by`, and a plot that is drawn from files alone."""

from __future__ import annotations

import dataclasses
import shutil
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.ablate.grid import GridSettings
from pipelines.ablate.groups import REFERENCE, collect_groups, draw_groups
from pipelines.ablate.plot import STYLES
from pipelines.ablate.recipe import Recipe, System
from pipelines.ablate.report import write_report
from pipelines.ablate.results import collect
from pipelines.ablate.section import read_section
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories, training
from pipelines.decode.config import Decoding
from pipelines.evaluate.beside import measure_beside
from pipelines.evaluate.config import EvalConfig
from pipelines.workspace import Workspace
from tests.ablate.conftest import Fakes, run_grid

SETTINGS = GridSettings("smoke", seeds=2)
USERS = 200


def found(workspace: Workspace, recipe: Recipe, settings: GridSettings = SETTINGS) -> pa.Table:
    return collect(workspace, recipe, run_grid(workspace, recipe, settings), settings.budget)


def scattered(fakes: Fakes) -> None:
    """Each user has another rank, with each seed and model."""
    fakes.rank = lambda plan: np.random.default_rng([plan.train.seed, len(plan.model)]).integers(1, 21, USERS)


def rows_of_eval(workspace: Workspace, result: dict[str, Any], by: str) -> list[list[dict[str, Any]]]:
    """What `eval --by` prints of a run, and of popularity: a row for each group and metric at 10."""
    dataset = workspace.dataset("toy")
    sequences = load_sequences(dataset.sequences)
    counts = np.bincount(training(sequences).items, minlength=60)
    config = EvalConfig(Decoding(beams=20), by=by)
    folder = workspace.run(result["run"]).evaluation(result["evaluation"])
    beside = measure_beside(folder, histories(sequences, "test"), counts, config, dataset)
    letters = {"recall": "R@10", "ndcg": "N@10"}
    return [
        [
            {
                "group": label,
                "metric": letters[row["metric"]],
                "targets": row["users"],
                **{name: row[name] for name in ("value", "low", "high")},
            }
            for label, metrics in groups
            for row in metrics.to_pylist()
            if row["k"] == 10
        ]
        for groups in (beside.groups, beside.popularity_groups)
    ]


@pytest.mark.parametrize("by", ["popularity", "history-length"])
def test_groups_are_those_of_eval_and_means_over_seeds(
    toy: Workspace, recipe: Recipe, fakes: Fakes, by: str
) -> None:
    scattered(fakes)
    table = found(toy, recipe, dataclasses.replace(SETTINGS, options={"beams": [20]}))
    groups = collect_groups(toy, table).to_pylist()
    labels = list(dict.fromkeys(row["label"] for row in groups))
    assert labels == [REFERENCE, "Items", "Digits · sids 1", "Digits · sids 2"]
    for label in labels[1:]:
        seeds = [
            rows_of_eval(toy, row, by)
            for row in table.to_pylist()
            if (row["label"], row["metric"]) == (label, "R@5")
        ]
        expected = [
            first | {name: fmean([first[name], second[name]]) for name in ("value", "low", "high")}
            for first, second in zip(*(of_run for of_run, _ in seeds), strict=True)
        ]
        shared = {"dataset": "toy", "system": label.split(" · ")[0], "label": label}
        assert [row for row in groups if (row["label"], row["grouping"]) == (label, by)] == [
            {**shared, "seeds": 2, "grouping": by, **row} for row in expected
        ]
        popular = [row for row in groups if (row["label"], row["grouping"]) == (REFERENCE, by)]
        assert popular == [
            {"dataset": "toy", "system": "", "label": REFERENCE, "seeds": 1, "grouping": by, **row}
            for row in seeds[0][1]
        ]
    assert sum(row["targets"] for row in popular) == 2 * USERS  # of two metrics


def test_the_targets_of_all_groups_are_those_of_the_table(
    toy: Workspace, recipe: Recipe, fakes: Fakes
) -> None:
    """The mean over the groups, weighted by their targets, is the value of the row."""
    scattered(fakes)
    table = found(toy, recipe, dataclasses.replace(SETTINGS, options={"beams": [20]}))
    groups = [row for row in collect_groups(toy, table).to_pylist() if row["label"] == "Items"]
    values = [row["value"] for row in table.to_pylist() if (row["label"], row["metric"]) == ("Items", "N@10")]
    assert len(values) == 2
    for by in ("popularity", "history-length"):
        parts = [row for row in groups if (row["grouping"], row["metric"]) == (by, "N@10")]
        assert sum(row["value"] * row["targets"] for row in parts) / USERS == pytest.approx(fmean(values))


def test_what_has_no_such_groups_is_left_out(toy: Workspace, fakes: Fakes) -> None:
    """Short lists, several items ahead, `--cold`, and ranks that are gone."""
    systems = [
        System("lists", "sasrec", {"beams": [5, 10]}),
        System("cold", "sasrec", {"cold": [0.1]}),
        System("ahead", "bert4rec"),
        System("gone", "maskgr-items"),
    ]
    table = found(toy, Recipe("own", "Own", ["toy"], ["R@5"], systems))
    paths = {
        (row["system"], row["seed"]): toy.run(row["run"]).evaluation(row["evaluation"]) / "ranks.parquet"
        for row in table.to_pylist()
    }
    paths["gone", 1].unlink()
    for seed in (0, 1):
        path = paths["ahead", seed]
        ranks = artifacts.read(path, "ranks")
        columns = {"user": np.arange(USERS) // 2, "position": np.arange(USERS) % 2}
        for name, values in columns.items():
            place = ranks.schema.get_field_index(name)
            ranks = ranks.set_column(place, name, pa.array(values, pa.int32()))
        artifacts.write(path, "ranks", ranks, config=artifacts.provenance(path)["config"])
    assert {row["label"]: row["seeds"] for row in collect_groups(toy, table).to_pylist()} == {
        REFERENCE: 1,
        "lists · beams 10": 2,
        "gone": 1,
    }


def test_the_report_shows_groups_and_needs_no_runs(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    scattered(fakes)
    table = found(toy, recipe, dataclasses.replace(SETTINGS, options={"beams": [20]}))
    folder, section = write_report(toy, recipe, SETTINGS, table, "maskgr ablate toy")
    path = folder / "results.parquet"
    assert section.groups and (folder / "groups.png").read_bytes() == section.groups
    for name in ("table.md", "report.html"):
        text = (folder / name).read_text("utf-8")
        assert "Recall@10 by the popularity of the target and by the length of the history" in text
        assert "cut at the quartiles" in text
    shutil.rmtree(toy.root / "runs")
    assert read_section(toy, path).groups == section.groups
    (folder / "groups.parquet").unlink()  # a report of before
    assert read_section(toy, path).groups is None


def test_groups_that_are_no_more_are_deleted(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    scattered(fakes)
    table = found(toy, recipe, dataclasses.replace(SETTINGS, options={"beams": [20]}))
    folder, _ = write_report(toy, recipe, SETTINGS, table, "maskgr ablate toy")
    names = {"groups.parquet", "groups.png"}
    assert names <= {path.name for path in folder.iterdir()}
    short = found(toy, recipe, dataclasses.replace(SETTINGS, options={"beams": [5]}))
    _, section = write_report(toy, recipe, SETTINGS, short, "maskgr ablate toy")
    assert section.groups is None and not names & {path.name for path in folder.iterdir()}
    assert "groups.png" not in (folder / "table.md").read_text("utf-8")


def groups_of(recalls: list[float], dataset: str = "toy") -> pa.Table:
    """Groups of rows with these values of Recall@10 at each group."""
    rows = [
        {
            **{"dataset": dataset, "system": "A", "label": f"A {recall}", "seeds": 1, "grouping": by},
            **{"group": group, "targets": 10, "metric": "R@10"},
            **{"value": recall, "low": recall, "high": recall},
        }
        for recall in recalls
        for by in ("popularity", "history-length")
        for group in ("1", "2 to 1,000")
    ]
    return pa.Table.from_pylist(rows, pa.schema(list(artifacts.SCHEMAS["groups"].items())))


def test_of_many_rows_the_best_are_drawn_in_their_order() -> None:
    recalls = [0.5, 0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]
    best = [recall for recall in recalls if recall > 0.25]
    assert len(best) == len(STYLES)
    assert draw_groups(groups_of(recalls), {}) == draw_groups(groups_of(best), {})
    assert draw_groups(groups_of(best), {}) != draw_groups(groups_of(sorted(best)), {})
    one, two = groups_of(best), groups_of(best, "other")
    assert draw_groups(pa.concat_tables([one, two]), {}) != draw_groups(one, {})


def test_names_stand_in_the_legend() -> None:
    table = groups_of([0.5])
    assert draw_groups(table, {("toy", "A 0.5"): "$\\frac{ B"}) != draw_groups(table, {})
