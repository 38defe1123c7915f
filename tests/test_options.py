"""Options of configuration dataclasses: the command line, requirements, and presets with settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from maskgr_cli.options import DatasetOption, WorkspaceOption, checked, config_options
from pipelines.errors import UserError
from pipelines.options import (
    GIVEN,
    check,
    check_number,
    check_requirements,
    drop_unmet,
    has_no_effect,
    option,
)
from pipelines.train.configure import configure, left_out


@dataclass(frozen=True)
class Toy:
    layers: int = field(default=4, metadata=option("How many layers. [default: 4]", flag="--sids"))
    learning_rate: float = field(default=0.1, metadata=option("Step size."))
    minutes: float | None = field(default=None, metadata=option("Wall time."))
    rotary: bool = field(default=True, metadata=option("Rotary positions."))
    track: bool | None = field(default=None, metadata=option("Pass metrics on.", flag="--report"))
    order: Literal["greedy", "random"] = field(default="greedy", metadata=option("Order."))
    folder: Path | None = field(default=None, metadata=option("A folder."))
    seed: int = field(default=0, metadata=option("Shown by the command's own option."))
    hidden: int = 7


def command_line(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a command with the options of `Toy` and return its own parameters and its settings."""
    calls: list[tuple[dict[str, Any], dict[str, Any]]] = []
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
        calls.append(({"name": name, "dataset": dataset, "seed": seed, "workspace": workspace}, settings))

    result = CliRunner().invoke(app, list(arguments), env={"MASKGR_WORKSPACE": None, "COLUMNS": "160"})
    if result.exit_code or not calls:
        raise ValueError(re.sub(r"\x1b\[[0-9;]*m", "", result.output))
    return calls[0]


def test_options_that_are_not_typed_are_not_passed_on() -> None:
    parameters, settings = command_line("beauty")
    assert parameters == {"name": "beauty", "dataset": None, "seed": 3, "workspace": None}
    assert settings == {}
    assert Toy(**settings) == Toy()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--sids", "4"], {"layers": 4}),  # typed, although it equals the default
        (["--learning-rate", "0.5"], {"learning_rate": 0.5}),
        (["--learning-rate", "0"], {"learning_rate": 0.0}),  # typed, although it is false
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
def test_typed_options_reach_the_settings(typed: list[str], expected: dict[str, Any]) -> None:
    assert command_line("beauty", *typed)[1] == expected


def test_an_option_of_the_command_replaces_that_of_the_field() -> None:
    parameters, settings = command_line("beauty", "--seed", "9", "--dataset", "toys")
    assert (parameters["seed"], parameters["dataset"], settings) == (9, "toys", {})


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--layers", "4"], "No such option"),  # renamed
        (["--hidden", "4"], "No such option"),  # without a help text
        (["--settings", "4"], "No such option"),
        (["--sids", "four"], "valid integer"),
        (["--order", "sideways"], "'sideways' is not one of 'greedy', 'random'"),
    ],
)
def test_wrong_options_are_refused(typed: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        command_line("beauty", *typed)


def test_help_shows_options_and_their_texts() -> None:
    with pytest.raises(ValueError) as raised:
        command_line("--help")
    text = str(raised.value)
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


@dataclass(frozen=True)
class Chain:
    """Options that require each other in a chain: third requires second, and second requires first."""

    first: str = field(default="a", metadata=option("First.", choices=("a", "b", "c")))
    second: bool = field(default=False, metadata=option("Second.", requires={"first": ("b", "c")}))
    third: int = field(
        default=1, metadata=option("Third.", 0, 9, flag="--number", requires={"second": (True,)})
    )
    fourth: float | None = field(
        default=None, metadata=option("Fourth.", 0.0, 9.0, requires={"third": GIVEN})
    )
    fifth: str = field(default="", metadata=option("Fifth.", requires={"fourth": GIVEN}))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"first": "b"},
        {"first": "c", "second": True, "third": 5, "fourth": 0.5},
        {"second": False, "third": 1},  # defaults require nothing
        {"third": 0},  # 0, false and None require nothing
        {"fourth": 0.0, "third": 0},
        {"fourth": 2.5},  # third is given by its default
    ],
)
def test_fulfilled_requirements_pass(values: dict[str, Any]) -> None:
    check(Chain(**values))
    assert drop_unmet(Chain, values) == (values, [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"second": True}, "--second needs --first b or --first c; with --first a leave it out."),
        ({"first": "b", "third": 5}, "--number 5 needs --second; with --no-second leave it out."),
        ({"fourth": 2.5, "third": 0}, "--fourth 2.5 needs --number; with --number 0 leave it out."),
        ({"fifth": "x"}, "--fifth x needs --fourth; without --fourth leave it out."),
    ],
)
def test_unmet_requirements_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        check(Chain(**values))
    assert str(raised.value) == message
    messages = []
    for declared in fields(Chain):
        try:
            check_requirements(Chain(**values), declared)
        except UserError as error:
            messages.append(str(error))
    assert messages == [message]


def test_values_without_effect_are_dropped_along_the_chain() -> None:
    """second lacks first, so that third lacks second."""
    values = {"second": True, "third": 5}
    assert drop_unmet(Chain, values) == ({}, ["second", "third"])
    assert values == {"second": True, "third": 5}
    assert drop_unmet(Chain, {**values, "first": "b"}) == ({**values, "first": "b"}, [])
    assert drop_unmet(Chain, {"third": 0, "fourth": 1.5}) == ({"third": 0}, ["fourth"])


def test_values_of_the_user_are_not_dropped() -> None:
    """`check` refuses them; what requires them stays, too."""
    values = {"second": True, "third": 5}
    assert drop_unmet(Chain, values, keep=["second"]) == (values, [])
    assert drop_unmet(Chain, values, keep=["third"]) == ({"third": 5}, ["second"])


def test_fields_of_another_configuration_are_not_dropped() -> None:
    assert drop_unmet(Chain, {"second": True, "steps": 3}) == ({"steps": 3}, ["second"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["--nfe 3"], "--model tiger"), "--nfe 3 has no effect on --model tiger. Leave it out."),
        (
            (["--nfe", "--unmask"], "--model sasrec", "which ranks items"),
            "--nfe, --unmask have no effect on --model sasrec, which ranks items. Leave them out.",
        ),
    ],
)
def test_the_message_of_options_without_effect(arguments: tuple[Any, ...], message: str) -> None:
    error = has_no_effect(*arguments)
    assert isinstance(error, UserError)
    assert str(error) == message


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        ({"likelihood": "digit"}, {"repeat_bias"}),
        ({"tokens": "digit"}, {"likelihood", "item_embeddings", "repeat_bias"}),
        ({"attention": "full"}, {"repeat_bias"}),
        ({"negatives": 64}, set()),
        ({"layers": 3}, set()),
    ],
)
def test_a_setting_drops_the_preset_s_values_that_it_leaves_without_effect(
    settings: dict[str, Any], dropped: set[str]
) -> None:
    """The other values of the preset `small` of maskgr stay, and dropped ones have their defaults."""
    before, schedule = configure("maskgr", "small", {})
    config, same_schedule = configure("maskgr", "small", settings)
    assert set(left_out("maskgr", "small", settings)) == dropped
    for declared in fields(config):
        name = declared.name
        unchanged = declared.default if name in dropped else getattr(before, name)
        assert getattr(config, name) == settings.get(name, unchanged), name
        assert name not in dropped or getattr(before, name) != declared.default
    assert same_schedule == schedule


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"likelihood": "digit", "repeat_bias": True},
            "--repeat-bias needs --likelihood item; with --likelihood digit leave it out.",
        ),
        (
            {"tokens": "digit", "likelihood": "item"},
            "--likelihood item needs --tokens item; with --tokens digit leave it out.",
        ),
        (
            {"next_item": 0.5},
            "--next-item 0.5 needs --attention full; with --attention prefix leave it out.",
        ),
    ],
)
def test_settings_that_contradict_each_other_or_the_preset_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as raised:
        configure("maskgr", "small", settings)
    assert str(raised.value) == message
