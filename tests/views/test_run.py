"""`maskgr show RUN`: curves, departures from the preset, metrics of all evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maskgr_cli.sparkline import sparkline
from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.inventory import stale_evaluations
from pipelines.views.curve_plot import figure_of
from pipelines.views.run import Curve, Departure, curves, departures
from pipelines.workspace import Workspace
from tests.test_inventory import full as full  # a fixture
from tests.train.test_leakage import plan_of
from tests.views.conftest import write_history


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([3.0], "▄"),
        ([2.0, 2.0], "▄▄"),
        ([0.0, 7.0], "▁█"),
        ([*range(8)], "▁▂▃▄▅▆▇█"),
        ([7.0, 0.0, 3.5], "█▁▅"),
    ],
)
def test_bars_go_from_the_lowest_to_the_highest_value(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


def test_many_values_are_averaged_in_groups() -> None:
    assert sparkline([0, 2, 4, 4, 6, 8], width=3) == sparkline([1, 4, 7])
    assert len(sparkline([*range(1000)])) == 40


def test_the_curves_are_those_recorded(full: Workspace) -> None:
    run = full.run("first")
    assert curves(run) == []
    write_history(run)
    assert curves(run) == [
        Curve("loss", [1, 20, 60], [9.0, 7.0, 6.5]),
        Curve("recall@10", [20, 60], [0.05, 0.0625]),
        Curve("learning_rate", [1, 20], [0.01, 0.02]),
    ]
    figure = figure_of(curves(run), "first")
    lines = {axes.get_ylabel(): axes.lines[0].get_xydata().tolist() for axes in figure.axes}
    assert lines["validation Recall@10 (%)"] == [[20, 5.0], [60, 6.25]]
    assert lines["loss"] == [[1, 9.0], [20, 7.0], [60, 6.5]]


def test_departures_are_what_was_set(toy: Workspace) -> None:
    plan = plan_of(toy, "sasrec", {"width": 16, "dropout": 0.5}, {"steps": 7, "seed": 3})
    config = {**plan.to_dict(), "preset": "smoke"}
    smoke = {d.option: d for d in departures(config)}  # type: ignore[arg-type]
    assert smoke["width"] == Departure("width", 16, 32)
    assert smoke["seed"] == Departure("seed", 3, 0)
    assert smoke["steps"] == Departure("steps", 7, 300)
    assert all(d.value != d.preset for d in smoke.values())
    assert departures({}) == departures({**config, "preset": "old"}) == []  # type: ignore[arg-type, typeddict-item]


def test_a_preset_does_not_depart_from_itself() -> None:
    from pipelines.train.configure import configure
    from pipelines.train.plan import Plan

    for preset in ("small", "smoke"):
        plan = Plan("toy", "s", "maskgr", preset, *configure("maskgr", preset, {}))
        assert departures(plan.to_dict()) == []  # type: ignore[arg-type]


def test_show_prints_all_of_a_run_in_every_format(full: Workspace, typed: Callable[..., str]) -> None:
    write_history(full.run("first"))
    shown = typed("show", "first")
    assert "What differs from the" in shown and "│ steps  │        7 │    300 │" in shown
    assert "█▂▁" in shown and "5.12 ±1.00" in shown
    content = json.loads(typed("show", "first", "--format", "json"))
    assert [*content] == ["settings", "members", "preset", "curves", "evaluations", "targets"]
    assert content["members"] == []
    assert content["preset"] == [{"option": "steps", "value": 7, "preset_value": 300}]
    assert content["curves"][1] == {"measure": "recall@10", "steps": [20, 60], "values": [0.05, 0.0625]}
    assert content["evaluations"][0]["recall@10_low"] == 0.04
    latex = typed("show", "first", "--format", "latex")
    assert "steps & 7 & 300" in latex and "█" not in latex


def test_the_plot_is_a_png(full: Workspace, typed: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has recorded no curves"):
        typed("show", "first", "--output", "c.png")
    write_history(full.run("first"))
    typed("show", "first", "--output", "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    for arguments in (["show", "--output", "c.png"], ["show", "first", "--output", "c.pdf"]):
        with pytest.raises(UserError, match="--output c."):
            typed(*arguments)


def test_stale_evaluations_are_named(full: Workspace) -> None:
    run = full.run("first")
    assert stale_evaluations(full, run) == {}
    dataset = full.dataset("toy")
    sequences = artifacts.read(dataset.sequences, "sequences")
    artifacts.write(dataset.sequences, "sequences", sequences.slice(0, 150), config={})
    assert stale_evaluations(full, run) == {"greedy-t3": "its sequences changed"}
