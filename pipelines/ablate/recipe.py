"""A recipe: what a table or figure is made of, read from TOML and checked. Light to import."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.ablate.metrics import metric
from pipelines.ablate.options import checked, owner
from pipelines.errors import UserError
from pipelines.models.configs import MODELS
from pipelines.train.presets import PRESET_NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"
BUDGETS = PRESET_NAMES
AXIS_K = "k"  # the x axis of a plot over cut-offs
KEYS = {  # of each part of a recipe → type
    "recipe": {"title": str, "source": str, "note": str, "datasets": list, "metrics": list, "seeds": int, "plot": dict, "paper": list}
    | {"options": dict, "system": list},
    "plot": {"x": str, "y": (str, dict), "relative_to": dict, "as": str},
    "system": {"name": str, "model": str, "datasets": list, "shown": dict, "seeds": dict},
}
SHARE, DIFFERENCE = "share", "difference"


@dataclass(frozen=True)
class System:
    """One system of a recipe.

    Attributes:
        name: what tables call it.
        model: a key of `MODELS`; "" where nothing is trained.
        options: option → its values; several make several runs or evaluations.
        budgets: budget → options that take the place of these at that budget.
        datasets: those it is for; None for all of the recipe.
        shown: settings that stand in the table without being options, e.g. the evaluations that an autoregressive model takes.
        seeds: budget → how many, in place of the recipe's.
    """

    name: str
    model: str = ""
    options: dict[str, list] = field(default_factory=dict)
    budgets: dict[str, dict[str, list]] = field(default_factory=dict)
    datasets: list[str] | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)

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
            and values by metric, in the units of the paper's tables.
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

    def plain(self) -> dict[str, Any]:
        """As JSON values; `revived` reads them."""
        return dataclasses.asdict(self)


def revived(found: dict[str, Any]) -> Recipe:
    """A recipe from what `Recipe.plain` gave."""
    return Recipe(**{**found, "systems": [System(**system) for system in found["systems"]]})


def names() -> list[str]:
    """The recipes of the package, tables first."""
    return sorted((p.stem for p in FOLDER.glob("*.toml")), key=lambda name: (not name.startswith("table"), name[:3] != "fig", name))


def load(name: str) -> Recipe:
    """A recipe of the package by name, or any TOML file by path.

    Raises:
        UserError: there is none, it is not TOML, or it names what does not exist.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        return read(path.stem, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise UserError(f"There is no recipe {name!r}; choose {', '.join(names())}, or name a TOML file.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML: {error}.") from None


def read(name: str, found: dict[str, Any], where: str) -> Recipe:
    """Check what a TOML file holds.

    Args:
        where: the file, for errors.

    Raises:
        UserError: naming the file, the key and what is wrong with it.
    """
    try:
        _expect(found, "recipe", "", required=("title", "datasets", "metrics", "system"))
        options, budgets = _options(found.get("options", {}), "options")
        systems = [_system(entry, number) for number, entry in enumerate(found["system"], start=1)]
        if len({system.name for system in systems}) < len(systems):
            raise UserError(f"system: each needs a name of its own, not as in {', '.join(system.name for system in systems)}")
        for label in found["metrics"]:
            _at("metrics", metric, label)
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
    if "model" in own and own["model"] not in MODELS:
        raise UserError(f"{place}: model {own['model']!r} is unknown; choose {', '.join(MODELS)}")
    for budget, seeds in own.get("seeds", {}).items():
        if budget not in BUDGETS or type(seeds) is not int or seeds < 1:
            raise UserError(f"{place}: seeds has {budget} = {seeds!r}; it maps {', '.join(BUDGETS)} to a number of at least 1")
    options, budgets = _options({key: value for key, value in entry.items() if key not in own}, place)
    return System(**own, options=options, budgets=budgets)


def _options(found: dict[str, Any], place: str) -> tuple[dict[str, list], dict[str, dict[str, list]]]:
    """Options, and those of each budget."""
    options = {key: _at(place, checked, key, value) for key, value in found.items() if key not in BUDGETS}
    budgets = {
        budget: {key: _at(f"{place}.{budget}", checked, key, value) for key, value in found[budget].items()}
        for budget in BUDGETS
        if budget in found
    }
    return options, budgets


def _plot(plot: dict[str, Any], systems: list[System], options: dict[str, list]) -> None:
    known = {*options, *(key for system in systems for key in (*system.options, *system.shown))}
    if "x" in plot and plot["x"] != AXIS_K and plot["x"] not in known:
        raise UserError(f"plot: x is {plot['x']!r}, which no system sets; choose {AXIS_K} or {', '.join(sorted(known))}")
    for label in plot["y"].values() if isinstance(plot.get("y"), dict) else [plot["y"]] if "y" in plot else []:
        _at("plot: y", metric, label)
    if plot.get("as", SHARE) not in (SHARE, DIFFERENCE):
        raise UserError(f"plot: as is {plot['as']!r}; choose {SHARE} or {DIFFERENCE}")


def _paper(row: dict[str, Any], place: str, systems: list[System], metrics: list[str]) -> None:
    """A row of the paper's figures: what it is of must exist, and so must its metrics."""
    named = {system.name: system for system in systems}
    if row.get("system") not in named:
        raise UserError(f"{place}: system {row.get('system')!r} is none of the recipe's")
    for key in row:
        if key in ("system", "dataset", *metrics, *named[row["system"]].shown):
            continue
        _at(place, owner if "@" not in key else metric, key)
        if "@" in key:
            raise UserError(f"{place}: {key} is none of the recipe's metrics ({', '.join(metrics)})")


def _expect(found: dict[str, Any], part: str, place: str, required: tuple[str, ...] = ()) -> None:
    """Keys that are known, there and of the right type."""
    for key, value in found.items():
        if key not in KEYS[part]:
            raise UserError(f"{place}{key!r} is unknown; choose {', '.join(KEYS[part])}")
        if not isinstance(value, KEYS[part][key]):
            raise UserError(f"{place}{key} is {value!r}, which is of another type than expected")
    for key in required:
        if key not in found:
            raise UserError(f"{place}{key} is missing")


def _at(place: str, check: Any, *values: Any) -> Any:
    try:
        return check(*values)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
