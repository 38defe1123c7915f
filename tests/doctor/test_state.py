"""What is wrong with a workspace, and that the commands mend it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines import artifacts
from pipelines.doctor import mend, state
from pipelines.doctor.report import BROKEN, LEFT_OVER, STALE, UNFINISHED
from pipelines.durable import locked, staging
from pipelines.train.configure import configure
from pipelines.train.plan import Plan
from pipelines.workspace import FORMAT_VERSION, Run, Workspace
from tests.conftest import write_toy
from tests.housekeeping.conftest import DECODING
from tests.housekeeping.conftest import compared as compared  # a fixture


def write_config(workspace: Workspace, name: str, **changes: Any) -> Run:
    """Write the config.json of a run without semantic IDs."""
    run = workspace.run(name)
    config = {"format": FORMAT_VERSION, "dataset": "toy", "sids": None, "inputs": {}}
    artifacts.write_json(run.config, config | changes)
    return run


def problems(workspace: Workspace) -> list[tuple[str, str]]:
    return [(problem.kind, problem.subject) for problem in state.problems(workspace)]


def test_a_workspace_in_order(compared: Workspace) -> None:
    for name in ("first", "second"):
        compared.run(name).weights.write_bytes(b"weights")
    assert state.problems(compared) == []
    assert state.in_use(compared) == []
    facts, found = state.facts(compared)
    assert found == []
    values = {fact.name: fact.value for fact in facts}
    assert (values["format"], values["current data set"]) == (FORMAT_VERSION, "toy")
    sizes = {size.kind: size for size in state.sizes(compared)}
    counts = {kind: size.count for kind, size in sizes.items() if size.count}
    assert counts == {
        "data set": 1,
        "embeddings": 1,
        "semantic IDs": 1,
        "run": 2,
        "evaluation": 2,
        "comparison": 1,
        "study": 1,
    }
    files = sum(path.stat().st_size for path in compared.root.rglob("*") if path.is_file())
    assert sum(size.bytes for size in sizes.values()) == files - compared.config.stat().st_size
    assert sizes["run"].bytes == sum(
        path.stat().st_size for path in (compared.root / "runs").glob("*/*") if path.is_file()
    )


def test_what_is_damaged_is_broken_and_what_is_old_is_stale(compared: Workspace) -> None:
    dataset = compared.dataset("toy")
    compared.run("first").config.write_text("{")
    dataset.sids("lsa-2x10").write_bytes(b"PAR1")
    dataset.interactions.unlink()
    found = {subject: kind for kind, subject in problems(compared)}
    assert found == {
        "datasets/toy": STALE,  # its sequences say that their interactions are gone
        "datasets/toy/sids/lsa-2x10": BROKEN,
        "runs/first": BROKEN,
        f"runs/first/eval/{DECODING}": STALE,
        "runs/second": BROKEN,  # it has no weights
        f"runs/second/eval/{DECODING}": STALE,
    }
    dataset.items.write_bytes(b"")
    assert (BROKEN, "datasets/toy") in problems(compared)


@pytest.mark.parametrize(
    ("changes", "kind", "command"),
    [
        ({"state": "interrupted", "steps": 5}, UNFINISHED, "maskgr train --resume --name r"),
        ({"state": "running", "steps": 5}, UNFINISHED, "maskgr train --resume --name r"),
        ({"state": "diverged", "steps": 5}, UNFINISHED, "maskgr train --force --name r … --learning-rate …"),
        ({"format": 1}, BROKEN, "maskgr train --force --name r …"),
        (
            {"state": "finished", "final": {"of": "first", "weights": "", "steps": 5}},
            BROKEN,
            "maskgr train --force --name r --final first",
        ),
        (
            {
                "state": "finished",
                "continued": {"of": "first", "weights": "", "first_steps": 5, "first_rate": 0.1},
                "final": {"of": "x", "weights": "", "steps": 5},
            },
            BROKEN,
            "maskgr train --force --name r --continue first",
        ),
    ],
)
def test_runs_that_are_not_finished(toy: Workspace, changes: dict[str, Any], kind: str, command: str) -> None:
    run = write_config(toy, "r", **changes)
    (problem,) = state.problems(toy)
    assert (problem.kind, problem.subject, problem.command) == (kind, "runs/r", command)
    if kind == UNFINISHED and changes["state"] != "diverged":
        assert problem.reason == "it was interrupted at step 5"
        with locked(run.path):  # it is being trained
            assert state.problems(toy) == []
            assert state.in_use(toy) == [state.InUse("runs/r", "training")]


def test_what_killed_commands_left(toy: Workspace) -> None:
    left = toy.root / "runs" / ".maskgr-dead.tmp"
    left.mkdir(parents=True)
    (toy.root / "runs" / "begun").mkdir()
    parts = toy.dataset("toy").path / "embeddings" / ".minilm.parts"
    parts.mkdir(parents=True)
    write_config(toy, "again", state="finished").weights.write_bytes(b"weights")
    artifacts.write_json(toy.run("again").anew.config, {"state": "interrupted"})
    with staging(toy.dataset("toy").path) as live:
        found = state.problems(toy)
        assert state.in_use(toy) == [state.InUse(str(live.relative_to(toy.root)), "writing")]
    assert [(p.kind, p.subject, p.command) for p in found] == [
        (UNFINISHED, "runs/again", "maskgr train --resume --name again"),
        (LEFT_OVER, "runs/begun", "maskgr rm runs/begun"),
        (
            UNFINISHED,
            "datasets/toy/embeddings/.minilm.parts",
            "maskgr embed --dataset toy --encoder …",
        ),
        (LEFT_OVER, "runs/.maskgr-dead.tmp", f"rm -r {left}"),
    ]


def test_the_workspace_as_a_whole(tmp_path: Path, workspace: Workspace) -> None:
    assert [p.reason for p in state.facts(workspace)[1]] == [f"{workspace.root} does not exist yet"]
    write_toy(workspace)
    workspace.use("gone")
    (problem,) = state.facts(workspace)[1]
    assert problem.reason == "the current data set gone does not exist"
    workspace.config.write_text("[")
    (problem,) = state.facts(workspace)[1]
    assert (problem.kind, problem.command) == (BROKEN, f"rm {workspace.config}")


def run_commands(found: list[Any], workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands of problems in their order, in this process."""
    monkeypatch.setenv("MASKGR_WORKSPACE", str(workspace.root))
    for problem in found:
        program, *arguments = shlex.split(problem.command)
        assert program == "maskgr"
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, (problem, result.output)


def options_of(path: Path) -> dict[str, Any]:
    """Return the configuration of an artifact without the digests of the items that it was made from."""
    return {name: value for name, value in artifacts.provenance(path)["config"].items() if name != "items"}


def test_the_commands_mend_everything_in_their_order(toy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage is made with options, its input changes, and the commands make it again with the options."""
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)
    monkeypatch.setattr("maskgr_cli.commands.eval.keep_freed_memory", lambda: None)
    options = [
        "embed --dimensions 5 --dtype float16 --name mine",
        "tokenize --embedding mine --sids 2 --codebook 16 --seed 3",
        "train --model sasrec --preset smoke --steps 2 --name r --learning-rate 0.00123456789",
        "eval r --beams 10 --exclude-seen --split validation",
    ]
    made = [state.Problem(STALE, "", "", f"maskgr {command}") for command in options]
    run_commands(made, toy, monkeypatch)
    assert state.problems(toy) == []
    dataset, run = toy.dataset("toy"), toy.run("r")
    sids, plan = dataset.all_sids[0], Plan.from_dict(run.read_config())
    recorded = {path: options_of(path) for path in (dataset.embeddings("mine"), sids)}
    users = artifacts.read(dataset.sequences, "sequences")
    items = artifacts.read(dataset.items, "items")
    texts = pa.array([f"other {number % 9}" for number in range(60)])
    artifacts.write(dataset.items, "items", items.set_column(2, "text", texts), config={})
    inputs = {"interactions": dataset.interactions, "items": dataset.items}
    artifacts.write(dataset.sequences, "sequences", users.slice(0, 190), config={}, inputs=inputs)
    found = state.problems(toy)
    assert [problem.subject for problem in found] == [
        "datasets/toy/embeddings/mine",
        f"datasets/toy/sids/{sids.stem}",
        "runs/r",
        f"runs/r/eval/{run.evaluations[0].name}",
    ]
    run_commands(found, toy, monkeypatch)
    assert state.problems(toy) == []
    assert {path: options_of(path) for path in recorded} == recorded
    assert Plan.from_dict(run.read_config()) == plan
    assert len(run.evaluations) == 1


def test_a_data_set_of_ones_own_files_is_imported_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clicks, goods = tmp_path / "my clicks.csv", tmp_path / "goods.csv"
    rows = [f"{user},{item},{item},x" for user in range(4) for item in range(5)]
    clicks.write_text("\n".join(["who,item_id,timestamp,label", *rows]))
    goods.write_text("\n".join(["item_id,title,brand", *(f"{item},title {item},b" for item in range(5))]))
    options = ["--user-column who", "--text-columns title", "--min-count 2"]
    command = f"maskgr import shop --interactions 'my clicks.csv' --items goods.csv {' '.join(options)}"
    run_commands([state.Problem(STALE, "", "", command)], workspace, monkeypatch)
    assert state.problems(workspace) == []
    recorded = artifacts.provenance(workspace.dataset("shop").interactions)["config"]
    clicks.write_text(clicks.read_text() + "\n9,0,0,x\n9,1,1,x\n9,2,2,x")
    (problem,) = state.problems(workspace)
    assert (problem.kind, problem.subject) == (STALE, "datasets/shop")
    run_commands([problem], workspace, monkeypatch)
    assert state.problems(workspace) == []
    assert artifacts.provenance(workspace.dataset("shop").interactions)["config"] == recorded
    assert artifacts.read(workspace.dataset("shop").sequences, "sequences").num_rows == 5


def test_a_public_data_set_is_downloaded_again(toy: Workspace) -> None:
    dataset = toy.dataset("toy")
    table = artifacts.read(dataset.interactions, "interactions")
    for count, options in ((5, ""), (3, " --min-count 3")):
        artifacts.write(
            dataset.interactions, "interactions", table, config={"reader": "amazon", "min_count": count}
        )
        assert mend.dataset_command(dataset) == f"maskgr download toy{options}"


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_the_command_of_a_run_repeats_its_plan(toy: Workspace, preset: str) -> None:
    settings = {"layers": 3, "tokens": "item", "likelihood": "item", "attention": "prefix", "seed": 7}
    plan = Plan("toy", "s", "maskgr", preset, *configure("maskgr", preset, settings))
    words = shlex.split(mend.run_command(Run("r", toy.root), plan.to_dict()))
    assert words[:6] == ["maskgr", "train", "--force", "--name", "r", "--dataset"]
    typed = dict(zip(words[11::2], words[12::2], strict=False))
    assert (typed["--layers"], typed["--seed"]) == ("3", "7")
    assert ("--tokens" in typed) == (preset == "paper")  # small has it
