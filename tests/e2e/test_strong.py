"""`maskgr train --preset strong`: teachers, then the student, in one command that can be continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from pipelines.artifacts import digest
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
    done = maskgr(
        "train",
        "--preset",
        "strong",
        *TINY,
        "--seed",
        5,
        "--name",
        "student",
        "--no-centroids",
        "--teacher-share",
        0.7,
    )
    assert done.returncode == 0, done.stderr
    assert "student learns from 5 runs, which are trained first" in done.stderr
    teachers = teachers_of(workspace, "student")
    assert sorted(teachers.values()) == ["", "lsa-2x256", "lsa-2x4", "lsa-2x4", "lsa-4x256"]
    configs = [workspace.run(name).read_config() for name in teachers]
    assert sorted(config["train"]["seed"] for config in configs) == [5, 5, 6, 7, 8]
    for config in configs:  # sizes and steps are those of the student, its kind of model is not
        if config["model"] == "maskgr":
            settings = config["model_settings"]
            assert config["preset"] == "small" and config["train"]["steps"] == 4
            assert settings["width"] == 8 and settings["centroids"]
            assert (settings["dropout"], settings["label_smoothing"]) == (0.3, 0.1)
            assert settings["item_embeddings"] == (config["sids"] == "lsa-2x4")  # the others have codes alone
    assert workspace.run("student").read_config()["train"]["teacher_share"] == 0.7
    settings = workspace.run("student").read_config()["model_settings"]
    assert settings["centroids"] is False
    assert (settings["dropout"], settings["label_smoothing"]) == (0.1, 0.0)
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
    assert maskgr(*command).stdout.count("rule: by the numbers of users") == 2  # batch size and steps
    assert "rule: by the numbers" not in maskgr(*command, "--steps", 7, "--batch-size", 8).stdout
    shown = maskgr(*command, "--teacher-items", 64, "--format", "toml").stdout  # an option of the student
    assert "teacher-items = 64" in shown and "distill" not in shown


def test_jobs_train_the_teachers_side_by_side(workspace: Workspace, maskgr: Callable[..., Ran]) -> None:
    write_toy(workspace, users=60)
    command = ("train", "--preset", "strong", *TINY, "--name", "student")
    done = maskgr(*command, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Started ") == 5 and done.stderr.count("is trained already") == 5
    teachers = teachers_of(workspace, "student")
    digests = {name: digest(workspace.run(name).weights) for name in (*teachers, "student")}
    assert maskgr(*command, "--force").returncode == 0  # in turn: the same weights
    assert digests == {name: digest(workspace.run(name).weights) for name in digests}
    trained = {name: workspace.run(name).weights.stat().st_mtime_ns for name in digests}
    assert maskgr(*command, "--force", "--jobs", 2).returncode == 0
    assert all(workspace.run(name).weights.stat().st_mtime_ns > trained[name] for name in digests)


def test_a_teacher_that_fails_beside_others_says_why(
    workspace: Workspace, maskgr: Callable[..., Ran]
) -> None:
    write_toy(workspace, users=60)
    diverging = (*TINY, "--learning-rate", 1e9, "--grad-clip", 0, "--optimizer", "adamw")
    failed = maskgr("train", "--preset", "strong", *diverging, "--name", "student", "--jobs", 2)
    assert failed.returncode == 2 and "diverged at step" in failed.stderr
    assert not workspace.run("student").path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--jobs 2 has no effect on a training without teachers"),
        (("--preset", "strong", "--processes", 2), "--jobs trains each teacher in one process"),
        (("--preset", "strong", "--distill", "counts"), "--jobs 2 has no effect"),
    ],
)
def test_jobs_are_for_teachers_alone(
    options: tuple[object, ...], message: str, workspace: Workspace, maskgr: Callable[..., Ran]
) -> None:
    write_toy(workspace, users=60)
    assert maskgr("train", "--model", "cooccurrence", "--name", "counts").returncode == 0
    refused = maskgr("train", *TINY, *options, "--jobs", 2)
    assert refused.returncode == 2 and message in refused.stderr
    assert not workspace.require_dataset().all_sids  # refused before anything is made


def test_several_processes_share_all_trainings(workspace: Workspace, maskgr: Callable[..., Ran]) -> None:
    write_toy(workspace, users=60)
    done = maskgr("train", "--preset", "strong", *TINY, "--name", "student", "--processes", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("on 2 × cpu") == 6
    assert len(teachers_of(workspace, "student")) == 5
