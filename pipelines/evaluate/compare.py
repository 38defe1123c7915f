"""Is one run better than another? Differences of Recall and NDCG over the same users, from their ranks.

A user's difference depends on a few small integers only, the ranks of the user's targets in both runs. So both kinds of
resampling work on the joint histogram of these ranks and draw no user one by one: the paired bootstrap by multinomial
draws of its bins, the permutation test by binomial draws of how many users of a bin have their two results exchanged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.artifacts import SCHEMAS
from pipelines.errors import UserError
from pipelines.evaluate.metrics import (
    CELLS,
    CUTOFFS,
    RESAMPLES,
    bootstrap_interval,
    by_user,
    gains_by_rank,
    horizon_of,
)
from pipelines.workspace import Run, Workspace

PERMUTATIONS = 10_000
SEED = 0  # of both kinds of resampling
ROUNDING = 1e-9  # sums over users that differ by less are equal


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ranks of one run's evaluation.

    Attributes:
        run: the run's name.
        path: ranks.parquet in the evaluation's folder.
        table: an artifact of kind "ranks", ordered by user and position.
        split: "test" or "validation".
        beams: K, the list length.
    """

    run: str
    path: Path
    table: pa.Table
    split: str
    beams: int


def read_ranking(run: str, folder: Path) -> Ranking:
    """The ranks that an evaluation left in `folder`.

    Raises:
        UserError: there are none, they cannot be read, or they do not say what they are ranks of.
    """
    path = folder / "ranks.parquet"
    table = artifacts.read(path, "ranks", hint=f"Run `maskgr eval {run}` first.")
    config = (artifacts.provenance(path) or {}).get("config", {})
    again = f"Evaluate again: maskgr eval {run} --force"
    split, beams = config.get("split"), config.get("beams")
    if not (isinstance(split, str) and type(beams) is int and 0 < beams < 2**20):
        raise UserError(f"{path} does not say of which split and list length it is. {again}")
    table = table.sort_by([("user", "ascending"), ("position", "ascending")])
    users, positions, horizon = table["user"].to_numpy(), table["position"].to_numpy(), horizon_of(table)
    if (
        horizon < 1
        or len(table) % horizon
        or (positions != np.arange(len(table)) % horizon).any()
        or (users != users[::horizon].repeat(horizon)).any()
    ):
        raise UserError(
            f"{path}: the positions of each user's targets do not count from 0 to {horizon - 1}. {again}"
        )
    return Ranking(run, path, table, split, beams)


def compare_runs(workspace: Workspace, evaluated: Sequence[tuple[str, Path]]) -> tuple[Path, pa.Table]:
    """Compare evaluations with the first of them and write an artifact of kind "comparison" for each of the others.

    Args:
        evaluated: run and folder of each evaluation, two or more.

    Returns:
        the folder of the artifacts, and their rows in one table.

    Raises:
        UserError: they cannot be compared; see `compare`.
    """
    started = time.monotonic()
    baseline, *others = (read_ranking(run, folder) for run, folder in evaluated)
    tables = [compare(baseline, other) for other in others]
    folder = workspace.comparisons(baseline.path.parent.name, baseline.run)
    config = {
        "seed": SEED,
        "resamples": RESAMPLES,
        "permutations": PERMUTATIONS,
        "split": baseline.split,
        "beams": baseline.beams,
    }
    for other, table in zip(others, tables, strict=True):
        artifacts.write(
            folder / f"{other.run}.parquet",
            "comparison",
            table,
            config={**config, "baseline": baseline.run, "run": other.run},
            inputs={"baseline": baseline.path, "run": other.path},
            started=started,
        )
    return folder, pa.concat_tables(tables)


def compare(baseline: Ranking, other: Ranking, seed: int = SEED) -> pa.Table:
    """What `other` gains over `baseline`; an artifact of kind "comparison".

    Args:
        seed: of both kinds of resampling.

    Returns:
        a row for each Recall@k and NDCG@k: both values and their difference (other − baseline) as fractions, its 95 % percentile
        interval (`low`, `high`) under resampling of users with replacement, each with both results, and the p value of
        `sign_flip_test`.

    Raises:
        UserError: as `differences`.
    """
    columns = differences([baseline], [other], seed)
    rows = len(columns["metric"])
    users = len(baseline.table) // horizon_of(baseline.table)
    same = {
        "evaluation": baseline.path.parent.name,
        "baseline": baseline.run,
        "run": other.run,
        "users": users,
    }
    columns |= {name: [value] * rows for name, value in same.items()}
    return pa.table({name: pa.array(columns[name], kind) for name, kind in SCHEMAS["comparison"].items()})


def differences(
    baseline: Sequence[Ranking], other: Sequence[Ranking], seed: int = SEED
) -> dict[str, Sequence]:
    """What a system gains over a baseline, each in one or several runs; a user's result is the mean over the runs.

    Args:
        seed: of both kinds of resampling.

    Returns:
        The columns of `compare`, but for the runs' names and the number of users.

    Raises:
        UserError: they are not of the same users, targets, split, items ahead and list length, or the lists are too short.
    """
    first = baseline[0]
    for ranking in (*baseline[1:], *other):
        refuse_unlike(first, ranking)
    by_rank = gains_by_rank(first.beams)
    if not by_rank:
        raise UserError(
            f"--beams {first.beams} leaves no Recall or NDCG to compare: use {min(CUTOFFS)} or more."
        )
    drawing, turning = np.random.default_rng(seed).spawn(2)
    sides = [
        np.concatenate([by_user(ranking.table, "rank", first.beams) for ranking in side], axis=1)
        for side in (baseline, other)
    ]
    width = math.lcm(*(side.shape[1] for side in sides))
    ranks = [
        np.tile(side, width // side.shape[1]) for side in sides
    ]  # as many for each side: a mean stays what it is
    bins, number = np.unique(
        np.concatenate(ranks), axis=0, return_inverse=True
    )  # [bins, k · runs], a user's ranks
    number = number.reshape(2, -1)  # [2, B]
    gains = np.stack([gain[bins].mean(axis=1) for gain in by_rank.values()], axis=1)  # [bins, metrics]
    pairs, users = np.unique(number, axis=1, return_counts=True)  # [2, pairs], [pairs]
    values = users @ gains[pairs] / users.sum()  # [2, metrics]
    gained = _differences(gains, pairs)
    lows, highs = bootstrap_interval(users, gained, drawing)
    exchangeable, sharing = np.unique(
        np.sort(number, axis=0), axis=1, return_counts=True
    )  # (a, b) and (b, a) are one
    return {
        "metric": [metric for metric, _ in by_rank],
        "k": [k for _, k in by_rank],
        **dict(zip(("baseline_value", "value"), values, strict=True)),
        "difference": users @ gained / users.sum(),
        **{"low": lows, "high": highs},
        "p": sign_flip_test(users @ gained, sharing, _differences(gains, exchangeable), turning),
    }


def sign_flip_test(
    observed: np.ndarray,
    users: np.ndarray,
    differences: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> np.ndarray:
    """Two-sided p values of the paired permutation test.

    Were two runs alike, a user's two results could as well have been exchanged, which turns the sign of the user's difference.
    Of a bin's n users Binomial(n, 1/2) have theirs turned. p = (1 + #{|resampled| ≥ |observed|}) / (1 + permutations).

    Args:
        observed: sums of the differences over all users, [metrics].
        users: users in each bin, int [bins].
        differences: of a user in each bin, whatever their sign, float [bins, metrics].

    Returns:
        float [metrics].
    """
    differing = differences.any(axis=1)
    users, differences = users[differing, None], differences[differing]
    sums = np.zeros((permutations, len(observed)))
    step = max(1, CELLS // permutations)
    for start in range(0, len(users), step):
        n = users[start : start + step]
        turned = rng.binomial(n, 0.5, (len(n), permutations))
        sums += (n - 2 * turned).T @ differences[start : start + step]
    extreme = np.count_nonzero(np.abs(sums) >= np.abs(observed) - ROUNDING, axis=0)
    return (1 + extreme) / (1 + permutations)


def refuse_unlike_runs(runs: Sequence[Run], horizon: int | None) -> None:
    """Raise, before anything is evaluated, where runs recommend to other users or other numbers of items ahead than the first.

    Args:
        ahead: for all runs; None: what each was trained for.

    Raises:
        UserError: naming both runs and what differs.
    """
    found = []
    for run in runs:
        config = run.read_config()
        found.append(
            {
                "--dataset": config.get("dataset"),
                "--horizon": horizon or config.get("train", {}).get("horizon", 1),
            }
        )
    for run, facts in zip(runs, found, strict=True):
        for option, value in facts.items():
            if value != found[0][option]:
                raise UserError(
                    f"Runs {runs[0].name} and {run.name} cannot be compared: {option} {found[0][option]} against {value}."
                )


def refuse_unlike(one: Ranking, other: Ranking) -> None:
    """Raise where two runs' ranks are not of the same users, targets, split, items ahead and list length.

    Raises:
        UserError: naming both runs and what differs.
    """

    def refuse(what: str) -> None:
        raise UserError(
            f"Runs {one.run} and {other.run} cannot be compared: {what} ({one.path}, {other.path}). "
            "Compare runs of one data set and one --horizon, evaluated with the same --split and --beams."
        )

    first, second = (
        {
            "split": r.split,
            "items ahead": horizon_of(r.table),
            "list length": r.beams,
            "number of targets": len(r.table),
        }
        for r in (one, other)
    )
    for what in first:
        if first[what] != second[what]:
            refuse(f"{what} {first[what]} against {second[what]}")
    for column in ("user", "position", "target"):
        differ = np.count_nonzero(one.table[column].to_numpy() != other.table[column].to_numpy())
        if differ:
            refuse(f"column {column} differs in {differ:,} of {len(one.table):,} rows")


def _differences(gains: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Second less first of the gains [bins, metrics] of pairs of bins [2, pairs]; float [pairs, metrics]."""
    return gains[pairs[1]] - gains[pairs[0]]
