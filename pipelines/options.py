"""Options of configuration dataclasses: help, flag and bounds, declared with the field, and the one check of them. Light to import."""

from __future__ import annotations

import functools
import types
import typing
import unicodedata
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

Number = int | float

SHARE = (0.0, 1.0)
PART = (0.0, 0.99)  # a share that may not be all
WEIGHT = (0.0, 10_000.0)
SEED = (0, 2**31 - 1)  # what NumPy, PyTorch, FAISS and scikit-learn all take

KINDS = {bool: "yes or no", int: "a whole number", float: "a number", str: "text"}
MOST_SHOWN = 60  # characters of a value that a message repeats


def option(
    help: str,
    low: Number | None = None,
    high: Number | None = None,
    *,
    choices: tuple[str, ...] = (),
    path: bool = False,
    flag: str = "",
) -> dict[str, Any]:
    """Metadata of a field that is an option.

    Args:
        help: its help text.
        low, high: the least and the largest number it takes.
        choices: the words it takes.
        path: it may name a file or folder.
        flag: what a person types, where it is not the field's name, e.g. "--sids".
    """
    return {"help": help, "low": low, "high": high, "choices": choices, "path": path, "flag": flag}


def flag_of(field: Field) -> str:
    """What a person types for a field."""
    return field.metadata.get("flag") or f"--{field.name.replace('_', '-')}"


def check(config: Any) -> None:
    """Refuse values of a configuration that are of another type than declared, out of bounds, or none of the choices.

    Raises:
        UserError: naming the first of them and what it may be.
    """
    kinds = _kinds(type(config))
    for field in fields(config):
        value, declared = getattr(config, field.name), field.metadata
        if "help" not in declared or (value is None and types.NoneType in kinds[field.name]):
            continue
        check_kind(flag_of(field), value, kinds[field.name])
        if declared.get("choices"):
            check_choice(flag_of(field), value, declared["choices"])
        if declared.get("low") is not None:
            check_number(flag_of(field), value, declared["low"], declared["high"])
        if declared.get("path"):
            check_path(flag_of(field), value)


def check_kind(flag: str, value: Any, kinds: tuple[type, ...]) -> None:
    """Refuse a value of another type; a whole number passes as a number."""
    if type(value) not in kinds and not (
        float in kinds and isinstance(value, (int, float)) and type(value) is not bool
    ):
        named = " or ".join(KINDS[kind] for kind in kinds if kind in KINDS)
        raise UserError(f"{flag} is {shown(value)}; it must be {named}.")


def check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices."""
    if value not in choices:
        raise UserError(f"{flag} {shown(value)} is unknown; choose {', '.join(choices)}.")


def check_number(flag: str, value: Number, low: Number, high: Number) -> None:
    """Refuse a number out of bounds, or none at all (NaN)."""
    if not low <= value <= high:
        raise UserError(f"{flag} is {shown(value)}; it must be between {_counted(low)} and {_counted(high)}.")


def check_path(flag: str, path: str | Path) -> None:
    """Refuse a path that cannot even be looked up: a name in it is too long, a folder is closed, links go in circles, no such home.

    One that does not exist passes.
    """
    try:
        Path(path).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise UserError(f"{flag} {shown(str(path))} cannot be looked up ({reason}).") from None


def shown(value: Any) -> str:
    """A value as messages repeat it: texts quoted, numbers as they are, both cut where they are long."""
    text = str(value) if isinstance(value, (float, int)) else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def printable(text: str, lines: bool = False) -> str:
    r"""Text with every character escaped that a terminal would obey or hide: controls, directions of writing, half surrogates.

    Args:
        lines: leave "\n" as it is.
    """
    if text.isprintable():
        return text
    kept = "\n" if lines else ""
    return "".join(
        c if c.isprintable() or c in kept or unicodedata.category(c) == "Zs" else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _counted(number: Number) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,g}"


@functools.cache
def _kinds(config: type) -> dict[str, tuple[type, ...]]:
    """Field name → the types it takes."""
    return {name: typing.get_args(hint) or (hint,) for name, hint in typing.get_type_hints(config).items()}
