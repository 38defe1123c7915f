"""Ranks of an evaluation, read for comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.evaluate.metrics import targets_per_user

MAX_BEAMS = 2**20  # larger list lengths in a file are refused


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks of one evaluation.

    Attributes:
        run: name of the run.
        path: path of ranks.parquet in the evaluation's folder.
        table: artifact of kind "ranks", ordered by user and position.
        split: "test" or "validation".
        beams: K, the list length.
    """

    run: str
    path: Path
    table: pa.Table
    split: str
    beams: int


def read_ranking(run: str, folder: Path) -> Ranking:
    """Read the ranks of an evaluation.

    Args:
        run: name of the run.
        folder: folder of the evaluation.

    Raises:
        UserError: there are no ranks, they cannot be read, or they do not tell their split and list length.
    """
    path = folder / "ranks.parquet"
    table = artifacts.read(path, "ranks", hint=f"Run `maskgr eval {run}` first.")
    provenance = artifacts.provenance(path)
    config: dict[str, Any] = provenance["config"] if provenance else {}
    advice = f"Evaluate again: maskgr eval {run} --force"
    split, beams = config.get("split"), config.get("beams")
    if not (isinstance(split, str) and type(beams) is int and 0 < beams < MAX_BEAMS):
        raise UserError(f"{path} does not say of which split and list length it is. {advice}")
    table = table.sort_by([("user", "ascending"), ("position", "ascending")])
    users, positions = table["user"].to_numpy(), table["position"].to_numpy()
    k = targets_per_user(table)
    if (
        k < 1
        or len(table) % k
        or (positions != np.arange(len(table)) % k).any()
        or (users != users[::k].repeat(k)).any()
    ):
        raise UserError(
            f"{path}: the positions of each user's targets do not count from 0 to {k - 1}. {advice}"
        )
    return Ranking(run, path, table, split, beams)


def check_comparable(one: Ranking, other: Ranking) -> None:
    """Check that the ranks of two runs have the same users, targets, split, horizon and list length.

    Raises:
        UserError: the message names both runs and the difference.
    """
    difference = _difference(one, other)
    if difference:
        raise UserError(
            f"Runs {one.run} and {other.run} cannot be compared: {difference} ({one.path}, {other.path}). "
            "Compare runs of one data set and one --horizon, evaluated with the same --split and --beams."
        )


def _difference(one: Ranking, other: Ranking) -> str | None:
    """Describe the first difference between the users, targets and settings of two rankings."""
    first, second = (
        {
            "split": ranking.split,
            "horizon": targets_per_user(ranking.table),
            "list length": ranking.beams,
            "number of targets": len(ranking.table),
        }
        for ranking in (one, other)
    )
    for name in first:
        if first[name] != second[name]:
            return f"{name} {first[name]} against {second[name]}"
    for column in ("user", "position", "target"):
        differ = np.count_nonzero(one.table[column].to_numpy() != other.table[column].to_numpy())
        if differ:
            return f"column {column} differs in {differ:,} of {len(one.table):,} rows"
    return None
