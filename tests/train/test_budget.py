"""When a training ends, how its learning rate fits that, and what a person is told of time. The clock is made
up.
"""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.train import loop, pace
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure
from pipelines.train.pace import Pace, format_duration
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.schedule import learning_rate
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan


def rate(used: float, **changes: object) -> float:
    config = TrainConfig(steps=100, learning_rate=1.0, warmup=0.1, final_rate=0.2, **changes)
    return learning_rate(config, used)


def test_the_learning_rate_rises_and_falls() -> None:
    assert rate(0.05) == pytest.approx(0.5)
    assert rate(0.1) == pytest.approx(1.0)
    assert rate(0.55) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 2)) / 2)
    assert rate(1.0) == pytest.approx(0.2)
    assert rate(0.1, decay=0.4) == rate(0.6, decay=0.4) == pytest.approx(1.0)
    assert rate(0.8, decay=0.4) == pytest.approx(0.2 + 0.8 / 2)
    assert rate(1.0, decay=0.4) == pytest.approx(0.2)


def test_it_may_fall_in_a_line() -> None:
    assert [rate(used, decay_shape="linear") for used in (0.05, 0.1, 0.325, 0.55, 1.0)] == pytest.approx(
        [0.5, 1.0, 0.8, 0.6, 0.2]
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes at every look at the clock, of which a step takes one and a validation a few."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


def values(monkeypatch: pytest.MonkeyPatch, *recalls: float) -> None:
    """What validations will find, one after another."""
    found = iter(recalls)
    monkeypatch.setattr("pipelines.train.validation.Validator.recall", lambda self: next(found))


def config_of(run: Run) -> dict:
    return json.loads(run.config.read_text())


def rates(run: Run) -> list[float]:
    return [
        row["value"]
        for row in artifacts.read(run.history, "history").to_pylist()
        if row["measure"] == "learning_rate"
    ]


@pytest.mark.parametrize("steps", [None, 5000])
def test_minutes_bound_the_steps(
    toy: Workspace,
    sids: str,
    progress: ListProgress,
    clock: None,
    monkeypatch: pytest.MonkeyPatch,
    steps: int | None,
) -> None:
    """The schedule fits the bound that binds, and a run cut off while validation rose says so."""
    values(monkeypatch, 0.1, 0.2)
    run = train_run(toy, plan(sids, steps=steps, minutes=1.0, validations=2), progress)
    found = config_of(run)
    assert found["state"] == "finished"
    assert 45 < found["steps"] < 60
    assert (
        55 < found["seconds"] < 65
    )  # of a clock that counts looks, not all of which a last validation foresees
    assert rates(run)[-1] < 0.01 * max(rates(run))
    of = " of 5,000" if steps else ""
    message = (
        "Validation was still rising when --minutes 1 ended the training at step "
        f"{found['steps']}{of}: give it more time."
    )
    assert message in progress.messages
    if steps:
        assert any(
            " of 5,000 steps fit into --minutes 1 on this machine (" in line for line in progress.messages
        )


def test_the_minutes_hold_the_last_validation(
    toy: Workspace, sids: str, progress: ListProgress, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a minute whose validations take ten seconds each, training leaves as many for the last."""
    monkeypatch.setattr(
        "pipelines.train.validation.Validator.recall",
        lambda self: 0.1 * min(loop.time.monotonic() for _ in range(10)),
    )
    run = train_run(toy, plan(sids, steps=None, minutes=1.0, validations=2), progress)
    assert 55 < config_of(run)["seconds"] < 65
    assert config_of(run)["steps"] < 45


def test_steps_bound_the_minutes(
    toy: Workspace, sids: str, progress: ListProgress, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values(monkeypatch, 0.2)
    run = train_run(toy, plan(sids, steps=30, minutes=10.0, validations=1), progress)
    assert config_of(run)["steps"] == 30
    assert rates(run)[-1] == 0
    assert not any("still rising" in message for message in progress.messages)
    assert (
        f"About 19 s for 19 steps on this machine ({artifacts.machine()}), validation not counted."
        in progress.messages
    )


def test_nothing_is_said_of_rising_where_it_fell(
    toy: Workspace, sids: str, progress: ListProgress, clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values(monkeypatch, 0.2, 0.1)
    train_run(toy, plan(sids, steps=5000, minutes=1.0, validations=2), progress)
    assert not any("still rising" in message for message in progress.messages)


def test_steps_make_a_run_the_same_at_any_speed(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, validations and learning rates of a machine that is a hundred times slower: bit for bit."""
    found = []
    for seconds in (1, 100):
        ticks = itertools.count(step=seconds)
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda ticks=ticks: float(next(ticks))))
        run = train_run(toy, plan(sids, patience=3), progress, name=f"by-{seconds}")
        history = artifacts.read(run.history, "history").to_pylist()
        found.append(
            (
                run.weights.read_bytes(),
                [row for row in history if row["measure"] != "seconds"],
                config_of(run)["best"],
            )
        )
    assert found[0] == found[1]


def test_patience_stops_and_keeps_the_best(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    values(monkeypatch, 0.3, 0.5, 0.4, 0.2, 0.9)
    run = train_run(toy, plan(sids, steps=100, validations=10, patience=2), progress)
    assert config_of(run)["best"] == {"step": 20, "recall@10": 0.5}
    assert config_of(run)["steps"] == 40
    assert "Ended at step 40: 2 validations in a row without a better one (--patience)." in progress.messages


def test_what_is_typed_replaces_steps_and_adds_minutes() -> None:
    _, preset = configure("maskgr", "small", {})
    _, longer = configure("maskgr", "small", {"steps": 9})
    _, bounded = configure("maskgr", "small", {"minutes": 2.0})
    assert (longer.steps, longer.minutes) == (9, None)
    assert (bounded.steps, bounded.minutes) == (preset.steps, 2.0)


def test_the_last_items_mean_nothing_where_each_ends_a_window(sids: str) -> None:
    assert plan(sids, windows="last").train.windows == "last"
    with pytest.raises(UserError, match="--windows last means nothing to --model tiger"):
        Plan("toy", sids, "tiger", "paper", *configure("tiger", "paper", {"windows": "last"}))


def test_the_first_steps_tell_the_time() -> None:
    """The first step is left out; twenty tell it, or those of ten seconds, and never fewer than two."""
    quick, slow = Pace(1000, None), Pace(1000, None)
    said = [quick.estimate(step, 100.0 + 0.5 * step) for step in range(1, 1000)]
    assert [number for number, line in enumerate(said, start=1) if line] == [1 + pace.STEPS]
    assert (
        said[pace.STEPS]
        == f"About 8.2 min for 979 steps on this machine ({artifacts.machine()}), validation not counted."
    )
    said = [slow.estimate(step, 3600.0 * step) for step in range(301, 310)]
    assert [bool(line) for line in said] == [False, False, True] + [False] * 6
    assert said[2].startswith("About 29 days for 697 steps")
    assert Pace(None, 5).estimate(500, 100.0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (3599, "60 min"),
        (7200, "2.0 h"),
        (172_799, "48 h"),
        (9e6, "104 days"),
    ],
)
def test_a_time_is_spoken_in_its_largest_unit(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
