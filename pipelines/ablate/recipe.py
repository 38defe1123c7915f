"""A recipe: what a table or figure is made of, read from TOML and checked. Light to import."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.ablate.metrics import metric
from pipelines.ablate.options import checked, owner
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.train.presets import PRESET_NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"
BUDGETS = PRESET_NAMES
AXIS_K = "k"  # the x axis of a plot over cut-offs
Value = bool | int | float | str
KEYS: dict[str, dict[str, Any]] = {  # of each part of a recipe → type
    "recipe": {
        "title": str,
        "source": str,
        "note": str,
        "datasets": list[str],
        "metrics": list[str],
        "seeds": int,
    }
    | {
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
SHARE, DIFFERENCE = "share", "difference"
DEEPEST, LARGEST = 6, 2**63  # nesting of a recipe's values; whole numbers of TOML


@dataclass(frozen=True)
class System:
    """One system of a recipe.

    Attributes:
        name: what tables call it.
        model: a key of `MODELS`; "" where nothing is trained.
        options: option → its values; several make several runs or evaluations.
        budgets: budget → options that take the place of these at that budget.
        on: budget → data set → options that take the place of both there.
        datasets: those it is for; None for all of the recipe.
        shown: settings that stand in the table without being options, e.g. the evaluations that an autoregressive model takes.
        seeds: budget → how many, in place of the recipe's.
    """

    name: str
    model: str = ""
    options: dict[str, list] = field(default_factory=dict)
    budgets: dict[str, dict[str, list]] = field(default_factory=dict)
    on: dict[str, dict[str, dict[str, list]]] = field(default_factory=dict)
    datasets: list[str] | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)

    @property
    def claims(self) -> bool:
        """Whether its name is that of a published model, so that a table must say what is ours of it."""
        return bool(self.model) and re.split(r"\W", self.name)[0].casefold() == self.model.split("-")[0]

    def runs_on(self, dataset: str, asked: bool) -> bool:
        """Whether it is for a data set; for all, where a person names them."""
        return asked or self.datasets is None or dataset in self.datasets


@dataclass(frozen=True)
class Recipe:
    """A table or figure.

    Attributes:
        name: of its file, or of a person's own grid.
        metrics: labels, see `metrics.metric`.
        options, budgets: of all systems, below their own.
        seeds: how many where no --seeds is given.
        paper: rows of the paper's figures: "dataset" (the first where it is left out), "system" and options, which a cell must match,
            and values by metric, in the units of the paper's tables. What the systems are at the budget `paper` is what it measured.
        source: where these stand in the paper.
        note: what a reader must know.
        plot: x (an option, or "k" for the cut-offs), y (a metric, or one for each data set), relative_to (settings of the row that each
            value is divided by or less than: as = "share" or "difference"); empty for bars.
    """

    name: str
    title: str
    datasets: list[str]
    metrics: list[str]
    systems: list[System]
    options: dict[str, list] = field(default_factory=dict)
    budgets: dict[str, dict[str, list]] = field(default_factory=dict)
    seeds: int = 1
    paper: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""
    note: str = ""
    plot: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` reads them."""
        return dataclasses.asdict(self)


def from_dict(found: dict[str, Any]) -> Recipe:
    """A recipe from what `Recipe.to_dict` gave."""
    return Recipe(**{**found, "systems": [System(**system) for system in found["systems"]]})


def names() -> list[str]:
    """The recipes of the package, tables first."""
    return sorted(
        (p.stem for p in FOLDER.glob("*.toml")),
        key=lambda name: (not name.startswith("table"), name[:3] != "fig", name),
    )


def load(name: str) -> Recipe:
    """A recipe of the package by name, or any TOML file by path.

    Raises:
        UserError: there is none, it is not TOML, or it names what does not exist.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        return read(path.stem, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise UserError(
            f"There is no recipe {name!r}; choose {', '.join(names())}, or name a TOML file."
        ) from None
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: no UTF-8, no TOML, a number of thousands of digits
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{path} cannot be read as TOML: {reason}.") from None


def read(name: str, found: dict[str, Any], where: str) -> Recipe:
    """Check what a TOML file holds.

    Args:
        where: the file, for errors.

    Raises:
        UserError: naming the file, the key and what is wrong with it.
    """
    try:
        for key, value in found.items():
            _sane(value, key)
        _expect(found, "recipe", "", required=("title", "datasets", "metrics", "system"))
        if not found["metrics"] or not found["system"] or not found.get("seeds", 1) > 0:
            raise UserError("metrics and system hold one entry at least, and seeds is at least 1")
        options, budgets = _options(found.get("options", {}), "options")
        systems = [_system(entry, number) for number, entry in enumerate(found["system"], start=1)]
        if len({system.name for system in systems}) < len(systems):
            raise UserError(
                f"system: each needs a name of its own, not as in {', '.join(system.name for system in systems)}"
            )
        for label in found["metrics"]:
            _at("metrics", metric, label)
        if len({*found["metrics"]}) < len(found["metrics"]):
            raise UserError(f"metrics has one twice: {', '.join(found['metrics'])}")
        plot = found.get("plot", {})
        _expect(plot, "plot", "plot: ")
        _plot(plot, systems, options)
        for number, row in enumerate(found.get("paper", []), start=1):
            _paper(row, f"paper {number}", systems, found["metrics"])
    except UserError as error:
        raise UserError(f"{where}: {error}.".replace("..", ".")) from None
    return Recipe(
        name=name,
        systems=systems,
        options=options,
        budgets=budgets,
        **{key: found[key] for key in KEYS["recipe"] if key in found and key not in ("options", "system")},
    )


def _system(entry: dict[str, Any], number: int) -> System:
    place = f"system {entry.get('name', number)}"
    own = {key: value for key, value in entry.items() if key in KEYS["system"]}
    _expect(own, "system", f"{place}: ", required=("name",))
    if not own["name"]:
        raise UserError(f"{place}: name is empty")
    if "model" in own and own["model"] not in MODELS:
        raise UserError(f"{place}: model {own['model']!r} is unknown; choose {', '.join(MODELS)}")
    for budget, seeds in own.get("seeds", {}).items():
        if budget not in BUDGETS or seeds < 1:
            raise UserError(
                f"{place}: seeds has {budget} = {seeds!r}; it maps {', '.join(BUDGETS)} to a number of at least 1"
            )
    rest = {key: value for key, value in entry.items() if key not in own}
    on = {
        budget: {data: rest[budget][data] for data in _tables(rest[budget])}
        for budget in BUDGETS
        if _tables(rest.get(budget))
    }
    rest |= {
        budget: {key: value for key, value in rest[budget].items() if key not in on[budget]} for budget in on
    }
    options, budgets = _options(rest, place)
    checked_on = {
        b: {data: _checked(found, f"{place}.{b}.{data}") for data, found in sets.items()}
        for b, sets in on.items()
    }
    return System(**own, options=options, budgets=budgets, on=checked_on)


def _tables(found: Any) -> list[str]:
    """The keys that hold a table."""
    return [key for key, value in found.items() if isinstance(value, dict)] if isinstance(found, dict) else []


def _options(found: dict[str, Any], place: str) -> tuple[dict[str, list], dict[str, dict[str, list]]]:
    """Options, and those of each budget."""
    options = _checked({key: value for key, value in found.items() if key not in BUDGETS}, place)
    return options, {
        budget: _checked(found[budget], f"{place}.{budget}") for budget in BUDGETS if budget in found
    }


def _checked(found: Any, place: str) -> dict[str, list]:
    if not isinstance(found, dict):
        raise UserError(f"{place} is {found!r}; it must be a table of options")
    return {key: _at(place, checked, key, value) for key, value in found.items()}


def _plot(plot: dict[str, Any], systems: list[System], options: dict[str, list]) -> None:
    known = {*options, *(key for system in systems for key in (*system.options, *system.shown))}
    if "x" in plot and plot["x"] != AXIS_K and plot["x"] not in known:
        raise UserError(
            f"plot: x is {plot['x']!r}, which no system sets; choose {AXIS_K} or {', '.join(sorted(known))}"
        )
    for label in (
        plot["y"].values() if isinstance(plot.get("y"), dict) else [plot["y"]] if "y" in plot else []
    ):
        _at("plot: y", metric, label)
    if plot.get("as", SHARE) not in (SHARE, DIFFERENCE):
        raise UserError(f"plot: as is {plot['as']!r}; choose {SHARE} or {DIFFERENCE}")


def _paper(row: dict[str, Any], place: str, systems: list[System], metrics: list[str]) -> None:
    """A row of the paper's figures: what it is of must exist, and so must its metrics."""
    named = {system.name: system for system in systems}
    if row.get("system") not in named:
        raise UserError(f"{place}: system {row.get('system')!r} is none of the recipe's")
    for key, value in row.items():
        if key in metrics and not (type(value) in (int, float) and abs(value) < math.inf):
            raise UserError(f"{place}: {key} is {value!r}; it must be a finite number")
        if key in ("system", "dataset", *metrics, *named[row["system"]].shown):
            continue
        _at(place, owner if "@" not in key else metric, key)
        if "@" in key:
            raise UserError(f"{place}: {key} is none of the recipe's metrics ({', '.join(metrics)})")


def _sane(value: Any, place: str, depth: int = 1) -> None:
    """Refuse what cannot even be shown: values nested deep, numbers of more than 64 bits."""
    if depth > DEEPEST:
        raise UserError(f"{place} is nested deeper than {DEEPEST} levels")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise UserError(f"{place} holds a whole number of more than 64 bits")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _sane(part, place, depth + 1)


def _expect(found: dict[str, Any], part: str, place: str, required: tuple[str, ...] = ()) -> None:
    """Keys that are known, there and of the right type."""
    for key, value in found.items():
        if key not in KEYS[part]:
            raise UserError(f"{place}{key!r} is unknown; choose {', '.join(KEYS[part])}")
        if not _fits(value, KEYS[part][key]):
            raise UserError(f"{place}{key} is {value!r}, which is of another type than expected")
    for key in required:
        if key not in found:
            raise UserError(f"{place}{key} is missing")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of TOML is of a type such as str, list[str] or dict[str, int]; true is no number."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(_fits(part, inner[0]) for part in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(part, inner[1]) for part in value.values())
    if inner:
        return any(_fits(value, one) for one in inner)
    return kind is Any or type(value) is kind


def _at(place: str, check: Any, *values: Any) -> Any:
    try:
        return check(*values)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
