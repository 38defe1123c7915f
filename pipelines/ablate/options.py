"""Options of training and evaluation as recipes and command lines write them: whose they are, and lists of their values.

Light to import.
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
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.config import TrainConfig

YES, NO = ("yes", "true", "on"), ("no", "false", "off")
RENAMED = {"sids": "num_levels"}  # option of semantic IDs → field, where they differ; `layers` is a model's
SEEDS = "seed"  # --seeds decides it, for all runs alike
MOST = 10_000  # values of an option, and cells of a grid


def _fields(*configs: type, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """Field name → type, of what can be typed."""
    return {
        f.name: typing.get_type_hints(c)[f.name]
        for c in configs
        for f in fields(c)
        if "help" in f.metadata and f.name not in leave
    }


_TOKENIZE = _fields(TokenizeConfig, leave=(SEEDS, "num_levels", "steps"))  # steps are those of training
KINDS: dict[str, dict[str, Any]] = {  # whose an option is → option → type; the first that has it
    "tokenize": {"sids": int, **_TOKENIZE},
    "train": _fields(*MODELS.values(), TrainConfig, leave=(SEEDS,)),
    "eval": _fields(Decoding, leave=(SEEDS,)),
}


def owner(option: str) -> str:
    """Whose an option is: "tokenize", "train" or "eval".

    Raises:
        UserError: there is none of that name.
    """
    for kind, options in KINDS.items():
        if option in options:
            return kind
    if option == SEEDS:
        raise UserError("seed is no option of a grid: --seeds N trains every run with the seeds 0 to N − 1.")
    raise UserError(f"there is no option {option!r} of train, tokenize or eval")


def checked(option: str, values: Any) -> list[Any]:
    """A value, or a list of them, as a list of the option's type.

    Raises:
        UserError: no such option, no value, or a value of another type.
    """
    allowed = _types(option)
    values = values if isinstance(values, list) else [values]
    if not values:
        raise UserError(f"{option} has no value")
    found = []
    for value in values:
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed or (type(value) is float and not abs(value) < math.inf):
            raise UserError(f"{option} is {value!r}; it must be {_named(allowed)}")
        found.append(value)
    return found


def parsed(option: str, text: str) -> list[Any]:
    """A comma list as typed: "3,4,5", "1..5", "greedy,random", "yes,no"; counts within one `--unmask-counts` are joined by "+".

    Raises:
        UserError: a part that is not of the option's type, or a range of too many values.
    """
    name = f"--{option.replace('_', '-')}"
    values: list[Any] = []
    for part in (part.strip() for part in text.split(",")):
        bounds = re.fullmatch(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})", part)
        if bounds and int in _types(option):
            low, high = map(int, bounds.groups())
            if high - low >= MOST:
                raise UserError(
                    f"{name} {part} is a range of {high - low + 1:,} values; a grid takes {MOST:,} at most."
                )
            values += range(low, high + 1)
        else:
            values.append(_parsed(option, part))
    if not values:
        raise UserError(f"{name} {text}: the range is empty; the smaller number comes first.")
    return values


def _parsed(option: str, part: str) -> Any:
    allowed = _types(option)
    if option == "unmask_counts":
        return part.replace("+", ",")
    if bool in allowed and part.lower() in YES + NO:
        return part.lower() in YES
    for kind in (int, float):
        if kind in allowed:
            try:
                value = kind(part)
            except ValueError:
                continue
            if abs(value) < math.inf:
                return value
    if str in allowed and part:
        return part
    raise UserError(f"--{option.replace('_', '-')}: {part[:60]!r} is not {_named(allowed)}.")


def _types(option: str) -> tuple[type, ...]:
    kind = KINDS[owner(option)][option]
    return tuple(t for t in (typing.get_args(kind) or (kind,)) if t is not type(None))


def _named(allowed: tuple[type, ...]) -> str:
    names = {bool: "yes or no", int: "a whole number", float: "a finite number", str: "a word"}
    return " or ".join(names[kind] for kind in allowed)


def label(option: str, value: Any) -> str:
    """An option's value as a row of a table names it: "sids 4", "unconstrained"; nothing where beams are left as they are."""
    if option == "constrained":
        return "constrained" if value else "unconstrained"
    if option == "nearest":
        return "nearest item" if value else ""
    name = option.replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return (
        str(value)
        if option in ("unmask", "retrieval")
        else f"{name} {value:g}"
        if isinstance(value, float)
        else f"{name} {value}"
    )
