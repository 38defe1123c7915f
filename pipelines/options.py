"""Options of configuration dataclasses: help, flag, bounds and requirements, declared with the field, and
their check.

Light to import.
"""

from __future__ import annotations

import functools
import types
import typing
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

Number = int | float

SHARE = (0.0, 1.0)
PART = (0.0, 0.99)  # a share below 1
WEIGHT = (0.0, 10_000.0)
SEED = (0, 2**31 - 1)  # NumPy, PyTorch, FAISS and scikit-learn all take these
GIVEN = "given"  # a requirement that any value fulfills which is neither 0, false, empty nor None

KINDS: dict[type, str] = {bool: "yes or no", int: "a whole number", float: "a number", str: "text"}
JOINERS = "\u200c\u200d"  # zero width non-joiner and joiner: letters and emoji look wrong without them
MOST_SHOWN = 60  # characters of a value that a message repeats

Requirements = Mapping[str, tuple[Any, ...] | str]  # field → values that it must have, or GIVEN


def option(
    help: str,
    low: Number | None = None,
    high: Number | None = None,
    *,
    choices: tuple[str, ...] = (),
    path: bool = False,
    flag: str = "",
    requires: Requirements | None = None,
) -> dict[str, Any]:
    """Return the metadata of a field that is an option.

    Args:
        help: help text.
        low, high: smallest and largest number allowed.
        choices: words allowed.
        path: if true, the value may name a file or folder.
        flag: flag on the command line, where it is not made from the field's name, e.g. "--sids".
        requires: other fields of the configuration, with the values without which this option has no effect.
    """
    return {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "path": path,
        "flag": flag,
        "requires": requires or {},
    }


def flag_of(field: Field[Any]) -> str:
    """Return the flag of a field on the command line."""
    return field.metadata.get("flag") or flag_named(field.name)


def flag_named(name: str) -> str:
    """Return the flag that is made from a field's name, e.g. "--max-items"."""
    return f"--{name.replace('_', '-')}"


def check(config: Any) -> None:
    """Check the values of a configuration: their types, bounds, choices and requirements.

    Raises:
        UserError: names the first value that is not allowed, and what is.
    """
    kinds = _kinds(config.__class__)
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
    for field in fields(config):
        check_requirements(config, field)


def check_requirements(config: Any, field: Field[Any]) -> None:
    """Check that a field with another value than its default has the other fields that it requires.

    Raises:
        UserError: names both fields and their values.
    """
    value = getattr(config, field.name)
    others = {other.name: other for other in fields(config)}
    for name in _unmet(field, value, vars(config)):
        allowed = field.metadata["requires"][name]
        flag = flag_of(others[name])
        needed = flag if allowed == GIVEN else " or ".join(typed(flag, choice) for choice in allowed)
        this, actual = typed(flag_of(field), value), getattr(config, name)
        if actual is None:
            raise UserError(f"{this} needs {needed}; without {flag} leave it out.")
        raise UserError(f"{this} needs {needed}; with {typed(flag, actual)} leave it out.")


def drop_unmet(
    config: type, values: Mapping[str, Any], keep: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Remove values that have no effect because the fields that they require have other values.

    Args:
        config: the configuration's class.
        values: field → value; a field without one has its default.
        keep: names of fields whose values stay in any case, for `check` to refuse.

    Returns:
        The remaining values, and the names of the fields removed.
    """
    kept: dict[str, Any] = dict(values)
    removed: list[str] = []
    defaults = {field.name: field.default for field in fields(config)}
    while True:
        unmet = [
            field.name
            for field in fields(config)
            if field.name in kept
            and field.name not in keep
            and _unmet(field, kept[field.name], defaults | kept)
        ]
        if not unmet:
            return kept, removed
        removed += unmet
        kept = {name: value for name, value in kept.items() if name not in unmet}


def _unmet(field: Field[Any], value: Any, values: Mapping[str, Any]) -> list[str]:
    """Return the names of the required fields that have other values than the field needs."""
    requires: Requirements = field.metadata.get("requires") or {}
    if value is None or value == field.default or not value:
        return []
    return [
        name
        for name, allowed in requires.items()
        if not (values[name] if allowed == GIVEN else values[name] in allowed)
    ]


def typed(flag: str, value: Any) -> str:
    """Return an option as a user types it: "--tokens item", "--no-dense"."""
    if isinstance(value, bool):
        return flag if value else f"--no-{flag.removeprefix('--')}"
    return f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"


def has_no_effect(flags: Sequence[str], on: str, because: str = "") -> UserError:
    """Return the error of options that are given and have no effect.

    Args:
        flags: as a user types them.
        on: what they have no effect on, e.g. "--model tiger".
        because: the reason, a clause.
    """
    reason = f", {because}" if because else ""
    verb, them = ("has", "it") if len(flags) == 1 else ("have", "them")
    return UserError(f"{', '.join(flags)} {verb} no effect on {on}{reason}. Leave {them} out.")


def check_kind(flag: str, value: Any, kinds: tuple[type, ...]) -> None:
    """Check the type of a value; a whole number passes as a number.

    Raises:
        UserError: the value has another type.
    """
    if type(value) not in kinds and not (
        float in kinds and isinstance(value, (int, float)) and type(value) is not bool
    ):
        named = " or ".join(KINDS[kind] for kind in kinds if kind in KINDS)
        raise UserError(f"{flag} is {quoted(value)}; it must be {named}.")


def check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that a word is one of the choices.

    Raises:
        UserError: it is none of them.
    """
    if value not in choices:
        raise UserError(f"{flag} {quoted(value)} is unknown; choose {', '.join(choices)}.")


def check_number(flag: str, value: Number, low: Number, high: Number) -> None:
    """Check that a number is within its bounds, ends included.

    Raises:
        UserError: it is not, or it is NaN.
    """
    if not low <= value <= high:
        raise UserError(
            f"{flag} is {quoted(value)}; it must be between {_counted(low)} and {_counted(high)}."
        )


def check_path(flag: str, path: str | Path) -> None:
    """Check that a path can be looked up; a path that does not exist passes.

    Raises:
        UserError: a name in it is too long, a folder is closed to this user, links form a circle, or there is
            no such home.
    """
    try:
        Path(path).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise UserError(f"{flag} {quoted(str(path))} cannot be looked up ({reason}).") from None


def quoted(value: Any) -> str:
    """Return a value as messages repeat it: text in quotes, a number as it is, both cut to 60 characters."""
    text = str(value) if isinstance(value, (float, int)) else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def printable(text: str, lines: bool = False) -> str:
    r"""Escape every character that a terminal or a page would obey or hide: controls, directions of writing,
    half surrogates. The joiners of Persian, Indic scripts and emoji stay.

    Args:
        lines: if true, "\n" stays as it is.
    """
    if text.isprintable():
        return text
    kept = JOINERS + "\n" * lines
    return "".join(
        c if c.isprintable() or c in kept or unicodedata.category(c) == "Zs" else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _counted(number: Number) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,g}"


@functools.cache
def _kinds(config: type) -> dict[str, tuple[type, ...]]:
    """Return the types that each field takes, by name."""
    return {name: typing.get_args(hint) or (hint,) for name, hint in typing.get_type_hints(config).items()}
