"""The command line as a subprocess: its output, its files and its errors."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import artifacts
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, ROOT, write_toy

Maskgr = Callable[..., subprocess.CompletedProcess[str]]
# The program, which in one training step creates the file `reached` and waits for the file `go`.
PAUSING = """
import sys, time
from pathlib import Path
from maskgr_cli.app import main
from pipelines.train.loop import Trainer

step, pause, reached, go = Trainer.training_step, int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
del sys.argv[1:4]

def pausing(self, number, *rest):
    if number == pause:
        reached.touch()
        while not go.exists():
            time.sleep(0.01)
    return step(self, number, *rest)

Trainer.training_step = pausing
main()
"""
TRAIN = ["train", "--preset", "smoke", "--sids", 2, "--codebook", 16]


def test_from_a_data_set_to_a_measured_recommender(toy: Workspace, maskgr: Maskgr) -> None:
    trained = maskgr(*TRAIN, "--steps", 40, "--name", "first")
    assert trained.returncode == 0, trained.stderr
    for text in (
        "Data set: toy",
        "No embeddings of toy yet",
        "Semantic IDs lsa-2x16 of toy must be made",
        "Trained first",
    ):
        assert text in trained.stderr
    measured = maskgr("eval", "--unmask", "greedy", "--nfe", 3)
    assert measured.returncode == 0, measured.stderr
    assert "Run: first (the newest" in measured.stderr
    assert re.search(r"Decoded 200 users in .* users/s", measured.stderr)
    assert "3 function evaluations (1+1+1 digits)" in measured.stdout

    folder = toy.run("first").evaluation("greedy-t3-k20-constrained")
    ranks = artifacts.read(folder / "ranks.parquet", "ranks")["rank"].to_pylist()
    metrics = {
        (r["metric"], r["k"]): r["value"]
        for r in artifacts.read(folder / "metrics.parquet", "metrics").to_pylist()
    }
    for k in (5, 10, 20):
        hits = [r for r in ranks if r is not None and r <= k]
        assert metrics["recall", k] == pytest.approx(len(hits) / 200)
        assert metrics["ndcg", k] == pytest.approx(sum(1 / math.log2(r + 1) for r in hits) / 200)
        assert f"{100 * len(hits) / 200:.2f}" in measured.stdout
    assert ("recall", 40) not in metrics  # there are 20 beams

    again = maskgr("eval", "--unmask", "greedy", "--nfe", 3)
    assert "is evaluated already" in again.stderr
    assert again.stdout == measured.stdout
    sequences = toy.require_dataset().sequences
    done = maskgr("eval", "--exclude-seen")
    assert "seen items excluded" in " ".join(done.stdout.split())  # the title may be wrapped
    kept = artifacts.read(
        toy.run("first").evaluation("greedy-k20-constrained-exclude-seen") / "recommendations.parquet",
        "recommendations",
    )
    for history, items in zip(
        artifacts.read(sequences, "sequences")["items"].to_pylist(), kept["items"].to_pylist(), strict=True
    ):
        assert not set(history[:-1]) & set(items)
    for other in (
        ["--unmask", "random"],
        ["--unmask", "left-to-right", "--no-constrained"],
        ["--split", "validation", "--nfe", 1],
    ):
        done = maskgr("eval", *other, "--beams", 10)
        assert done.returncode == 0, done.stderr
    assert len(toy.run("first").evaluations) == 5
    shown = maskgr("show")
    assert shown.returncode == 0, shown.stderr
    for word in (
        "toy (current)",
        "lsa-2x16",
        "first",
        "greedy-t3-k20-constrained",
        "validation-greedy-t1-k10-constrained",
    ):
        assert word in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TRAIN, "--sids", 0], "--sids is 0; it must be between 1 and 256"),
        ([*TRAIN, "--preset", "large"], "--preset 'large' is unknown; choose paper, small, smoke"),
        ([*TRAIN, "--model", "gru"], "--model 'gru' is unknown"),
        (
            [*TRAIN, "--model", "sasrec"],
            "--model sasrec identifies items by number, not by semantic IDs; leave out --sids, --codebook",
        ),
        (
            ["train", "--model", "sasrec", "--tokens", "item"],
            "^error: --tokens has no effect on --model sasrec, only on maskgr. Leave it out.$",
        ),
        ([*TRAIN, "--gpus", 4], r"--gpus 4: PyTorch sees 0 GPUs on this machine.*without --gpus"),
        ([*TRAIN, "--width", 15], "--width 15 must be a multiple"),
        ([*TRAIN, "--embedding", "none"], "none"),
        ([*TRAIN, "--dataset", "books"], "No data set 'books' in .* holds toy"),
        (["train", "--resume"], "nothing to resume"),
        (["train", "--resume", "--print-config"], "--resume continues a run; leave out --print-config"),
        ([*TRAIN, "--precision", "fp8"], "--precision 'fp8' is unknown"),
        ([*TRAIN, "--name", "a/b"], "'a/b' cannot be a name"),
        (["eval"], "No trained run in .* Run `maskgr train` first"),
        (["eval", "none"], "No run 'none'"),
        (["eval", "one", "one"], "Each run can be named once"),
        (["eval", "--unmask", "upwards"], "'upwards' is unknown; choose greedy, left-to-right, random"),
        (["eval", "--nfe", 0], "--nfe is 0"),
        (["eval", "--beams", 0], "--beams is 0"),
    ],
    ids=lambda value: " ".join(map(str, value[-2:])) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_line(toy: Workspace, maskgr: Maskgr, arguments: list, message: str) -> None:
    failed = maskgr(*arguments, CUDA_VISIBLE_DEVICES="")
    assert failed.returncode == 2, failed.stderr
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert "Traceback" not in failed.stderr
    assert not toy.runs


def test_the_contents_of_files_do_not_control_the_terminal(maskgr: Maskgr, tmp_path: Path) -> None:
    title = "\x1b]0;title\x07"
    (tmp_path / f"in{title}.csv").write_text(f"us{title}er,item_id,timestamp\n1,2,3\n")
    (tmp_path / "recipe.toml").write_text(
        'title = "T\\u001b[2J"\ndatasets = ["toy"]\nmetrics = ["R@5"]\n'
        '[[system]]\nname = "S\\u009b31m"\nmodel = "sasrec"\n'
    )
    failed = maskgr("import", "toy", "--interactions", f"in{title}.csv")
    assert failed.returncode == 2
    assert r"in\x1b]0;title\x07.csv" in failed.stderr and r"us\x1b]0;title\x07er" in failed.stderr
    write_toy(Workspace(tmp_path / "workspace"))
    listed = maskgr("ablate", "recipe.toml", "--dry-run", "--budget", "smoke")
    assert r"T\x1b[2J" in listed.stdout and r"S\x9b31m" in listed.stdout, listed.stderr
    mistyped = maskgr("train", f"--{title}")
    assert mistyped.returncode == 2 and r"\x1b]0;title" in mistyped.stderr
    for process in (failed, listed, mistyped):
        assert not {"\x1b", "\x07", "\x9b"} & {*process.stdout, *process.stderr}


def test_a_model_of_item_ids_needs_no_semantic_ids(toy: Workspace, maskgr: Maskgr) -> None:
    trained = maskgr("train", "--model", "sasrec", "--preset", "smoke", "--steps", 5, "--name", "ids")
    assert trained.returncode == 0, trained.stderr
    assert "emantic IDs" not in trained.stderr
    assert not toy.require_dataset().all_sids
    measured = maskgr("eval", "--beams", 10)
    assert measured.returncode == 0, measured.stderr
    assert "softmax loss · 10 of 60 items" in measured.stdout
    assert "ids" in maskgr("show").stdout


def test_the_message_without_a_data_set_says_how_to_get_one(maskgr: Maskgr) -> None:
    failed = maskgr("train")
    assert failed.returncode == 2
    assert "maskgr download beauty" in failed.stderr


def test_damaged_artifacts_are_named(toy: Workspace, maskgr: Maskgr) -> None:
    maskgr(*TRAIN, "--steps", 5, "--name", "run")
    run, dataset = toy.run("run"), toy.require_dataset()
    for file, command, message in (
        (run.weights, ["eval"], "is not a readable safetensors file"),
        (run.config, ["eval"], "cannot be read as JSON"),
        (dataset.sequences, ["eval"], "trained on other sequences|not a readable Parquet"),
        (dataset.sids("lsa-2x16"), ["eval"], "not a readable Parquet"),
    ):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        failed = maskgr(*command)
        assert failed.returncode == 2, failed.stderr
        assert str(file.name) in failed.stderr
        assert re.search(message, failed.stderr)
        file.write_bytes(whole)
    assert maskgr("eval").returncode == 0


def test_debug_shows_the_traceback(workspace: Workspace, maskgr: Maskgr) -> None:
    assert "Traceback" in maskgr("--debug", "eval").stderr
    assert "Traceback" in maskgr("eval", MASKGR_DEBUG="1").stderr


def test_ctrl_c_saves_and_a_killed_run_resumes(toy: Workspace, maskgr: Maskgr, tmp_path: Path) -> None:
    options = [*TRAIN, "--steps", 60, "--validations", 6, "--name", "long"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASKGR_WORKSPACE": str(toy.root)}
    reached, go = tmp_path / "reached", tmp_path / "go"

    def start(pause: int, *arguments: object) -> subprocess.Popen[str]:
        """Start a process and return it once it is in the training step `pause`."""
        command = [sys.executable, "-c", PAUSING, str(pause), str(reached), str(go), *map(str, arguments)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
        while not reached.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        reached.unlink()
        return process

    def config() -> dict:
        return json.loads(toy.run("long").config.read_text())

    process = start(24, *options)
    process.send_signal(signal.SIGINT)
    go.touch()
    output = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130
    assert (
        "Stopped at step 24; the state is saved. Continue with: maskgr train --resume --name long" in output
    )
    assert (config()["state"], config()["steps"]) == ("interrupted", 24)
    refused = maskgr(*options)
    assert refused.returncode == 2
    assert "was interrupted at step 24" in refused.stderr

    go.unlink()
    process = start(44, "train", "--resume")
    process.kill()
    process.communicate()
    assert config()["steps"] == 40  # the last validation
    done = maskgr("train", "--resume", "--name", "long")
    assert done.returncode == 0, done.stderr
    assert "Resumed long at step 40." in done.stderr
    assert (config()["state"], config()["steps"]) == ("finished", 60)
    assert maskgr("eval").returncode == 0
