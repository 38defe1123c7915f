"""Launchers of a grid's jobs, and claims: whoever starts the jobs, and however often, each is done once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines.ablate import engine
from pipelines.ablate.launchers import (
    Launcher,
    LocalLauncher,
    RayLauncher,
    SlurmLauncher,
    Task,
    launcher_of,
    take,
)
from pipelines.ablate.recipe import Recipe
from pipelines.durable import claimed
from pipelines.errors import UserError
from pipelines.workspace import Run, Workspace
from tests.ablate.conftest import Fakes, plan_all
from tests.conftest import PATIENCE, ListProgress

CODE = "import sys; print('done', sys.argv[1]); sys.exit(int(sys.argv[1]))"


def tasks_of(folder: Path, codes: tuple[int, ...] = (0, 3)) -> list[Task]:
    """Return tasks that print and end with the given exit codes."""
    return [
        Task(
            f"task-{code}",
            [sys.executable, "-c", CODE, str(code)],
            folder / f"{code}.log",
            folder / f"{code}.lock",
        )
        for code in codes
    ]


def check(launcher: Launcher, folder: Path) -> None:
    tasks, started = tasks_of(folder), []
    ended = {task.name: code for task, code in launcher.run(tasks, started.append)}
    assert ended == {"task-0": 0, "task-3": 3}
    assert started == tasks
    assert [task.log.read_text() for task in tasks] == ["done 0\n", "done 3\n"]


def test_processes_of_this_machine(tmp_path: Path) -> None:
    check(LocalLauncher(2), tmp_path)


def test_jobs_of_slurm_by_the_local_executor_of_submitit(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    check(SlurmLauncher(tmp_path / "submitit", options={"timeout_min": 10}, cluster="local"), tmp_path)


def test_options_that_submitit_does_not_know_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launcher = SlurmLauncher(tmp_path / "submitit", options={"colour": "red"}, cluster="local")
    with pytest.raises(UserError, match="--launcher slurm: .*colour.*Look at --launcher-options"):
        list(launcher.run(tasks_of(tmp_path), lambda task: None))


def test_tasks_of_ray_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    check(RayLauncher(jobs=1), tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("slurm", {}, r"needs the package submitit. Install it with: pip install 'maskgr\[slurm\]'"),
        ("ray", {}, r"needs the package ray. Install it with: pip install 'maskgr\[ray\]'"),
        ("local", {"num_cpus": 2}, "--launcher-options are options of a scheduler"),
    ],
)
def test_a_scheduler_that_is_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], message: str
) -> None:
    for package in ("submitit", "ray"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=message):
        launcher_of(kind, None, options, tmp_path)


def test_options_of_a_scheduler_are_pairs(toy: Workspace) -> None:
    arguments = [
        "ablate",
        "--workspace",
        str(toy.root),
        "--launcher",
        "ray",
        "--launcher-options",
        "num_cpus",
    ]
    with pytest.raises(UserError, match="'num_cpus' is not KEY=VALUE"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_task_that_nobody_works_on_comes_first(tmp_path: Path) -> None:
    waiting = tasks_of(tmp_path, (0, 1, 2))
    with claimed(waiting[0].claim):
        assert [take(waiting).name for _ in range(3)] == ["task-1", "task-2", "task-0"]


def test_two_commands_do_each_run_of_a_grid_once(
    toy: Workspace, recipe: Recipe, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command does what the first one does not work on, and then waits for it."""
    jobs = engine.jobs_of(toy, plan_all(toy, recipe), "test")
    assert len(jobs) == 3
    reached, go, said = threading.Event(), threading.Event(), ListProgress()

    def slow(workspace: Workspace, plan: Any, progress: object, **options: Any) -> Run:
        if options["name"] == jobs[0].run:
            reached.set()
            assert go.wait(PATIENCE)
        return fakes.train_run(workspace, plan, progress, **options)

    monkeypatch.setattr(engine, "train_run", slow)
    first = threading.Thread(target=engine.run_all, args=(toy, jobs[:1], ListProgress()))
    first.start()
    assert reached.wait(PATIENCE)

    class Second(ListProgress):
        def say(self, message: str) -> None:
            said.say(message)
            if message.startswith("Waiting"):
                go.set()

    engine.run_all(toy, jobs, Second())
    first.join()
    assert [message.split(": ")[-1] for message in said.messages[:3]] == [
        jobs[1].run,
        jobs[2].run,
        jobs[0].run,
    ]
    assert said.messages[3:] == [
        f"Waiting for another command that works on {jobs[0].run}.",
        f"{jobs[0].run} was done by another command.",
    ]
    assert sorted(fakes.trained) == sorted(job.run for job in jobs)
    assert len(fakes.evaluated) == 3
    assert not [*toy.run_results.rglob("*.lock")]
