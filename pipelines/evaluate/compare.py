"""Comparison of runs: differences of Recall and NDCG over the same users, computed from their ranks.

The difference of a user depends only on a few small integers: the ranks of the user's targets in both runs.
Both kinds of resampling therefore work on the joint histogram of these ranks, and no user is drawn
separately. The paired bootstrap draws the histogram's counts from a multinomial distribution. The permutation
test draws, for each bin, the number of users whose two results are exchanged from a binomial distribution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import artifacts
from pipelines.artifacts import SCHEMAS
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import refuse_final
from pipelines.evaluate.config import CUTOFFS
from pipelines.evaluate.metrics import (
    CELLS,
    RESAMPLES,
    bootstrap_interval,
    by_user,
    gains_by_rank,
    targets_per_user,
)
from pipelines.evaluate.stored_ranks import Ranking, check_comparable, read_ranking
from pipelines.workspace import Run, Workspace

PERMUTATIONS = 10_000
SEED = 0  # seed of both kinds of resampling
ROUNDING = 1e-9  # sums over users that differ by less count as equal


def compare_runs(workspace: Workspace, evaluated: Sequence[tuple[str, Path]]) -> tuple[Path, pa.Table]:
    """Compare evaluations with the first of them; write an artifact of kind "comparison" for each of the
    others.

    Args:
        workspace: workspace of the runs.
        evaluated: run and folder of each evaluation, two or more.

    Returns:
        Folder of the artifacts, and their rows in one table.

    Raises:
        UserError: the evaluations cannot be compared, see `compare`.
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
    """Compare one run with a baseline.

    Args:
        baseline: ranks of the baseline.
        other: ranks of the run.
        seed: seed of both kinds of resampling.

    Returns:
        Artifact of kind "comparison": a row for each Recall@k and NDCG@k with both values and their
        difference (run − baseline) as fractions, the 95 % percentile interval of the difference (`low`,
        `high`), and the p value of `sign_flip_test`. For the interval, users are resampled with replacement,
        each with both results.

    Raises:
        UserError: see `differences`.
    """
    columns = differences([baseline], [other], seed)
    rows = len(columns["metric"])
    shared = {
        "evaluation": baseline.path.parent.name,
        "baseline": baseline.run,
        "run": other.run,
        "users": len(baseline.table) // targets_per_user(baseline.table),
    }
    columns |= {name: [value] * rows for name, value in shared.items()}
    return pa.table({name: pa.array(columns[name], kind) for name, kind in SCHEMAS["comparison"].items()})


def differences(
    baseline: Sequence[Ranking], other: Sequence[Ranking], seed: int = SEED
) -> dict[str, Sequence[Any]]:
    """Compare one system with a baseline, each in one or several runs; a user's result is the mean over the
    runs.

    Args:
        baseline: ranks of the baseline's runs.
        other: ranks of the system's runs.
        seed: seed of both kinds of resampling.

    Returns:
        The columns of `compare` without the names of the runs and the number of users.

    Raises:
        UserError: the runs differ in users, targets, split, horizon or list length, or the lists are too
            short.
    """
    first = baseline[0]
    for ranking in (*baseline[1:], *other):
        check_comparable(first, ranking)
    by_rank = gains_by_rank(first.beams)
    if not by_rank:
        raise UserError(
            f"--beams {first.beams} leaves no Recall or NDCG to compare: use {min(CUTOFFS)} or more."
        )
    bootstrap_rng, permutation_rng = np.random.default_rng(seed).spawn(2)
    bins, numbers = _bins(baseline, other)
    gains = np.stack([gain[bins].mean(axis=1) for gain in by_rank.values()], axis=1)  # [bins, metrics]
    pairs, users = np.unique(numbers, axis=1, return_counts=True)  # [2, pairs], [pairs]
    values = users @ gains[pairs] / users.sum()  # [2, metrics]
    gained = _differences(gains, pairs)  # [pairs, metrics]
    lows, highs = bootstrap_interval(users, gained, bootstrap_rng)
    # The permutation test does not distinguish the pairs (a, b) and (b, a).
    unordered, unordered_users = np.unique(np.sort(numbers, axis=0), axis=1, return_counts=True)
    p = sign_flip_test(users @ gained, unordered_users, _differences(gains, unordered), permutation_rng)
    return {
        "metric": [metric for metric, _ in by_rank],
        "k": [k for _, k in by_rank],
        "baseline_value": values[0],
        "value": values[1],
        "difference": users @ gained / users.sum(),
        "low": lows,
        "high": highs,
        "p": p,
    }


def _bins(
    baseline: Sequence[Ranking], other: Sequence[Ranking]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Group the users' results into bins with equal ranks.

    The runs of each side are repeated until both sides have as many, which does not change the means.

    Returns:
        The ranks of each bin, int32 [bins, k · runs]; the bin of each user on both sides, int64 [2, B].
    """
    sides = [
        np.concatenate([by_user(ranking.table, "rank", ranking.beams) for ranking in side], axis=1)
        for side in (baseline, other)
    ]  # [B, k · runs] each
    width = math.lcm(*(side.shape[1] for side in sides))
    ranks = [np.tile(side, width // side.shape[1]) for side in sides]  # [B, width] each
    bins, numbers = np.unique(np.concatenate(ranks), axis=0, return_inverse=True)
    return bins, numbers.reshape(2, -1)


def _differences(gains: np.ndarray, pairs: np.ndarray) -> NDArray[np.float64]:
    """Return the second gain minus the first one of each pair of bins.

    Args:
        gains: contribution of a user in each bin to each metric, float [bins, metrics].
        pairs: pairs of bins, int [2, pairs].

    Returns:
        float64 [pairs, metrics].
    """
    return gains[pairs[1]] - gains[pairs[0]]


def sign_flip_test(
    observed: np.ndarray,
    users: np.ndarray,
    differences: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> NDArray[np.float64]:
    """Return two-sided p values of the paired permutation test.

    Under the null hypothesis, the two results of a user can be exchanged, which changes the sign of the
    user's difference. Of the n users in a bin, Binomial(n, 1/2) have their results exchanged.
    p = (1 + #{|resampled| ≥ |observed|}) / (1 + permutations).

    Args:
        observed: sums of the differences over all users, float [metrics].
        users: number of users in each bin, int [bins].
        differences: difference of a user in each bin, float [bins, metrics]; its sign does not matter.
        rng: random generator.
        permutations: number of random permutations.

    Returns:
        float64 [metrics].
    """
    differing = differences.any(axis=1)
    users = users[differing, None]  # [bins, 1]
    differences = differences[differing]
    sums = np.zeros((permutations, len(observed)))
    step = max(1, CELLS // permutations)
    for start in range(0, len(users), step):
        n = users[start : start + step]
        exchanged = rng.binomial(n, 0.5, (len(n), permutations))
        sums += (n - 2 * exchanged).T @ differences[start : start + step]
    extreme = np.count_nonzero(np.abs(sums) >= np.abs(observed) - ROUNDING, axis=0)
    return (1 + extreme) / (1 + permutations)


def check_comparable_runs(runs: Sequence[Run], horizon: int | None) -> None:
    """Check, before anything is evaluated, that all runs have the data set and the horizon of the first run.

    Args:
        runs: runs to compare.
        horizon: k for all runs; None for the horizon for which each run was trained.

    Raises:
        UserError: the message names both runs and the difference.
    """
    settings = []
    for run in runs:
        refuse_final(run)
        config = run.read_config()
        trained_horizon = config.get("train", {}).get("horizon", 1)
        settings.append({"--dataset": config.get("dataset"), "--horizon": horizon or trained_horizon})
    first = settings[0] if settings else {}
    for run, values in zip(runs, settings, strict=True):
        for option, value in values.items():
            if value != first[option]:
                raise UserError(
                    f"Runs {runs[0].name} and {run.name} cannot be compared: "
                    f"{option} {first[option]} against {value}."
                )
