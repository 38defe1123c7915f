"""The grid: what is done is not done again, what failed is marked, what was killed goes on."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import artifacts
from pipelines.ablate import engine
from pipelines.ablate.grid import GridSettings, cells
from pipelines.ablate.job import Job
from pipelines.ablate.launchers import LocalLauncher
from pipelines.ablate.planning import Inputs, plan_runs
from pipelines.ablate.recipe import Recipe, System
from pipelines.ablate.recipe_file import read
from pipelines.ablate.results import collect
from pipelines.ablate.state import RunResult, run_result
from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.train.configure import configure
from pipelines.train.plan import Plan
from pipelines.workspace import FORMAT_VERSION, Run, Workspace
from tests.ablate.conftest import SMOKE, TOML, Fakes, plan_all, run_grid
from tests.conftest import ListProgress, write_toy


def states(workspace: Workspace, planned: list) -> list[str]:
    return [run_result(workspace, cell).state for cell in planned]


def test_options_of_training_multiply_runs_and_those_of_evaluation_evaluations() -> None:
    settings = GridSettings("smoke", minutes=2.0, seeds=3, options={"nfe": [1, 2], "layers": [1, 2]})
    found = cells(Recipe("own", "Own", ["toy"], ["R@5"], [System("maskgr", "maskgr")]), settings)
    assert len(found) == 12
    assert len({(cell.model_settings, cell.train) for cell in found}) == 6
    assert {cell.train.minutes for cell in found} == {2.0}
    assert {cell.train.steps for cell in found} == {300}  # the preset's, a bound beside the minutes
    assert [cell.label for cell in found[::3]] == [
        f"maskgr · nfe {n} · layers {m}" for n in (1, 2) for m in (1, 2)
    ]


def test_a_budget_s_options_replace_the_others(recipe: Recipe) -> None:
    by_budget = {
        budget: [c for c in cells(recipe, GridSettings(budget)) if c.system == "Digits"][0]
        for budget in ("smoke", "small")
    }
    assert by_budget["smoke"].model_settings.dropout == 0.2
    assert by_budget["small"].model_settings.dropout == 0.3


def test_a_system_may_have_seeds_of_its_own_at_a_budget() -> None:
    system = System("maskgr", "maskgr", seeds={"small": 3})
    recipe = Recipe("own", "Own", ["toy"], ["R@5"], [system, System("sasrec", "sasrec")])
    found = {
        budget: [(c.system, c.seed) for c in cells(recipe, GridSettings(budget))]
        for budget in ("small", "smoke")
    }
    assert found["small"] == [("maskgr", 0), ("maskgr", 1), ("maskgr", 2), ("sasrec", 0)]
    assert found["smoke"] == [("maskgr", 0), ("sasrec", 0)]
    assert len(cells(recipe, GridSettings("small", seeds=2))) == 4


def test_what_is_done_is_not_done_again(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    planned = run_grid(toy, recipe)
    assert states(toy, planned) == ["done"] * 3
    assert len(fakes.trained) == len(fakes.evaluated) == 3
    run_grid(toy, recipe)
    assert len(fakes.trained) == len(fakes.evaluated) == 3
    toy.run(planned[0].run).weights.write_text("other weights")  # the evaluation is of others now
    run_grid(toy, recipe)
    assert fakes.trained[3:] == [planned[0].run]


def test_runs_are_named_by_plan_and_content(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    before = plan_all(toy, recipe)
    assert [cell.run for cell in plan_all(toy, recipe)] == [cell.run for cell in before]
    longer = plan_all(toy, recipe, dataclasses.replace(SMOKE, minutes=1.0))
    assert not {cell.run for cell in longer} & {cell.run for cell in before}
    other = plan_all(toy, recipe, dataclasses.replace(SMOKE, options={"beams": [7]}))
    assert [cell.run for cell in other] == [cell.run for cell in before]
    assert not {cell.key for cell in other} & {cell.key for cell in before}
    write_toy(toy, users=100)  # other sequences under the same name
    assert not {cell.run for cell in plan_all(toy, recipe)} & {cell.run for cell in before}


def test_a_cell_that_cannot_be_run_is_marked_and_the_others_run(toy: Workspace, fakes: Fakes) -> None:
    recipe = read("toy", {**TOML, "datasets": ["books", "toy"]}, "toy.toml")
    fakes.refused = lambda plan: "sasrec is not for toys" if plan.model == "sasrec" else None
    planned = run_grid(toy, recipe)
    assert states(toy, planned) == ["failed"] * 4 + ["done"] * 2
    reasons = [run_result(toy, cell).reason for cell in planned]
    assert "No data set 'books'" in reasons[0]
    assert reasons[3] == "sasrec is not for toys"
    fakes.refused = lambda plan: None
    assert (
        states(toy, run_grid(toy, recipe)) == ["failed"] * 3 + ["done"] * 3
    )  # tried again, and nothing else


def test_a_fault_costs_its_own_cells_alone(
    toy: Workspace, recipe: Recipe, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(workspace: Workspace, plan: Plan, progress: object, **options: Any) -> Run:
        if plan.model == "sasrec":
            raise ZeroDivisionError("a fault")
        return fakes.train_run(workspace, plan, progress, **options)

    monkeypatch.setattr(engine, "train_run", faulty)
    planned = run_grid(toy, recipe)
    assert sorted(states(toy, planned)) == ["done", "done", "failed"]
    failed = next(cell for cell in planned if cell.cell.model == "sasrec")
    log = toy.run_results / "jobs" / f"{failed.run}.log"
    assert str(log) in run_result(toy, failed).reason
    assert "ZeroDivisionError: a fault" in log.read_text()


def test_a_data_set_that_cannot_be_fetched_is_not_asked_for_twice(
    toy: Workspace, recipe: Recipe, fakes: Fakes, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise UserError("no source answers")

    monkeypatch.setattr("pipelines.download.build.download_dataset", unreachable)
    there = dataclasses.replace(SMOKE, datasets=("sports", "toy"))
    for times in (1, 2):
        planned = plan_runs(cells(recipe, there), Inputs(toy, None, True, progress), "smoke", "test")
        assert [bool(cell.reason) for cell in planned] == [True] * 3 + [False] * 3
        assert (
            "no source answers" if times == 1 else "within the last hour. Get it with: maskgr download sports"
        ) in planned[0].reason
    assert progress.messages.count("Fetching sports.") == 1
    assert toy.require_dataset().name == "toy"


def test_a_killed_grid_goes_on_from_the_last_checkpoint(toy: Workspace, progress: ListProgress) -> None:
    options = {"steps": [30], "validations": [3], "beams": [5], "precision": ["fp32"]}
    recipe = Recipe("own", "Own", ["toy"], ["R@5"], [System("sasrec", "sasrec", options)])

    class Killed(ListProgress):
        def say(self, message: str) -> None:
            if message.startswith("step 20"):
                raise SystemExit

    planned = plan_all(toy, recipe)
    with pytest.raises(SystemExit):
        engine.run_all(toy, engine.jobs_of(toy, planned, "test"), Killed())
    assert states(toy, planned) == ["interrupted"]
    (job,) = engine.jobs_of(toy, planned, "test")
    artifacts.write_json(toy.root / "job.json", job.to_dict())
    assert Job.read(toy.root / "job.json") == job
    engine.run_all(toy, [job], progress)
    assert any(
        message.endswith("at step 20.") and message.startswith("Resumed") for message in progress.messages
    )
    assert states(toy, planned) == ["done"]
    assert artifacts.read_json(toy.run(job.run).config)["steps"] == 30


def test_a_dry_run_makes_nothing(toy: Workspace, recipe: Recipe) -> None:
    planned = plan_runs(cells(recipe, SMOKE), Inputs(toy, None, False, Silent()), "smoke", "test")
    assert states(toy, planned) == ["to do"] * 3
    assert not toy.require_dataset().all_sids


def test_a_dry_run_lists_what_is_not_fetched_yet(toy: Workspace) -> None:
    recipe = Recipe("own", "Own", ["toy", "beauty"], ["users"], [System("data"), System("sasrec", "sasrec")])
    planned = plan_runs(cells(recipe, SMOKE), Inputs(toy, None, False, Silent()), "smoke", "test")
    assert states(toy, planned) == ["done", "to do", "to do", "to do"]


def test_steps_take_what_they_took_before(toy: Workspace) -> None:
    """Of runs of other sizes or batches nothing is known; a bound in minutes holds in any case."""
    model_settings, train = configure("sasrec", "smoke", {"steps": 30})
    plan = Plan("toy", None, "sasrec", "smoke", model_settings, train)
    old = {**plan.to_dict(), "format": FORMAT_VERSION, "steps": 10, "seconds": 40.0}
    others = [
        {**old, "seconds": 1.0, "model_settings": {}},
        {**old, "seconds": 2.0, "train": {"batch_size": 7}},
        {**old, "steps": 0},
    ]

    def expected(found: list[dict], plan: Plan) -> float | None:
        for number, values in enumerate(found):
            artifacts.write_json(toy.run(f"run{number}").config, values)
        return engine.expected_minutes([toy.run(f"run{number}") for number in range(len(found))], plan)

    assert expected(others, plan) is None
    assert expected([{**old, "seconds": 400.0}, old, *others], plan) == pytest.approx(30 * 4 / 60)
    both = dataclasses.replace(plan, train=dataclasses.replace(train, minutes=1.5))
    assert expected([old], both) == 1.5
    assert (
        expected([], dataclasses.replace(both, train=dataclasses.replace(train, steps=None, minutes=9.0)))
        == 9.0
    )


def test_nothing_that_can_be_run_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="width 33"):
        cells(recipe, dataclasses.replace(SMOKE, options={"width": [33]}))
    with pytest.raises(UserError, match="name them with --dataset"):
        cells(dataclasses.replace(recipe, datasets=[]), SMOKE)


def test_processes_that_fail_are_marked_with_where_to_look(
    toy: Workspace, recipe: Recipe, progress: ListProgress
) -> None:
    planned = plan_all(toy, recipe)
    code = "import sys; print('on', sys.argv[1]); sys.exit(3)"
    engine.run_all(
        toy,
        engine.jobs_of(toy, planned, "test"),
        progress,
        launcher=LocalLauncher(2),
        command=[sys.executable, "-c", code],
    )
    for cell in planned:
        log = toy.run_results / "jobs" / f"{cell.run}.log"
        reason = f"It ended with exit code 3, a fault of maskgr; see {log}."
        assert run_result(toy, cell) == RunResult("failed", reason)
        assert log.read_text() == f"on {log.with_suffix('.json')}\n"


def test_ctrl_c_ends_the_processes_and_waits_for_them(toy: Workspace, recipe: Recipe, tmp_path: Path) -> None:
    class Interrupted(ListProgress):
        def say(self, message: str) -> None:
            super().say(message)
            if len(self.messages) == 2:
                raise KeyboardInterrupt

    code = (
        f"import pathlib, sys; sys.stdin.read(); "
        f"pathlib.Path({str(tmp_path)!r}, pathlib.Path(sys.argv[1]).stem).touch()"
    )
    jobs = engine.jobs_of(toy, plan_all(toy, recipe), "test")
    with pytest.raises(KeyboardInterrupt):
        engine.run_all(
            toy, jobs, Interrupted(), launcher=LocalLauncher(2), command=[sys.executable, "-c", code]
        )
    assert {path.name for path in tmp_path.glob("toy-*")} == {jobs[0].run, jobs[1].run}


def test_dependence_between_digits_is_measured_of_each_run(toy: Workspace, progress: ListProgress) -> None:
    """The means that the grid reports are those of the diagnosis, which the engine asks for once a run."""
    options = {"steps": [2], "sids": [2], "codebook": [16], "beams": [5, 6], "precision": ["fp32"]}
    recipe = Recipe(
        "own", "Own", ["toy"], ["dependence", "joint loss", "R@5"], [System("maskgr", "maskgr", options)]
    )
    planned = plan_all(toy, recipe)
    engine.run_all(toy, engine.jobs_of(toy, planned, "test"), progress)
    rows = collect(toy, recipe, planned, "smoke").to_pylist()
    (folder,) = (toy.run(planned[0].run).path / "eval").glob("diagnosis-*")
    measured = artifacts.read(folder / "diagnosis.parquet", "diagnosis").to_pylist()
    pairs = [row["value"] for row in measured if row["measure"] == "dependence"]
    lost = {
        row["value"]
        for row in measured
        if (row["measure"], row["order"], row["evaluations"]) == ("joint_loss", "greedy", 1)
    }
    assert len(pairs) == 3 * 2
    expected = {"dependence": sum(pairs) / 6, "joint loss": lost.pop()}
    for metric, value in expected.items():
        assert [row["value"] for row in rows if row["metric"] == metric] == [pytest.approx(value)] * 2
    assert not any("Beam search" in message for message in progress.messages)


def test_a_run_that_cannot_be_diagnosed_has_its_other_figures(toy: Workspace, progress: ListProgress) -> None:
    options = {"steps": [2], "sids": [2], "codebook": [16], "beams": [5], "precision": ["fp32"]}
    softmax = options | {"likelihood": ["item"], "tokens": ["item"], "attention": ["prefix"]}
    systems = [System("apart", "maskgr", options), System("softmax", "maskgr", softmax)]
    recipe = Recipe("own", "Own", ["toy"], ["dependence", "R@5"], systems)
    planned = plan_all(toy, recipe)
    engine.run_all(toy, engine.jobs_of(toy, planned, "test"), progress)
    rows = collect(toy, recipe, planned, "smoke").to_pylist()
    has = {(row["system"], row["metric"]): row["value"] is not None for row in rows}
    assert has == {
        **{("apart", metric): True for metric in ("dependence", "R@5")},
        **{("softmax", "dependence"): False, ("softmax", "R@5"): True},
    }
    assert any("is not diagnosed: --diagnose measures" in message for message in progress.messages)
