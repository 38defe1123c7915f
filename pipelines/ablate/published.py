"""Whether a cell of a grid is the published model, and if not, by what it is another: labels and differences from the paper follow.

What is published is the preset `paper` and, of a recipe that holds the paper's figures, what it says at the budget `paper`. Light to
import.
"""

from __future__ import annotations

from typing import Any

from pipelines.ablate.grid import Cell, GridSettings, configured, options_of
from pipelines.ablate.recipe import Recipe, System
from pipelines.models.config import SIZES, said

BUDGET = "paper"
TEXTS = "flan-t5-xxl"  # embeddings that the paper's semantic IDs are made of (section 4.1)
UNTOLD = {"seed", "precision", "micro_tokens"}  # fields of training that make no other experiment
OURS = ", ours: "
UNKNOWN = "settings not recorded"  # of reports from before they were


def departures(recipe: Recipe, cell: Cell, sids: str | None = None) -> str | None:
    """By what a cell is another than the published model, e.g. "joint digits, Muon, other sizes"; "" for nothing.

    Args:
        sids: name of its semantic IDs, which begins with that of the embeddings that they are made of.

    Returns:
        None where nothing is trained, or nothing can be.
    """
    if cell.model_settings is None or cell.train is None:
        return None
    published = configured(cell.model, GridSettings(BUDGET), _published(recipe, cell), seed=0)
    if "refused" in published:
        return "settings that the preset paper refuses"
    model_settings, train = published["model_settings"], published["train"]
    trained = _changed(cell.train, train)
    found = list(cell.model_settings.departures(model_settings))
    found += [said("optimizer", cell.train.optimizer)] * ("optimizer" in trained)
    if cell.tokenize and recipe.paper:
        changed = _changed(cell.tokenize, published["tokenize"])  # None is what the method does not read
        found += [
            said(name.replace("layers", "sids"), value)
            for name, value in changed.items()
            if value is not None
        ]
    if cell.tokenize and cell.tokenize.method != "random" and sids:
        texts = sids.split(f"-{cell.tokenize.num_levels}x")[0]
        found += [f"{texts} texts"] * (texts != TEXTS)
    found += ["other sizes"] * any(name in SIZES for name in _changed(cell.model_settings, model_settings))
    found += ["other training"] * bool(trained.keys() - {"optimizer", *UNTOLD})
    if not found and recipe.paper and _changed(cell.decoding, published["decoding"]):
        found = ["other decoding"]
    return ", ".join(found)


def _published(recipe: Recipe, cell: Cell) -> dict[str, Any]:
    """The options of a recipe's row at the budget `paper`; none where the recipe has no figures of the paper."""
    if not recipe.paper:
        return {}
    (system,) = (system for system in recipe.systems if system.name == cell.system)
    listed = options_of(recipe, system, GridSettings(BUDGET), cell.dataset)
    return {
        option: cell.values[option] if cell.values.get(option) in values else values[0]
        for option, values in listed.items()
    }


def _changed(one: Any, other: Any) -> dict[str, Any]:
    """The fields of a configuration whose values are not those of another."""
    return {name: value for name, value in vars(one).items() if value != getattr(other, name)}


def named(system: System, departures: str | None, compared: bool) -> str:
    """What tables call a system: a name that is a published model's says whether the row is that model.

    Args:
        departures: of its cells; None where nothing is trained.
        compared: the recipe has figures of the paper.
    """
    if not system.claims or departures is None:
        return system.name
    if departures:
        return f"{system.name}{OURS}{departures}"
    same = "as in the paper" if system.model.startswith("maskgr") else "as published"
    return f"{system.name}, {same}" if compared else system.name
