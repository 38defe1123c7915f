"""Import, training and evaluation as typed, with both splits of the same log."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
DAY = 86_400
TRAIN = ("--preset", "smoke", "--steps", 4, "--validations", 1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """90 users of 5 to 9 items on days of their own, of 100."""
    rng, rows = np.random.default_rng(0), []
    for user in range(90):
        days = np.sort(rng.integers(0, 100, rng.integers(5, 10)))
        rows += [(f"u{user}", f"i{rng.integers(30)}", 1_600_000_000 + DAY * int(day)) for day in days]
    path = tmp_path / "log.csv"
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(path)
    return path


def done(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def refused(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 2, ran.stdout + ran.stderr
    return " ".join(ran.stderr.split())


def test_both_splits_from_import_to_evaluation(maskgr: Run, log: Path, tmp_path: Path) -> None:
    done(maskgr("import", "last", "--interactions", log))
    said = done(
        maskgr("import", "timed", "--interactions", log, "--split", "temporal", "--test-from", "2020-12-10")
    )
    assert "Temporal split, test from 2020-12-10 00:00:00" in said
    shown = json.loads(done(maskgr("show", "--format", "json")))["datasets"]
    assert [row["split"].split(" ")[0] for row in shown] == ["leave-one-out", "temporal"]
    users = {}
    for name in ("last", "timed"):
        done(maskgr("embed", "--dataset", name, "--encoder", "interactions"))
        done(maskgr("train", "--dataset", name, *TRAIN, "--sids", 1, "--codebook", 8, "--name", name))
        ran = maskgr("eval", name, "--format", "json")
        said = done(ran)
        metrics = json.loads(ran.stdout)["metrics"]
        users[name] = {row["run"]: row["users"] for row in metrics}
        assert ("timed, temporal split" in said) == (name == "timed")
    assert users["last"] == {"last": 90, "popularity": 90}
    times = pl.read_csv(log).group_by("user").agg(pl.col("time"))["time"].to_list()
    late = [row for row in times if max(row) >= 1_607_558_400]  # 2020-12-10
    assert 0 < users["timed"]["timed"] == users["timed"]["popularity"] <= len(late) < 90
    config = json.loads((tmp_path / "workspace" / "runs" / "timed" / "config.json").read_text())
    assert config["split"]["test_from"] == 1_607_558_400
    done(maskgr("train", "--dataset", "timed", "--model", "cooccurrence", *TRAIN[:2], "--name", "counted"))
    done(maskgr("ensemble", "both", "timed", "counted", "--weights", "validation"))
    assert "without all interactions from" in done(maskgr("recommend", "both", "--user", "u1"))
    entries = [(f"u{user}", f"i{item}") for user in range(90) for item in range(10)]
    pl.DataFrame(entries, schema=["user_id", "item_id"], orient="row").write_csv(tmp_path / "lists.csv")
    lists = maskgr("eval", "both", "--recommendations", tmp_path / "lists.csv", "--format", "json")
    done(lists)
    assert {row["users"] for row in json.loads(lists.stdout)["metrics"]} == {users["timed"]["timed"]}
    done(maskgr("train", "--final", "timed"))


def test_a_test_period_without_targets_is_said(maskgr: Run, log: Path, tmp_path: Path) -> None:
    """Once all users with an interaction in it have left the data set."""
    done(maskgr("import", "timed", "--interactions", log, "--split", "temporal", "--test-from", "2020-12-10"))
    late = pl.read_csv(log).filter(pl.col("time") >= 1_607_558_400)["user"].unique().to_list()
    (tmp_path / "late.txt").write_text("\n".join(late))
    done(maskgr("data", "forget", "--user", f"@{tmp_path / 'late.txt'}", "--yes"))
    left = sorted({*pl.read_csv(log)["user"]} - {*late})
    pl.DataFrame({"user_id": left, "item_id": "i1"}).write_csv(tmp_path / "lists.csv")
    told = refused(maskgr("eval", "--recommendations", tmp_path / "lists.csv"))
    assert "nothing to measure. Temporal split, test from 2020-12-10 00:00:00: 0 interactions" in told


def test_a_temporal_split_without_times_is_refused(maskgr: Run, log: Path, tmp_path: Path) -> None:
    temporal = ("--split", "temporal")
    told = refused(maskgr("import", "shop", "--interactions", log, "--time-column", "none", *temporal))
    assert "have no times, only an order" in told
    told = refused(maskgr("import", "shop", "--sequences", tmp_path, "--items", log, *temporal))
    assert "--split has no effect on --sequences" in told
    assert "needs --split temporal" in refused(
        maskgr("import", "shop", "--interactions", log, "--validation-from", "0.5")
    )
