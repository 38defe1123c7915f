"""Options made of a configuration dataclass."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from maskgr_cli.options import DatasetOption, WorkspaceOption, checked, config_options
from pipelines.options import check_number, option


@dataclass(frozen=True)
class Toy:
    layers: int = field(default=4, metadata=option("How many layers. [default: 4]", flag="--sids"))
    learning_rate: float = field(default=0.1, metadata=option("Step size."))
    minutes: float | None = field(default=None, metadata=option("Wall time."))
    rotary: bool = field(default=True, metadata=option("Rotary positions."))
    track: bool | None = field(default=None, metadata=option("Hand metrics on.", flag="--report"))
    order: Literal["greedy", "random"] = field(default="greedy", metadata=option("Order."))
    folder: Path | None = field(default=None, metadata=option("A folder."))
    seed: int = field(default=0, metadata=option("Shown by the command's own option."))
    hidden: int = 7


def command_line(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a command with options of `Toy`; what it got: its own parameters, its settings."""
    got: list[tuple[dict[str, Any], dict[str, Any]]] = []
    app = typer.Typer(rich_markup_mode="markdown")

    @app.command()
    @config_options(Toy)
    def work(
        settings: dict[str, Any],
        name: Annotated[str, typer.Argument()],
        dataset: DatasetOption = None,
        seed: Annotated[int, checked("--seed", "Seed.", check_number, 0, 9)] = 3,
        workspace: WorkspaceOption = None,
    ) -> None:
        """Do it."""
        got.append(({"name": name, "dataset": dataset, "seed": seed, "workspace": workspace}, settings))

    result = CliRunner().invoke(app, list(arguments), env={"MASKGR_WORKSPACE": None, "COLUMNS": "160"})
    if result.exit_code or not got:
        raise ValueError(re.sub(r"\x1b\[[0-9;]*m", "", result.output))
    return got[0]


def test_what_is_not_typed_is_not_passed_on() -> None:
    own, settings = command_line("beauty")
    assert own == {"name": "beauty", "dataset": None, "seed": 3, "workspace": None}
    assert settings == {}
    assert Toy(**settings) == Toy()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--sids", "4"], {"layers": 4}),  # typed, though it equals the default
        (["--learning-rate", "0.5"], {"learning_rate": 0.5}),
        (["--learning-rate", "0"], {"learning_rate": 0.0}),  # false, but typed
        (["--minutes", "2.5"], {"minutes": 2.5}),
        (["--rotary"], {"rotary": True}),
        (["--no-rotary"], {"rotary": False}),
        (["--report"], {"track": True}),
        (["--no-report"], {"track": False}),
        (["--order", "random"], {"order": "random"}),
        (["--folder", "here"], {"folder": Path("here")}),
        (["--sids", "2", "--no-rotary"], {"layers": 2, "rotary": False}),
    ],
)
def test_what_is_typed_reaches_the_settings(typed: list[str], expected: dict[str, Any]) -> None:
    assert command_line("beauty", *typed)[1] == expected


def test_the_commands_own_option_wins_over_the_field() -> None:
    own, settings = command_line("beauty", "--seed", "9", "--dataset", "toys")
    assert (own["seed"], own["dataset"], settings) == (9, "toys", {})


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        (["--layers", "4"], "No such option"),  # renamed
        (["--hidden", "4"], "No such option"),  # without a help text
        (["--settings", "4"], "No such option"),
        (["--sids", "four"], "valid integer"),
        (["--order", "sideways"], "'sideways' is not one of 'greedy', 'random'"),
    ],
)
def test_wrong_options_are_refused(typed: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        command_line("beauty", *typed)


def test_help_shows_options_and_their_texts() -> None:
    with pytest.raises(ValueError) as shown:
        command_line("--help")
    text = str(shown.value)
    for word in (
        "--sids",
        "How many layers. [default: 4]",
        "--rotary",
        "--no-rotary",
        "Wall time.",
        "greedy|random",
        "Hyperparameters",
    ):
        assert word in text
    assert "settings" not in text and "--hidden" not in text
