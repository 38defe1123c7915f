"""Recipes in TOML files: reading and checking.

This module imports no heavy library.
"""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipelines.ablate.metrics import find_metric
from pipelines.ablate.options import check_values, stage_of
from pipelines.ablate.recipe import AXIS_K, BUDGETS, DIFFERENCE, SHARE, Options, Recipe, System
from pipelines.errors import UserError
from pipelines.models.registry import MODELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
FOLDER = Path(__file__).parent / "recipes"
Value = bool | int | float | str
KEYS: dict[str, dict[str, Any]] = {  # part of a recipe → key → type
    "recipe": {
        "title": str,
        "source": str,
        "note": str,
        "datasets": list[str],
        "metrics": list[str],
        "seeds": int,
        "plot": dict[str, Any],
        "paper": list[dict[str, Value]],
        "options": dict[str, Any],
        "system": list[dict[str, Any]],
    },
    "plot": {"x": str, "y": str | dict[str, str], "relative_to": dict[str, Value], "as": str},
    "system": {
        "name": str,
        "model": str,
        "datasets": list[str],
        "shown": dict[str, Value],
        "seeds": dict[str, int],
    },
}
MAX_DEPTH, INTEGER_LIMIT = 6, 2**63  # nesting of a recipe's values; bound of TOML's whole numbers


def names() -> list[str]:
    """Return the names of the package's recipes: tables, then figures, then all others."""
    return sorted(
        (p.stem for p in FOLDER.glob("*.toml")),
        key=lambda name: (not name.startswith("table"), name[:3] != "fig", name),
    )


def load(name: str) -> Recipe:
    """Load a recipe of the package by name, or any TOML file by path.

    Raises:
        UserError: there is no such recipe, it is not TOML, or it is not a valid recipe.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        return read(path.stem, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise UserError(
            f"There is no recipe {name!r}; choose {', '.join(names())}, or name a TOML file."
        ) from None
    except RecursionError:
        raise UserError(f"{path} cannot be read as TOML: it is nested too deep.") from None
    except (
        OSError,
        ValueError,
    ) as error:  # ValueError: no UTF-8, no TOML, or a number of thousands of digits
        raise UserError(f"{path} cannot be read as TOML: {error}.") from None


def read(name: str, values: dict[str, Any], source: str) -> Recipe:
    """Return a recipe from the values of a TOML file.

    Args:
        name: name of the recipe.
        values: values of the file.
        source: name of the file in error messages.

    Raises:
        UserError: the message names the file, the key and the error.
    """
    try:
        options, budgets, systems = _check(values)
    except UserError as error:
        raise UserError(f"{source}: {error}.".replace("..", ".")) from None
    taken = {key: values[key] for key in KEYS["recipe"] if key in values and key not in ("options", "system")}
    return Recipe(name=name, systems=systems, options=options, budgets=budgets, **taken)


def _check(values: dict[str, Any]) -> tuple[Options, dict[str, Options], list[System]]:
    """Check the values of a recipe; return its options, its options at budgets, and its systems."""
    for key, value in values.items():
        _check_limits(value, key)
    _check_keys(values, "recipe", "", required=("title", "datasets", "metrics", "system"))
    if not values["metrics"] or not values["system"] or not values.get("seeds", 1) > 0:
        raise UserError("metrics and system hold one entry at least, and seeds is at least 1")
    options, budgets = _options(values.get("options", {}), "options")
    systems = [_system(entry, number) for number, entry in enumerate(values["system"], start=1)]
    if len({system.name for system in systems}) < len(systems):
        listed = ", ".join(system.name for system in systems)
        raise UserError(f"system: each needs a name of its own, not as in {listed}")
    for label in values["metrics"]:
        _with_place("metrics", find_metric, label)
    if len({*values["metrics"]}) < len(values["metrics"]):
        raise UserError(f"metrics has one twice: {', '.join(values['metrics'])}")
    plot = values.get("plot", {})
    _check_keys(plot, "plot", "plot: ")
    _check_plot(plot, systems, options)
    for number, row in enumerate(values.get("paper", []), start=1):
        _check_paper_row(row, f"paper {number}", systems, values["metrics"])
    return options, budgets, systems


def _system(entry: dict[str, Any], number: int) -> System:
    place = f"system {entry.get('name', number)}"
    attributes = {key: value for key, value in entry.items() if key in KEYS["system"]}
    _check_keys(attributes, "system", f"{place}: ", required=("name",))
    if not attributes["name"]:
        raise UserError(f"{place}: name is empty")
    if "model" in attributes and attributes["model"] not in MODELS:
        raise UserError(f"{place}: model {attributes['model']!r} is unknown; choose {', '.join(MODELS)}")
    for budget, seeds in attributes.get("seeds", {}).items():
        if budget not in BUDGETS or seeds < 1:
            raise UserError(
                f"{place}: seeds has {budget} = {seeds!r}; "
                f"it maps {', '.join(BUDGETS)} to a number of at least 1"
            )
    rest = {key: value for key, value in entry.items() if key not in attributes}
    tables: dict[str, dict[str, Any]] = {}  # budget → data set → options
    for budget in BUDGETS:
        datasets = _tables(rest.get(budget))
        if datasets:
            tables[budget] = {dataset: rest[budget][dataset] for dataset in datasets}
            rest[budget] = {key: value for key, value in rest[budget].items() if key not in datasets}
    options, budgets = _options(rest, place)
    on = {
        budget: {
            dataset: _checked_options(values, f"{place}.{budget}.{dataset}")
            for dataset, values in by_dataset.items()
        }
        for budget, by_dataset in tables.items()
    }
    return System(**attributes, options=options, budgets=budgets, on=on)


def _tables(value: Any) -> list[str]:
    """Return the keys of a table whose values are tables."""
    return [key for key, entry in value.items() if isinstance(entry, dict)] if isinstance(value, dict) else []


def _options(values: dict[str, Any], place: str) -> tuple[Options, dict[str, Options]]:
    """Return the options, and the options at each budget."""
    options = _checked_options({key: value for key, value in values.items() if key not in BUDGETS}, place)
    return options, {
        budget: _checked_options(values[budget], f"{place}.{budget}")
        for budget in BUDGETS
        if budget in values
    }


def _checked_options(values: Any, place: str) -> Options:
    if not isinstance(values, dict):
        raise UserError(f"{place} is {values!r}; it must be a table of options")
    return {key: _with_place(place, check_values, key, value) for key, value in values.items()}


def _check_plot(plot: dict[str, Any], systems: list[System], options: Options) -> None:
    known = {*options, *(key for system in systems for key in (*system.options, *system.shown))}
    if "x" in plot and plot["x"] != AXIS_K and plot["x"] not in known:
        raise UserError(
            f"plot: x is {plot['x']!r}, which no system sets; choose {AXIS_K} or {', '.join(sorted(known))}"
        )
    y = plot.get("y", {})
    for label in y.values() if isinstance(y, dict) else [y]:
        _with_place("plot: y", find_metric, label)
    if plot.get("as", SHARE) not in (SHARE, DIFFERENCE):
        raise UserError(f"plot: as is {plot['as']!r}; choose {SHARE} or {DIFFERENCE}")


def _check_paper_row(row: dict[str, Any], place: str, systems: list[System], metrics: list[str]) -> None:
    """Check a row of the paper's figures: its system, its options and its metrics must exist."""
    by_name = {system.name: system for system in systems}
    if row.get("system") not in by_name:
        raise UserError(f"{place}: system {row.get('system')!r} is none of the recipe's")
    for key, value in row.items():
        if key in metrics and not (type(value) in (int, float) and abs(value) < math.inf):
            raise UserError(f"{place}: {key} is {value!r}; it must be a finite number")
        if key in ("system", "dataset", *metrics, *by_name[row["system"]].shown):
            continue
        if "@" not in key:
            _with_place(place, stage_of, key)
            continue
        _with_place(place, find_metric, key)
        raise UserError(f"{place}: {key} is none of the recipe's metrics ({', '.join(metrics)})")


def _check_limits(value: Any, place: str, depth: int = 1) -> None:
    """Refuse values that cannot even be printed: deep nesting, and numbers of more than 64 bits."""
    if depth > MAX_DEPTH:
        raise UserError(f"{place} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, int) and abs(value) >= INTEGER_LIMIT:
        raise UserError(f"{place} holds a whole number of more than 64 bits")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_limits(part, place, depth + 1)


def _check_keys(values: dict[str, Any], part: str, place: str, required: tuple[str, ...] = ()) -> None:
    """Check that all keys are known, that no required key is missing, and the types of all values."""
    for key, value in values.items():
        if key not in KEYS[part]:
            raise UserError(f"{place}{key!r} is unknown; choose {', '.join(KEYS[part])}")
        if not _fits(value, KEYS[part][key]):
            raise UserError(f"{place}{key} is {value!r}, which is of another type than expected")
    for key in required:
        if key not in values:
            raise UserError(f"{place}{key} is missing")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value fits a type such as str, list[str] or dict[str, int]; true is not a number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(part, arguments[0]) for part in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(part, arguments[1]) for part in value.values())
    if arguments:
        return any(_fits(value, one) for one in arguments)
    return hint is Any or type(value) is hint


def _with_place(place: str, check: Callable[..., T], *values: Any) -> T:
    """Return the result of a check; its error message begins with the place."""
    try:
        return check(*values)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
