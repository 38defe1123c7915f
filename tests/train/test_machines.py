"""Training on several machines: two launchers of a process each on this machine, which meet over gloo."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines import artifacts
from pipelines.train.existing import find_unfinished
from pipelines.train.run import train_run
from pipelines.workspace import Dataset, Run, Workspace
from tests.conftest import PATIENCE, ROOT, ListProgress, write_toy

TRAIN = ["train", "--preset", "smoke", "--precision", "fp32", "--name"]
SCHEDULE = ["--steps", "8", "--validations", "2", "--validation-users", "0"]

# In the second process of two, the signal SIGTERM comes during a batch of the second validation.
SIGNALLED = """
import os, signal, sys
from pipelines.evaluate import recommend

recommend.TOKENS["cpu"] = 1024
search, batches = recommend.Search.__call__, []

def signalled(self, *arguments):
    batches.append(1)
    if len(batches) == int(os.environ["BATCH"]) and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return search(self, *arguments)

recommend.Search.__call__ = signalled
from maskgr_cli.__main__ import main
main()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_all(commands: list[list[str]], environments: list[dict[str, str]]) -> list[tuple[int, str]]:
    """Run commands at the same time, and return the exit code and the standard error of each."""
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env={**shared, **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for command, environment in zip(commands, environments, strict=True)
        ]
        said = [process.communicate(timeout=PATIENCE)[1] for process in running]
    return [(process.returncode, text) for process, text in zip(running, said, strict=True)]


def torchrun(workspace: Workspace, *arguments: str) -> list[tuple[int, str]]:
    """Run a command on two machines with a process each, as far as it can tell."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "test"]
    command += ["--local-addr", "127.0.0.1", "-m", "maskgr_cli", *arguments]
    return run_all([command] * 2, [{"MASKGR_WORKSPACE": str(workspace.root)}] * 2)


def two_ranks(
    python: list[str], arguments: list[str], environments: list[dict[str, str]]
) -> list[tuple[int, str]]:
    """Run a command in two processes that know of each other, as a launcher starts them."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": "0", **address} for rank in (0, 1)]
    both = [{**rank, **environment} for rank, environment in zip(ranks, environments, strict=True)]
    return run_all([[sys.executable, *python, *arguments]] * 2, both)


def history(run: Run, measure: str) -> list[float]:
    rows = artifacts.read(run.history, "history").to_pylist()
    return [row["value"] for row in rows if row["measure"] == measure]


def test_two_machines_train_and_evaluate_as_one_process(
    toy: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses, validation, weights and ranks, whoever does the work."""
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)
    monkeypatch.setattr("maskgr_cli.commands.eval.keep_freed_memory", lambda: None)
    write_embedding(toy.require_dataset())
    sids = ["--sids", "2", "--codebook", "16", "--dense"]
    evaluated = ["eval", "--beams", "10", "--precision", "fp32"]
    for arguments in ([*TRAIN, "one", *SCHEDULE, *sids], [*evaluated, "one"]):
        done = CliRunner().invoke(app, [*arguments, "--workspace", str(toy.root)], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    shutil.copytree(toy.run("one").path, toy.run("two").path)  # a run that is to be replaced
    shutil.rmtree(toy.run("two").path / "eval")
    for arguments in ([*TRAIN, "two", *SCHEDULE, *sids, "--force"], [*evaluated, "two"]):
        codes, said = zip(*torchrun(toy, *arguments), strict=True)
        assert codes == (0, 0), "\n".join(said)
        first = "parameters on 2 × cpu" if arguments[0] == "train" else "Decoded 200 users"
        assert sum(text.count(first) for text in said) == 1, said  # one process speaks for both
    one, two = toy.run("one"), toy.run("two")
    for measure in ("loss", "recall@10"):
        np.testing.assert_allclose(history(two, measure), history(one, measure), rtol=1e-4)
    weights, others = load_file(one.weights), load_file(two.weights)
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], rtol=1e-3, atol=1e-5)
    ranks = [
        artifacts.read(run.evaluation("greedy-k10-constrained") / "ranks.parquet", "ranks")[
            "rank"
        ].to_pylist()
        for run in (one, two)
    ]
    assert len(ranks[0]) == len(ranks[1]) == 200
    same = [first == second for first, second in zip(*ranks, strict=True)]
    assert np.mean(same) > 0.95


def write_embedding(dataset: Dataset) -> None:
    """Write vectors that cluster by tens."""
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    vectors += 5 * np.eye(8, dtype=np.float32)[np.arange(60) // 10]
    table = pa.table(
        {"item": pa.array(range(60), pa.int32()), "embedding": artifacts.fixed_size_list(vectors)}
    )
    artifacts.write(
        dataset.embeddings("toy"), "embeddings", table, config={}, inputs={"items": dataset.items}
    )


def test_a_signal_to_one_process_stops_all_in_the_same_validation(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    environment = {"MASKGR_WORKSPACE": str(toy.root), "BATCH": "6"}
    arguments = [*TRAIN, "job", *SCHEDULE, "--semantic-ids", sids, "--resume"]
    first, second = two_ranks(["-c", SIGNALLED], arguments, [environment] * 2)
    assert (first[0], second[0]) == (143, 143), (first[1], second[1])
    saved = "the state is saved. Continue with: maskgr train --resume --name job"
    assert (first[1] + second[1]).count(saved) == 1
    config = json.loads(toy.run("job").config.read_text())
    assert (config["state"], config["processes"]) == ("interrupted", 2)
    assert (config["steps"], len(history(toy.run("job"), "recall@10"))) in ((4, 0), (8, 1))
    run, found = find_unfinished(toy, "job")
    train_run(toy, found, progress, name=run.name, existing="resume")
    assert f"Resumed job at step {config['steps']}." in progress.messages
    assert len(history(toy.run("job"), "recall@10")) == 2


def test_machines_without_a_shared_workspace_are_told_so(toy: Workspace, tmp_path: Path) -> None:
    other = write_toy(Workspace(tmp_path / "other"))
    environments = [{"MASKGR_WORKSPACE": str(place.root)} for place in (toy, other)]
    done = two_ranks(["-m", "maskgr_cli"], [*TRAIN, "run"], environments)
    for (code, said), place in zip(done, (toy, other), strict=True):
        assert code == 2, said
        line = said.splitlines()[-1]
        assert line.startswith(f"error: {place.root} is not the same folder on every machine"), said
    assert not toy.runs and not other.runs
