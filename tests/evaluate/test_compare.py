"""Comparisons of runs against enumerating every outcome, against SciPy, and their laws."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.evaluate import compare as compare_module
from pipelines.evaluate import metrics as metrics_module
from pipelines.evaluate.compare import (
    PERMUTATIONS,
    check_comparable_runs,
    compare,
    compare_runs,
    differences,
    sign_flip_test,
)
from pipelines.evaluate.metrics import RESAMPLES, gains_by_rank, metrics_table
from pipelines.evaluate.stored_ranks import Ranking, read_ranking
from pipelines.workspace import FORMAT_VERSION, Workspace

KEYS = [(metric, k) for metric in ("recall", "ndcg") for k in (5, 10)]


def ranks_of(ranks: np.ndarray, **columns: np.ndarray) -> pa.Table:
    """An artifact of kind "ranks" from ranks [B] or [B, k], 0 for absent."""
    ranks = np.asarray(ranks).reshape(len(ranks), -1)
    B, k = ranks.shape
    zeros = np.zeros(B * k, int)
    values = {
        "user": np.repeat(np.arange(B), k),
        "position": np.tile(np.arange(k), B),
        "target": zeros,
        "rank": ranks.ravel(),
    }
    values |= {"invalid": zeros, "duplicates": zeros, **columns}
    return pa.table(
        {n: pa.array(v, pa.int32(), mask=v == 0 if n == "rank" else None) for n, v in values.items()}
    )


def ranking(
    ranks: np.ndarray, run: str = "run", split: str = "test", beams: int = 10, **columns: np.ndarray
) -> Ranking:
    return Ranking(run, Path("eval/greedy/ranks.parquet"), ranks_of(ranks, **columns), split, beams)


def drawn(users: int, seed: int, horizon: int = 1, found: float = 0.5) -> np.ndarray:
    """Ranks of two runs that often agree, int [2, users, ahead]."""
    rng = np.random.default_rng(seed)
    ranks = np.where(rng.random((2, users, horizon)) < found, rng.integers(1, 11, (2, users, horizon)), 0)
    ranks[1] = np.where(rng.random((users, horizon)) < 0.3, ranks[0], ranks[1])
    return ranks


def by_user(ranks: np.ndarray) -> np.ndarray:
    """What each user adds to each metric, [..., users, metrics], one number at a time."""

    def gain(rank: int, metric: str, k: int) -> float:
        return 0.0 if not 1 <= rank <= k else 1.0 if metric == "recall" else 1 / np.log2(rank + 1)

    return np.stack([np.vectorize(gain, otypes=[float])(ranks, *key).mean(axis=-1) for key in KEYS], axis=-1)


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


@pytest.mark.parametrize("horizon", [1, 2])
def test_p_values_against_all_sign_flips(horizon: int) -> None:
    ranks = drawn(11, seed=horizon, horizon=horizon)
    differences = np.subtract(*by_user(ranks)[::-1])  # [users, metrics]
    sums = np.array(list(product([1, -1], repeat=11))) @ differences  # [2¹¹, metrics]
    exact = (np.abs(sums) >= np.abs(differences.sum(axis=0)) - 1e-9).mean(axis=0)
    found = compare(ranking(ranks[0]), ranking(ranks[1]))
    assert list(zip(found["metric"].to_pylist(), found["k"].to_pylist(), strict=True)) == KEYS
    assert column(found, "difference") == pytest.approx(differences.mean(axis=0))
    assert np.ptp(exact) > 0.1  # the metrics have different p values
    assert column(found, "p") == pytest.approx(exact, abs=4 * 0.5 / PERMUTATIONS**0.5)


@pytest.mark.parametrize("horizon", [1, 2])
def test_intervals_against_all_resamples(horizon: int) -> None:
    """Six users can be drawn in 6⁶ ways, all equally likely."""
    ranks = drawn(6, seed=10 + horizon, horizon=horizon, found=0.9)
    differences = np.subtract(*by_user(ranks)[::-1])
    means = differences[np.array(list(product(range(6), repeat=6)))].mean(axis=1)  # [6⁶, metrics]
    found = compare(ranking(ranks[0]), ranking(ranks[1]))
    for tail, name in ((0.025, "low"), (0.975, "high")):
        slack = 4 * (tail * (1 - tail) / RESAMPLES) ** 0.5
        least, most = (np.quantile(means, np.clip(tail + shift, 0, 1), axis=0) for shift in (-slack, slack))
        assert np.all(least - 1e-9 <= column(found, name)), name
        assert np.all(column(found, name) <= most + 1e-9), name


def test_against_scipy() -> None:
    ranks = drawn(400, seed=3, found=0.2)
    ranks[1, :12] = 2  # the second is a little better
    one, two = by_user(ranks)
    found = compare(ranking(ranks[0]), ranking(ranks[1]))

    def gain(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return y.mean(axis=axis) - x.mean(axis=axis)

    how = {"vectorized": True, "axis": 0, "batch": 100, "rng": np.random.default_rng(0)}
    tested = stats.permutation_test((one, two), gain, permutation_type="samples", n_resamples=3000, **how)
    drawn_anew = stats.bootstrap((one, two), gain, paired=True, method="percentile", n_resamples=3000, **how)
    assert column(found, "difference") == pytest.approx(tested.statistic)
    assert 0.001 < column(found, "p").min() < column(found, "p").max() < 0.9
    error = np.sqrt(tested.pvalue * (1 - tested.pvalue) * (1 / 3000 + 1 / PERMUTATIONS))
    assert np.all(np.abs(column(found, "p") - tested.pvalue) < 4 * error + 0.002)
    width = drawn_anew.confidence_interval.high - drawn_anew.confidence_interval.low
    assert np.all(np.abs(column(found, "low") - drawn_anew.confidence_interval.low) < 0.08 * width)
    assert np.all(np.abs(column(found, "high") - drawn_anew.confidence_interval.high) < 0.08 * width)


def test_values_are_those_of_the_metrics() -> None:
    ranks = drawn(300, seed=4, horizon=2)
    found = compare(ranking(ranks[0], "a"), ranking(ranks[1], "b"))
    for name, table in zip(("baseline_value", "value"), ranks, strict=True):
        measured = {(r["metric"], r["k"]): r["value"] for r in metrics_table(ranks_of(table), 10).to_pylist()}
        assert column(found, name) == pytest.approx([measured[key] for key in KEYS])
    assert column(found, "difference") == pytest.approx(
        column(found, "value") - column(found, "baseline_value")
    )
    assert np.all(column(found, "low") < column(found, "difference"))
    assert np.all(column(found, "difference") < column(found, "high"))
    for name, value in (("evaluation", "greedy"), ("baseline", "a"), ("run", "b"), ("users", 300)):
        assert set(found[name].to_pylist()) == {value}


def test_a_run_against_itself() -> None:
    ranks = drawn(200, seed=5)[0]
    found = compare(ranking(ranks), ranking(ranks))
    for name in ("difference", "low", "high"):
        assert not column(found, name).any()
    assert np.all(column(found, "p") == 1)


def test_a_users_result_is_the_mean_over_runs() -> None:
    """One run that finds its two users at ranks 1 and 3, against two runs that find one of them each."""
    one, others = ranking(np.array([1, 3])), [ranking(np.array([1, 0])), ranking(np.array([6, 1]))]
    found = differences([one], others)
    row = KEYS.index(("recall", 5))
    assert (found["baseline_value"][row], found["value"][row], found["difference"][row]) == (1.0, 0.5, -0.5)
    assert (found["low"][row], found["high"][row]) == (-0.5, -0.5)  # both users lose as much
    back = differences(others, [one])
    np.testing.assert_allclose(back["difference"], -np.asarray(found["difference"]))
    np.testing.assert_allclose(back["p"], found["p"])


@pytest.mark.parametrize("runs", [2, 3])
def test_the_same_run_again_adds_nothing(runs: int) -> None:
    one, other = (ranking(ranks) for ranks in drawn(50, seed=0))
    once, again = differences([one], [other]), differences([one] * runs, [other])
    for name in ("value", "difference", "low", "high", "p"):
        np.testing.assert_allclose(again[name], once[name])


def test_p_is_never_zero() -> None:
    """Forty users who all gain: no permutation of ten thousand reaches that."""
    found = compare(ranking(np.full(40, 3)), ranking(np.full(40, 1)))
    assert column(found, "p")[2:].tolist() == [1 / (1 + PERMUTATIONS)] * 2  # NDCG; Recall does not change
    assert column(found, "p")[:2].tolist() == [1, 1]


def test_drawing_part_by_part_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = map(ranking, drawn(60, seed=8, horizon=2))
    whole = compare(one, two)
    for module in (compare_module, metrics_module):
        monkeypatch.setattr(module, "CELLS", 3 * PERMUTATIONS)
    parts = compare(one, two)
    for name in ("low", "high", "p"):
        assert column(parts, name) == pytest.approx(column(whole, name))


def test_the_other_way_round() -> None:
    one, two = map(ranking, drawn(300, seed=6))
    there, back = compare(one, two), compare(two, one)
    assert column(there, "difference") == pytest.approx(-column(back, "difference"))
    assert column(there, "p").tolist() == column(back, "p").tolist()
    width = column(there, "high") - column(there, "low")
    assert np.all(np.abs(column(there, "low") + column(back, "high")) < 0.1 * width)
    assert np.all(np.abs(column(there, "high") + column(back, "low")) < 0.1 * width)


def test_the_order_of_users_changes_nothing_and_pairing_does(tmp_path: Path) -> None:
    ranks, order = drawn(200, seed=7), np.random.default_rng(0).permutation(200)
    expected = compare(ranking(ranks[0]), ranking(ranks[1]))
    assert compare(ranking(ranks[0][order]), ranking(ranks[1][order])).equals(expected)
    alone = compare(ranking(ranks[0]), ranking(ranks[1][order]))  # users of one run mixed up
    assert column(alone, "difference") == pytest.approx(column(expected, "difference"))
    assert np.all(
        column(alone, "high") - column(alone, "low")
        > 1.1 * (column(expected, "high") - column(expected, "low"))
    )
    config = {"split": "test", "beams": 10}
    artifacts.write(tmp_path / "ranks.parquet", "ranks", ranks_of(ranks[0]).take(order), config=config)
    assert (
        compare(read_ranking("run", tmp_path), ranking(ranks[1]))
        .drop("evaluation")
        .equals(expected.drop("evaluation"))
    )


def test_p_is_uniform_where_runs_are_alike_and_small_where_not() -> None:
    """400 comparisons of 150 users whose two results are exchangeable, but correlated."""
    gain = gains_by_rank(10)["ndcg", 10]
    better = []

    def p(ranks: np.ndarray, rng: np.random.Generator) -> float:
        difference = (gain[ranks[1]] - gain[ranks[0]])[:, None]
        return sign_flip_test(difference.sum(axis=0), np.ones(150, int), difference, rng, permutations=400)[0]

    alike = []
    for seed in range(400):
        rng, ranks = np.random.default_rng(1000 + seed), drawn(150, seed)[..., 0]
        ranks = np.where(rng.random(150) < 0.5, ranks, ranks[::-1])
        alike.append(p(ranks, rng))
        if seed < 20:
            better.append(p(np.stack([ranks[0], np.where(rng.random(150) < 0.3, 1, ranks[1])]), rng))
    assert stats.kstest(alike, "uniform").pvalue > 0.01
    assert np.mean(np.array(alike) <= 0.05) == pytest.approx(0.05, abs=0.035)
    assert max(better) < 0.05


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "validation"}, "split test against validation"),
        ({"ranks": np.ones((8, 2), int)}, "horizon 1 against 2"),
        ({"beams": 20}, "list length 10 against 20"),
        ({"ranks": np.ones(7, int)}, "number of targets 8 against 7"),
        ({"user": np.arange(1, 9)}, "column user differs in 8 of 8 rows"),
        ({"target": np.array([0, 0, 0, 5, 0, 0, 0, 0])}, "column target differs in 1 of 8 rows"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_alike_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(
        UserError, match=f"Runs first and second cannot be compared: {message} .*ranks.parquet"
    ):
        compare(
            ranking(np.ones(8, int), "first"),
            ranking(**{"ranks": np.ones(8, int), "run": "second", **changed}),
        )


@pytest.mark.parametrize(
    ("changed", "horizon", "message"),
    [
        ({"dataset": "books"}, None, "--dataset toy against books"),
        ({"train": {"horizon": 2}}, None, "--horizon 1 against 2"),
        ({}, None, None),
    ]
    + [({"train": {"horizon": 2}}, 1, None)],
)
def test_runs_that_cannot_be_alike_are_refused_unevaluated(
    workspace: Workspace, changed: dict, horizon: int | None, message: str | None
) -> None:
    runs = [workspace.run(name) for name in ("first", "second")]
    for run, difference in zip(runs, ({}, changed), strict=True):
        config = {"format": FORMAT_VERSION, "dataset": "toy", "train": {"horizon": 1}}
        artifacts.write_json(run.config, {**config, **difference})
    if message is None:
        check_comparable_runs(runs, horizon)
    else:
        with pytest.raises(UserError, match=f"Runs first and second cannot be compared: {message}"):
            check_comparable_runs(runs, horizon)


def test_lists_too_short_for_any_metric() -> None:
    short = ranking(np.ones(8, int), beams=4)
    with pytest.raises(UserError, match="--beams 4 leaves no Recall or NDCG to compare: use 5 or more"):
        compare(short, short)


def test_a_file_for_each_run_but_the_first(workspace: Workspace) -> None:
    folders = []
    for seed, name in enumerate("abc"):
        folders.append((name, workspace.run(name).evaluation("greedy-k10")))
        table = ranks_of(drawn(50, seed)[0])
        artifacts.write(
            folders[-1][1] / "ranks.parquet", "ranks", table, config={"split": "test", "beams": 10}
        )
    folder, table = compare_runs(workspace, folders)
    assert folder == workspace.root / "comparisons" / "greedy-k10" / "a"
    assert sorted(path.name for path in folder.iterdir()) == ["b.parquet", "c.parquet"]
    assert pa.concat_tables(
        [artifacts.read(folder / f"{name}.parquet", "comparison") for name in "bc"]
    ).equals(table)
    found = artifacts.provenance(folder / "c.parquet")
    assert {name: entry["sha256"] for name, entry in found["inputs"].items()} == {
        "baseline": artifacts.digest(folders[0][1] / "ranks.parquet"),
        "run": artifacts.digest(folders[2][1] / "ranks.parquet"),
    }
    assert (
        found["config"]
        | {"baseline": "a", "run": "c", "split": "test", "beams": 10, "permutations": PERMUTATIONS}
        == found["config"]
    )
    assert artifacts.stale(folder / "c.parquet") is None
    artifacts.write(folders[2][1] / "ranks.parquet", "ranks", ranks_of(drawn(50, 9)[0]), config={"beams": 10})
    assert artifacts.stale(folder / "c.parquet") == "its run changed"
    with pytest.raises(
        UserError, match="does not say of which split .* Evaluate again: maskgr eval c --force"
    ):
        compare_runs(workspace, folders)
    with pytest.raises(UserError, match="ranks.parquet does not exist. Run `maskgr eval d` first"):
        read_ranking("d", workspace.run("d").evaluation("greedy-k10"))


@pytest.mark.parametrize(
    ("columns", "config", "message"),
    [
        ({"position": [0, 0, 1, 2]}, {}, "positions of each user's targets do not count from 0 to 2"),
        ({"position": [0, 1, 0, 2**31 - 1]}, {}, "do not count from 0"),
        ({"position": [0, 1, 0, 1], "user": [0, 0, 0, 1]}, {}, "do not count from 0"),
        ({"position": [-1, -1, -1, -1]}, {}, "do not count from 0"),
        ({}, {"beams": 2**40}, "does not say of which split and list length"),
        ({}, {"beams": "10"}, "does not say of which split and list length"),
        ({}, {"split": 1}, "does not say of which split and list length"),
    ],
)
def test_spoilt_ranks_are_refused(tmp_path: Path, columns: dict, config: dict, message: str) -> None:
    values = {
        **dict.fromkeys(artifacts.SCHEMAS["ranks"], [0] * 4),
        "user": [0, 0, 1, 1],
        "position": [0, 1, 0, 1],
        **columns,
    }
    table = pa.table({name: pa.array(column, pa.int32()) for name, column in values.items()})
    artifacts.write(
        tmp_path / "ranks.parquet", "ranks", table, config={"split": "test", "beams": 10, **config}
    )
    with pytest.raises(UserError, match=message):
        read_ranking("run", tmp_path)
