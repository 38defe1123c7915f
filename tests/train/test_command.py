"""The semantic IDs and the number of negatives that `maskgr train` takes; training itself is left out."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines.defaults import ensure_sids
from pipelines.errors import UserError
from pipelines.models.item_models.config import SASRecConfig
from pipelines.models.sid_models.config import MaskGRConfig
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train import loop
from pipelines.train.configure import codes_for, softmax_share
from pipelines.train.plan import Plan
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress

SMALL = ["--sids", "2", "--codebook", "16"]


@pytest.fixture
def made(toy: Workspace, progress: ListProgress, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `maskgr train` with options; the semantic IDs it would train on. SIDs "mine" are there."""
    plans: list[Plan] = []

    def train_run(place: Workspace, plan: Plan, *_: object, **__: object) -> Run:
        plans.append(plan)
        return place.run("none")

    monkeypatch.setattr("pipelines.train.run.train_run", train_run)
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)
    dataset = toy.require_dataset()
    dataset.sids(ensure_sids(dataset, TokenizeConfig(2, 16), None, progress)).rename(dataset.sids("mine"))

    def command(*options: str) -> str:
        CliRunner().invoke(
            app,
            ["train", "--workspace", str(toy.root), "--preset", "smoke", *options],
            catch_exceptions=False,
        )
        return plans[-1].sids

    return command


def test_they_are_made_by_the_method_asked_for_or_taken_by_name(toy: Workspace, made: Any) -> None:
    assert made(*SMALL) == "lsa-2x16"
    assert made(*SMALL, "--method", "random") == "lsa-2x16-random"
    names = {path.stem for path in toy.require_dataset().all_sids}
    assert names == {"mine", "lsa-2x16", "lsa-2x16-random"}
    assert made("--semantic-ids", "mine") == "mine"
    assert {path.stem for path in toy.require_dataset().all_sids} == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [*SMALL, "--method", "pq", "--embedding", "lsa"],
            "--semantic-ids names semantic IDs that exist already; leave out --sids, --codebook, --method, "
            "--embedding.",
        ),
        (["--method", "kmeans"], "leave out --method."),  # typed, though it is the default
        (["--resume", "--force"], "--resume continues a run; leave out --force."),
    ],
)
def test_a_name_excludes_what_would_make_them(made: Any, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made("--semantic-ids", "mine", *options)


def test_a_method_that_does_not_exist_is_refused(made: Any) -> None:
    with pytest.raises(UserError, match="--method 'vq' is unknown"):
        made("--method", "vq")


@pytest.mark.parametrize(
    ("options", "items", "negatives"),
    [
        ((), 59, 1024),
        ((), 60, 0),
        (("--negatives", "0"), 59, 0),
        (("--negatives", "5"), 59, 5),
        (("--loss", "bce"), 59, 0),
    ],
)
def test_a_large_catalogue_is_sampled_unless_the_user_chose(
    toy: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    items: int,
    negatives: int,
) -> None:
    """The toy has 60 items; the largest catalogue with a full softmax is made so large or smaller."""
    plans: list[Plan] = []
    monkeypatch.setattr("pipelines.train.run.train_run", lambda _, plan, *a, **k: plans.append(plan) or a[0])
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)
    monkeypatch.setattr("pipelines.train.configure.LARGE_CATALOGUE", items)
    arguments = ["train", "--workspace", str(toy.root), "--preset", "smoke", "--model", "sasrec", *options]
    result = CliRunner().invoke(app, arguments)
    assert plans[0].model_settings.negatives == negatives
    told = "60 items: comparing with all of them would take" in " ".join(result.output.split())
    assert told == (negatives == 1024)
    shown = CliRunner().invoke(app, [*arguments, "--print-config", "--format", "toml"])
    assert (f"negatives = {negatives}" in shown.output) or "--loss" in options


@pytest.mark.parametrize(
    ("settings", "levels", "items", "codes"),
    [
        ({}, 4, 12_101, 256),  # independent digits, as in the paper
        ({"item_embeddings": True}, 4, 12_101, 256),
        ({"item_embeddings": False}, 4, 12_101, 1024),  # 5 · 1,024 = 5,120 of at most 6,050
        ({"item_embeddings": False}, 4, 18_357, 1024),  # 5 · 1,024 of at most 9,178
        ({"item_embeddings": False}, 2, 12_101, 1024),  # 3 · 2,048 = 6,144 would be too many
        ({"item_embeddings": False}, 4, 1_000_000, 4096),
        ({"item_embeddings": False}, 4, 1349, 256),  # MovieLens 100K; 128 would be less accurate
    ],
)
def test_the_number_of_items_decides_the_codes_of_items_without_embeddings(
    settings: dict[str, bool], levels: int, items: int, codes: int
) -> None:
    joint = {"tokens": "item", "likelihood": "item"} if settings else {}
    assert codes_for(MaskGRConfig(**joint, **settings), levels, items) == codes


def test_train_makes_and_names_the_codes_that_it_chose(toy: Workspace, maskgr: Callable) -> None:
    """The toy has 60 items, so that the paper's number of codes is chosen."""
    options = ("train", "--preset", "small", "--no-item-embeddings", "--steps", 2, "--method", "random")
    shown = maskgr(*options, "--print-config", "--format", "toml")
    assert "codebook = 256" in shown.stdout
    done = maskgr(*options, "--validations", 1, "--name", "alone")
    assert done.returncode == 0, done.stderr
    assert "60 items without embeddings of their own: 256 codes per digit" in " ".join(done.stderr.split())
    assert toy.run("alone").read_config()["sids"] == "lsa-4x256-random"
    typed = maskgr(*options, "--codebook", 16, "--print-config", "--format", "toml")
    assert "codebook = 16" in typed.stdout


def test_the_share_of_a_softmax_is_that_of_its_multiplications() -> None:
    """SASRec of one block: 4·D² of attention and 2·D·mlp of the MLP, against D an item."""
    config = SASRecConfig(layers=1, width=8, heads=1, mlp=16)
    assert softmax_share(config, 10) == pytest.approx(80 / (80 + 4 * 64 + 2 * 8 * 16))


@pytest.mark.parametrize(
    "options",
    [
        ["--resume", "--model", "sasrec", "--preset", "smoke", "--steps", "4"],
        ["--resume", "--name", "job", "--model", "sasrec", "--preset", "smoke", "--steps", "4"],
        ["--resume", "--name", "job", "--config", "CONFIG"],
    ],
)
def test_one_command_begins_a_run_continues_it_and_keeps_it(
    toy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """A scheduler starts a job again with the command that began it."""
    config = tmp_path / "job.toml"
    config.write_text('model = "sasrec"\npreset = "smoke"\nsteps = 4\n')
    options = [str(config) if option == "CONFIG" else option for option in options]
    step, monitored = loop.Trainer.training_step, []

    def interrupted(self: loop.Trainer, number: int, *rest: object) -> object:
        monitored.append(number)
        if monitored == [0, 1]:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, *rest)

    monkeypatch.setattr(loop.Trainer, "training_step", interrupted)
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)

    def command(*more: str) -> Result:
        arguments = ["train", "--workspace", str(toy.root), *options, *more]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert command().exit_code == 130
    (run,) = toy.runs
    assert run.read_config()["state"] == "interrupted"
    assert command().exit_code == 0
    assert (run.read_config()["state"], monitored) == ("finished", [0, 1, 1, 2, 3])
    assert f"{run.name} is trained already" in command().stderr
    assert [found.name for found in toy.runs] == [run.name]
    if "--name" in options and "--config" not in options:
        with pytest.raises(UserError, match="holds a run with other settings"):
            command("--seed", "1")


def test_a_name_alone_takes_the_settings_of_its_run(toy: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)

    def command(*options: str) -> Result:
        return CliRunner().invoke(
            app, ["train", "--workspace", str(toy.root), *options], catch_exceptions=False
        )

    command("--name", "job", "--model", "sasrec", "--preset", "smoke", "--steps", "2")
    assert "job is trained already" in command("--resume", "--name", "job").stderr
