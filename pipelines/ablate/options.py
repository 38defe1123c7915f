"""Options of tokenization, training and evaluation in recipes and on command lines: their stage and lists of
values.

This module imports no heavy library.
"""

from __future__ import annotations

import math
import re
import typing
from dataclasses import fields
from typing import Any

from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.options import flag_named
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.config import TrainConfig

YES, NO = ("yes", "true", "on"), ("no", "false", "off")
RENAMED = {"sids": "num_levels"}  # option → field, where the names differ; `layers` is an option of models
SEEDS = "seed"  # no option of a grid: --seeds sets the seeds of all runs
MAX_CELLS = 10_000  # most cells of a grid, and most values of one option


def _fields(*configs: type, exclude: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return name and type of each field that is an option."""
    return {
        field.name: typing.get_type_hints(config)[field.name]
        for config in configs
        for field in fields(config)
        if "help" in field.metadata and field.name not in exclude
    }


_TOKENIZE = _fields(
    TokenizeConfig, exclude=(SEEDS, "num_levels", "steps", "source")
)  # `steps` is an option of training
STAGE_OPTIONS: dict[
    str, dict[str, Any]
] = {  # stage → option → type; the first stage that has an option owns it
    "tokenize": {"sids": int, **_TOKENIZE},
    "train": _fields(*MODELS.values(), TrainConfig, exclude=(SEEDS,)),
    "eval": _fields(Decoding, exclude=(SEEDS,)),
}


def stage_of(option: str) -> str:
    """Return the stage of an option: "tokenize", "train" or "eval".

    Raises:
        UserError: there is no such option.
    """
    for stage, options in STAGE_OPTIONS.items():
        if option in options:
            return stage
    if option == SEEDS:
        raise UserError("seed is no option of a grid: --seeds N trains every run with the seeds 0 to N − 1.")
    raise UserError(f"there is no option {option!r} of train, tokenize or eval")


def check_values(option: str, values: Any) -> list[Any]:
    """Return a value or a list of values as a list of the option's type.

    Raises:
        UserError: there is no such option, the list is empty, or a value has another type.
    """
    allowed = _types(option)
    values = values if isinstance(values, list) else [values]
    if not values:
        raise UserError(f"{option} has no value")
    result = []
    for value in values:
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed or (type(value) is float and not abs(value) < math.inf):
            raise UserError(f"{option} is {value!r}; it must be {_describe(allowed)}")
        result.append(value)
    return result


def parse_values(option: str, text: str) -> list[Any]:
    """Parse a list that is separated by commas: "3,4,5", "1..5", "greedy,random", "yes,no".

    The counts within one value of `--unmask-counts` are joined by "+": "1+2+2,2+3".

    Raises:
        UserError: a part has not the option's type, or a range is empty or has too many values.
    """
    flag = flag_named(option)
    values: list[Any] = []
    for part in (part.strip() for part in text.split(",")):
        bounds = re.fullmatch(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})", part)
        if bounds and int in _types(option):
            low, high = map(int, bounds.groups())
            if high - low >= MAX_CELLS:
                raise UserError(
                    f"{flag} {part} is a range of {high - low + 1:,} values; "
                    f"a grid takes {MAX_CELLS:,} at most."
                )
            values += range(low, high + 1)
        else:
            values.append(_parse_value(option, part))
    if not values:
        raise UserError(f"{flag} {text}: the range is empty; the smaller number comes first.")
    return values


def _parse_value(option: str, part: str) -> Any:
    allowed = _types(option)
    if option == "unmask_counts":
        return part.replace("+", ",")
    if bool in allowed and part.lower() in YES + NO:
        return part.lower() in YES
    for number in (int, float):
        if number in allowed:
            try:
                value = number(part)
            except ValueError:
                continue
            if abs(value) < math.inf:
                return value
    if str in allowed and part:
        return part
    raise UserError(f"{flag_named(option)}: {part[:60]!r} is not {_describe(allowed)}.")


def _types(option: str) -> tuple[type, ...]:
    """Return the types of an option's values, without None."""
    hint = STAGE_OPTIONS[stage_of(option)][option]
    return tuple(t for t in (typing.get_args(hint) or (hint,)) if t is not type(None))


def _describe(allowed: tuple[type, ...]) -> str:
    names = {bool: "yes or no", int: "a whole number", float: "a finite number", str: "a word"}
    return " or ".join(names[t] for t in allowed)


def option_label(option: str, value: Any) -> str:
    """Return the label of an option's value in a table, e.g. "sids 4" or "unconstrained".

    The label is empty for `nearest = false`.
    """
    if option == "constrained":
        return "constrained" if value else "unconstrained"
    if option == "nearest":
        return "nearest item" if value else ""
    if option in ("unmask", "retrieval"):
        return str(value)
    name = option.replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
