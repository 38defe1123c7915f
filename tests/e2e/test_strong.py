"""`maskgr train --preset strong`: teachers, then the student, in one command that can be continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from pipelines.workspace import Workspace
from tests.conftest import write_toy

TINY = (
    *("--sids", 2, "--codebook", 4, "--layers", 1, "--width", 8, "--heads", 1, "--mlp", 8),
    *("--batch-size", 16, "--validations", 1, "--steps", 4),
)
Ran = subprocess.CompletedProcess[str]


def teachers_of(workspace: Workspace, name: str) -> dict[str, str]:
    """Return the semantic IDs of a run's teachers by name; "" for a model over item numbers."""
    config = workspace.require_run(name).read_config()
    return {teacher: workspace.run(teacher).read_config()["sids"] or "" for teacher in config["teachers"]}


def test_teachers_are_trained_before_the_student_that_is_evaluated(
    workspace: Workspace, maskgr: Callable[..., Ran]
) -> None:
    write_toy(workspace, users=60)
    done = maskgr("train", "--preset", "strong", *TINY, "--seed", 5, "--name", "student", "--no-centroids")
    assert done.returncode == 0, done.stderr
    assert "student learns from 5 runs, which are trained first" in done.stderr
    teachers = teachers_of(workspace, "student")
    assert sorted(teachers.values()) == ["", "lsa-2x16", "lsa-2x16", "lsa-2x4", "lsa-2x4"]
    configs = [workspace.run(name).read_config() for name in teachers]
    assert sorted(config["train"]["seed"] for config in configs) == [5, 5, 6, 7, 8]
    for config in configs:  # sizes and steps are those of the student, its kind of model is not
        if config["model"] == "maskgr":
            assert config["preset"] == "small" and config["train"]["steps"] == 4
            assert config["model_settings"]["width"] == 8 and config["model_settings"]["centroids"]
    assert workspace.run("student").read_config()["model_settings"]["centroids"] is False
    shown = json.loads(maskgr("eval", "--format", "json").stdout)
    assert {row["run"] for row in shown["metrics"]} == {"student", "popularity"}


def test_the_command_with_resume_goes_on_and_trains_nothing_twice(
    workspace: Workspace, maskgr: Callable[..., Ran]
) -> None:
    write_toy(workspace, users=60)
    command = ("train", "--preset", "strong", *TINY, "--name", "student")
    line = [sys.executable, "-m", "maskgr_cli", *map(str, command)]
    process = subprocess.Popen([*line, "--workspace", str(workspace.root)], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for text in process.stderr:
        if "Teacher 2 of 5" in text:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate()
    assert process.returncode != 0 and not workspace.run("student").path.exists()
    done = maskgr(*command, "--resume")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is trained already") == 1
    assert len(teachers_of(workspace, "student")) == 5
    again = maskgr(*command)
    assert again.returncode == 0 and again.stderr.count("is trained already") == 6


def test_named_teachers_take_the_place_of_those_of_the_preset(
    workspace: Workspace, maskgr: Callable[..., Ran]
) -> None:
    write_toy(workspace, users=60)
    assert maskgr("train", "--model", "cooccurrence", "--name", "counts").returncode == 0
    done = maskgr("train", "--preset", "strong", *TINY, "--name", "student", "--distill", "counts")
    assert done.returncode == 0, done.stderr
    assert [*teachers_of(workspace, "student")] == ["counts"]


@pytest.mark.parametrize("given", [("train", "--model", "sasrec"), ("tune",)])
def test_other_models_and_studies_have_no_such_preset(
    given: tuple[str, ...], workspace: Workspace, maskgr: Callable[..., Ran]
) -> None:
    write_toy(workspace, users=60)
    refused = maskgr(*given, "--preset", "strong")
    assert refused.returncode == 2 and "choose paper, small, smoke" in refused.stderr


def test_settings_name_what_the_data_decide(workspace: Workspace, maskgr: Callable[..., Ran]) -> None:
    write_toy(workspace, users=600)
    command = ("train", "--preset", "strong", "--print-config")
    assert "5 teachers, which are trained first" in maskgr(*command).stdout
    assert "rule: by the number of users" not in maskgr(*command).stdout
    assert "rule: by the number of users" in maskgr(*command, "--batch-size", 1).stdout


def test_several_processes_share_all_trainings(workspace: Workspace, maskgr: Callable[..., Ran]) -> None:
    write_toy(workspace, users=60)
    done = maskgr("train", "--preset", "strong", *TINY, "--name", "student", "--processes", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("on 2 × cpu") == 6
    assert len(teachers_of(workspace, "student")) == 5
