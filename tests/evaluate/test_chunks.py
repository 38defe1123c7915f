"""Evaluation in chunks of users: the same recommendations, ranks and metrics as in one piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.artifact_parts import read_parts, write_parts
from pipelines.data import stored
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.external import Lists, settings_for
from pipelines.evaluate.metrics import metrics_table
from pipelines.evaluate.run import Evaluation, evaluate_run
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan, write_sids

FILES = {"ranks": "ranks", "recommendations": "recommendations", "metrics": "metrics"}


@pytest.fixture
def run(toy: Workspace, progress: ListProgress) -> Run:
    return train_run(toy, plan(write_sids(toy), cold=0.1, steps=4, validations=1), progress, name="run")


def evaluated(toy: Workspace, run: Run, progress: ListProgress, **settings: object) -> Evaluation:
    config = EvalConfig(Decoding(beams=10), precision="fp32", **settings)
    return evaluate_run(toy, run, config, progress, force=True)


def contents(found: Evaluation) -> dict[str, pa.Table]:
    return {name: artifacts.read(found.folder / f"{name}.parquet", kind) for name, kind in FILES.items()}


def test_chunks_change_nothing(
    toy: Workspace, run: Run, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluated(toy, run, progress)
    expected = contents(whole)
    for name in ("ranks", "metrics"):  # as if they were written in one piece
        assert artifacts.digest(whole.folder / f"{name}.parquet") == artifacts.table_digest(expected[name])
    monkeypatch.setattr(stored.StoredSequences.chunks, "__defaults__", (64,))
    found = evaluated(toy, run, progress)
    assert pq.ParquetFile(found.folder / "ranks.parquet").num_row_groups == 4
    in_chunks = contents(found)
    assert in_chunks["ranks"].equals(expected["ranks"])
    assert in_chunks["metrics"].equals(expected["metrics"])
    assert {"cold_recall", "warm_recall"} <= {*in_chunks["metrics"]["metric"].to_pylist()}
    assert in_chunks["recommendations"]["items"].equals(expected["recommendations"]["items"])
    np.testing.assert_allclose(
        *(table["recommendations"]["scores"].combine_chunks().flatten() for table in (in_chunks, expected)),
        rtol=1e-5,
    )
    assert found.popularity.equals(whole.popularity)
    assert artifacts.stale(found.folder / "ranks.parquet") is None


def test_a_sample_of_users_is_part_of_all(toy: Workspace, run: Run, progress: ListProgress) -> None:
    every = contents(evaluated(toy, run, progress))["ranks"].to_pylist()
    found = evaluated(toy, run, progress, users=50)
    assert found.folder.name == "users50-greedy-k10-constrained"
    ranks = contents(found)["ranks"].to_pylist()
    assert len(ranks) == 50 == found.metrics["users"][0].as_py()
    by_user = {row["user"]: row for row in every}
    assert [by_user[row["user"]] for row in ranks] == ranks
    again = contents(evaluated(toy, run, progress, users=50))["ranks"].to_pylist()
    assert again == ranks
    assert len(contents(evaluated(toy, run, progress, users=10_000))["ranks"]) == 200


def test_a_sample_is_refused_where_it_has_no_effect(
    toy: Workspace, run: Run, progress: ListProgress, tmp_path: Path
) -> None:
    config = EvalConfig(users=5)
    with pytest.raises(UserError, match="--users has no effect on --diagnose"):
        diagnose_run(toy, run, config, progress)
    none = np.zeros(0, np.int64)
    with pytest.raises(UserError, match="--users has no effect on --recommendations"):
        settings_for(Lists(tmp_path / "lists.csv", none, none, none), config, progress)


def test_metrics_of_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 11, 400) for name in ("rank", "invalid", "duplicates", "target")}
    columns |= {"user": np.repeat(np.arange(200), 2), "position": np.tile([0, 1], 200)}
    table = pa.table({name: pa.array(columns[name], pa.int32()) for name in artifacts.SCHEMAS["ranks"]})
    for k, warm in ((2, None), (1, np.arange(4))):
        part = table if k == 2 else table.filter(pa.array(columns["position"] == 0))
        parts = [part.slice(start, 20 * k) for start in range(0, len(part), 20 * k)]
        assert metrics_table(iter(parts), 10, warm_items=warm).equals(
            metrics_table(part, 10, warm_items=warm)
        )


def test_an_artifact_in_parts_is_one_artifact(toy: Workspace) -> None:
    path, table = toy.root / "ranks.parquet", pa.table({
        name: pa.array(range(10), pa.int32()) for name in artifacts.SCHEMAS["ranks"]
    })  # fmt: skip
    with write_parts(path, "ranks", config={"a": 1}) as parts:
        parts.add(table)
    assert artifacts.digest(path) == artifacts.table_digest(table)
    with write_parts(path, "ranks", config={"a": 1}) as parts:
        parts.add(table.slice(0, 4))
        parts.add(table.slice(4))
    assert artifacts.provenance(path)["config"] == {"a": 1}
    assert artifacts.read(path, "ranks").equals(table)
    assert [len(part) for part in read_parts(path, "ranks", rows=4)] == [4, 4, 2]
    before = path.read_bytes()
    with pytest.raises(UserError, match="no rows"), write_parts(path, "ranks", config={}):
        pass
    with pytest.raises(UserError, match="has no column"), write_parts(path, "ranks", config={}) as parts:
        parts.add(table.slice(0, 4))
        parts.add(table.drop(["rank"]))
    with pytest.raises(KeyboardInterrupt), write_parts(path, "ranks", config={}) as parts:
        parts.add(table)
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.glob("*.tmp")) == []


def test_an_artifact_in_parts_counts_its_rows_over_them(toy: Workspace) -> None:
    path, numbers = toy.root / "made.parquet", pa.array(range(10), pa.int32())
    table = pa.table(
        {"user": numbers, "user_id": numbers, "items": pa.array([[1]] * 10, pa.list_(pa.int32()))}
    )
    with write_parts(path, "sequences", config={}) as parts:
        parts.add(table.slice(0, 4))
        parts.add(table.slice(4))
    with (
        pytest.raises(UserError, match="row 4 holds 5"),
        write_parts(path, "sequences", config={}) as parts,
    ):
        parts.add(table.slice(0, 4))
        parts.add(table.slice(5))
