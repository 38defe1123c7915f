"""Configuration files of a training: options of `maskgr train` in TOML, one a line. Light to import.

The keys are the flags without dashes in front, as in `learning-rate = 0.01`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.options import flag_of
from pipelines.train.config import CONTINUED_OPTIONS, unread_options

if TYPE_CHECKING:
    from pipelines.train.plan import Plan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Value = bool | int | float | str
FileValues = dict[str, Value | None]  # key → value, None for a key that is left out


def read_settings(path: Path) -> dict[str, Value]:
    """Read a configuration file.

    Returns:
        Values by key, neither of which is checked.

    Raises:
        UserError: the file cannot be read, is not TOML, or holds another kind of value than TOML's text,
            numbers, true and false.
    """
    try:
        content = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--config {path} does not exist.") from None
    except RecursionError:
        raise UserError(f"--config {path} cannot be read as TOML: it is nested too deep.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--config {path} cannot be read as TOML ({error}).") from None
    for key, value in content.items():
        if isinstance(value, dict):
            raise UserError(
                f"{path}: [{key}] is a table. Each option is a line of its own, without tables, such as: "
                "layers = 2"
            )
        if not isinstance(value, Value):
            raise UserError(f"{path}: {key} is neither text nor a number, true or false.")
    return content


def settings_text(values: Mapping[str, Value | None], comment: str) -> str:
    """Return the text of a configuration file.

    Args:
        values: values by key; None is left out.
        comment: first line.
    """
    lines = [f"{key} = {_toml(value)}\n" for key, value in values.items() if value is not None]
    return f"# {comment}\n" + "".join(lines)


def settings_of_plan(plan: Plan, name: str, *, of_final: bool = False) -> FileValues:
    """Return the values by key with which `maskgr train` has a plan again.

    Args:
        plan: the plan.
        name: name of its run.
        of_final: True if the plan continues a final run.
    """
    if plan.final and not of_final:
        return {"name": name, "final": plan.final.of}
    unread = unread_options(type(plan.model_settings))
    if plan.continued:
        of_training = {
            key: value
            for key, value in config_values(plan.train).items()
            if key in CONTINUED_OPTIONS - unread
        }
        return {"name": name, "continue": plan.continued.of, **by_key(plan.train, of_training)}
    named = {"dataset": plan.dataset, "model": plan.model, "preset": plan.preset, "semantic-ids": plan.sids}
    values: FileValues = {"name": name, **named}
    for config in (plan.model_settings, plan.train):
        read = {key: value for key, value in config_values(config).items() if key not in unread}
        values |= by_key(config, read)
    return values


def config_values(config: Any) -> dict[str, Any]:
    """Return the values of a configuration's options, by field."""
    fields = dataclasses.fields(config)
    return {field.name: getattr(config, field.name) for field in fields if "help" in field.metadata}


def by_key(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of a configuration by key in place of by field."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    return {flag_of(fields[name]).removeprefix("--"): value for name, value in values.items()}


def _toml(value: Value) -> str:
    """Return a value in TOML; text as JSON writes it, which TOML reads alike."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
