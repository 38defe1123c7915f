"""The ablation of the `small` preset: options that exist, curves read from runs, a picture of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import levers
from pipelines import artifacts
from pipelines.train.configure import configure
from pipelines.train.run import Plan
from pipelines.workspace import Workspace


def plan(options: list[str]) -> Plan:
    """What the command line makes of a lever's options."""
    settings, words = {}, iter(options)
    for word in words:
        if word.startswith("--no-"):
            settings[word.removeprefix("--no-").replace("-", "_")] = False
        else:
            value = next(words)
            settings[word.removeprefix("--").replace("-", "_")] = value if value.isalpha() else float(value) if "." in value else int(value)
    return Plan("beauty", "any", "maskgr", "small", *configure("maskgr", "small", settings))


def test_every_lever_is_a_plan_of_its_own() -> None:
    """None is refused, and none is the preset under another name."""
    plans = [plan(options) for options in levers.LEVERS.values()]
    assert plans[0] == plan([])
    for one, other in itertools.combinations(plans, 2):
        assert one != other


def test_a_curve_is_a_runs_validations_against_its_minutes(workspace: Workspace) -> None:
    run = workspace.run("lever-small-1-0")
    rows = [(10, "seconds", 60.0), (20, "seconds", 180.0), (15, "recall@10", 0.25), (20, "recall@10", 0.5), (20, "loss", 1.0)]
    step, measure, value = zip(*rows, strict=True)
    table = pa.table({"step": pa.array(step, pa.int64()), "measure": measure, "value": pa.array(value, pa.float64())})
    artifacts.write(run.history, "history", table, config={})
    artifacts.write_json(run.config, {"commit": "abc"})
    points = levers.curve(workspace, run.name, "small", 0)
    assert [(r["step"], r["minutes"], r["recall@10"]) for r in points] == [(15, pytest.approx(2.0), 0.25), (20, pytest.approx(3.0), 0.5)]
    assert {(r["lever"], r["seed"], r["commit"]) for r in points} == {("small", 0, "abc")}


def test_the_picture_has_a_panel_a_lever(tmp_path: Path) -> None:
    names = [*levers.LEVERS][:5]
    curves = [
        {"lever": name, "seed": seed, "step": step, "minutes": step / 10, "recall@10": step / 1000, "commit": "abc"}
        for name in names
        for seed in range(2)
        for step in (10, 20)
    ]
    levers.draw(curves, names, tmp_path / "levers.png", "title")
    assert (tmp_path / "levers.png").read_bytes()[:4] == b"\x89PNG"


def test_seeds_train_side_by_side_and_a_failure_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A core each, as many at a time as there are; the runs are those asked for."""
    monkeypatch.setattr(levers.os, "sched_getaffinity", lambda _: {0})
    for code, fails in ((0, False), (1, True)):
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\necho "$OMP_NUM_THREADS $@" >> {tmp_path}/asked\nexit {code}\n')
        program.chmod(0o755)
        monkeypatch.setattr(levers.sys, "executable", str(program))
        if fails:
            with pytest.raises(SystemExit, match="A run failed"):
                levers.side_by_side([["--name", "a"]])
        else:
            levers.side_by_side([["--name", "a"], ["--name", "b"]])
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:2] == [f"1 -m maskgr_cli.app train --dataset beauty --name {name}" for name in "ab"]
