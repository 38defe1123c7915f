"""Comparison of runs on the command line."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from pipelines import artifacts
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.test_tables import documented_keys, keys_of
from tests.train.conftest import plan, write_sids


def test_runs_are_compared_with_the_first(
    toy: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]], progress: ListProgress
) -> None:
    sids = write_sids(toy)
    for name, steps, tokens in (("long", 60, "digit"), ("short", 2, "digit"), ("other", 2, "item")):
        train_run(toy, plan(sids, steps=steps, tokens=tokens, validations=1), progress, name=name)
    done = maskgr("eval", "long", "--nfe", 1, "--beams", 10, "short", "other")
    assert done.returncode == 0, done.stderr
    folder = toy.root / "comparisons" / "greedy-t1-k10-constrained" / "long"
    assert f"Comparison: {folder}" in done.stderr
    assert re.search(
        r"Test · long: toy · 3 digits[^:]*\n *short: toy · 3 digits[^:]*\n *other: toy · item tokens",
        done.stdout,
    )
    metrics, differences = done.stdout.split("Difference from long (percentage points)")
    metrics, lists = metrics.split("\nLists")
    rows = {cells[0]: cells[1:] for cells in cells_of(metrics)}
    assert [cells[0] for cells in cells_of(lists)] == [*rows]
    assert [*rows] == ["long", "short", "other", "popularity"]
    assert "not corrected for the number of comparisons" in " ".join(differences.split())
    shown, expected = cells_of(differences), []
    for name in ("short", "other"):
        table = artifacts.read(folder / f"{name}.parquet", "comparison").to_pylist()
        ranks = {
            r: artifacts.read(toy.run(r).evaluation(folder.parent.name) / "ranks.parquet", "ranks")
            for r in ("long", name)
        }
        hits = {
            r: sum(rank is not None and rank <= 5 for rank in ranks[r]["rank"].to_pylist()) for r in ranks
        }
        assert table[0]["difference"] == pytest.approx((hits[name] - hits["long"]) / 200)
        assert rows[name][0].startswith(f"{100 * hits[name] / 200:.2f} ±")
        assert hits[name] < hits["long"]  # two training steps are fewer than sixty
        for row in table:
            label = f"{'R' if row['metric'] == 'recall' else 'N'}@{row['k']}"
            interval = f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
            expected.append(
                [
                    name if row is table[0] else "",
                    label,
                    f"{100 * row['difference']:+.2f}",
                    interval,
                    f"{row['p']:.4f}",
                ]
            )
    assert shown == expected
    again = maskgr("eval", "long", "short", "--nfe", 1, "--beams", 10, "--format", "json")
    content = json.loads(again.stdout)
    assert keys_of(content) == documented_keys("eval")
    assert [row["run"] for row in content["metrics"]] == ["long", "short", "popularity"]
    assert f"{100 * content['metrics'][0]['recall@5']:.2f}" == rows["long"][0].split()[0]
    assert content["metrics"][0]["folder"] == str(toy.run("long").evaluation(folder.parent.name))
    compared = artifacts.read(folder / "short.parquet", "comparison").to_pylist()
    assert content["differences"] == [
        {key: row[key] for key in content["differences"][0]} for row in compared
    ]


def cells_of(text: str) -> list[list[str]]:
    """Return the cells of the body of a printed table."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]
