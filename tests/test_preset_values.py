"""What the command line tells of presets: with each option's help, and in a table for any model."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from maskgr_cli.options import in_presets, worded
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.train.configure import preset_values
from pipelines.train.presets import PRESET_NAMES


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(
        app, list(arguments), env={"COLUMNS": "400"}, catch_exceptions=False, terminal_width=400
    )
    assert result.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize("command", ["train", "tune"])
def test_help_shows_what_the_presets_of_maskgr_say(command: str) -> None:
    """Every option that they set has its values beside its help; for other models the help says where."""
    text, values = shown(command, "--help"), preset_values("maskgr", PRESET_NAMES)
    for option in values["small"]:
        flag = f"--{option.replace('_', '-')} "
        line = next(line for line in text.splitlines() if line.strip().startswith(flag))
        assert in_presets(option, values).strip() in line
    assert "Number of transformer blocks. [paper: 8; small: 2; smoke: 1]" in text
    assert "maskgr presets MODEL" in text


def test_values_that_agree_are_the_default_and_none_is_left_out() -> None:
    presets = {"paper": {"a": 1, "b": True, "c": None}, "small": {"a": 1, "b": False, "c": 0.5}}
    assert in_presets("a", presets) == " [default: 1]"
    assert in_presets("b", presets) == " [paper: yes; small: no]"
    assert in_presets("c", presets) == " [small: 0.5]"
    assert in_presets("unknown", presets) == in_presets("a", {}) == ""


@pytest.mark.parametrize("model", MODELS)
def test_a_table_lists_the_presets_of_any_model(model: str) -> None:
    rows = {
        line.split("│")[1].strip(): line
        for line in shown("presets", model).splitlines()
        if line.startswith("│")
    }
    values = preset_values(model)
    assert len(rows) == len(values["paper"])
    for option, row in rows.items():
        cells = [cell.strip() for cell in row.split("│")[2:-1]]
        name = option.removeprefix("--").replace("-", "_")
        assert cells == [
            "—" if values[preset][name] is None else worded(values[preset][name]) for preset in values
        ]


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UserError, match="'gpt' is unknown"):
        CliRunner().invoke(app, ["presets", "gpt"], catch_exceptions=False)
