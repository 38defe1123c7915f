"""Difference between a cell of a grid and the published model, for labels and for comparisons with the paper.

The published model is the preset `paper` together with, in a recipe that holds figures of the paper, the
options that the recipe sets at the budget `paper`. This module imports no heavy library.
"""

from __future__ import annotations

from typing import Any

from pipelines.ablate.grid import Cell, Configurations, GridSettings, configure_cell, options_of
from pipelines.ablate.options import RENAMED
from pipelines.ablate.recipe import Recipe, System
from pipelines.errors import UserError
from pipelines.models.config import SIZES, label

BUDGET = "paper"
TEXTS = "flan-t5-xxl"  # embeddings from which the paper makes its semantic IDs (section 4.1)
NEUTRAL = {"seed", "precision", "micro_tokens"}  # training options that do not change the experiment
OURS = ", ours: "
OPTIONS = {field: option for option, field in RENAMED.items()}  # field → option, where the names differ
UNKNOWN = "settings not recorded"  # in reports that older versions wrote


def departures(recipe: Recipe, cell: Cell, sids: str | None = None) -> str | None:
    """Describe how a cell differs from the published model, e.g. "item softmax, Muon, other sizes".

    Args:
        recipe: recipe of the cell.
        cell: cell of a grid.
        sids: name of its semantic IDs, which begins with the name of the embeddings from which they are made.

    Returns:
        Text, empty if there is no difference; None if nothing is trained, or if the cell is refused.
    """
    if cell.model_settings is None or cell.train is None:
        return None
    try:
        published = configure_cell(cell.model, GridSettings(BUDGET), _published_options(recipe, cell), seed=0)
    except UserError:
        return "settings that the preset paper refuses"
    trained = _changed_fields(cell.train, published.train)
    sizes = _changed_fields(cell.model_settings, published.model_settings)
    differences = list(cell.model_settings.departures(published.model_settings))
    if "optimizer" in trained:
        differences.append(label("optimizer", cell.train.optimizer))
    differences += _differences_of_sids(recipe, cell, published, sids)
    if any(name in SIZES for name in sizes):
        differences.append("other sizes")
    if trained.keys() - {"optimizer", *NEUTRAL}:
        differences.append("other training")
    if not differences and recipe.paper and _changed_fields(cell.decoding, published.decoding):
        differences = ["other decoding"]
    return ", ".join(differences)


def _differences_of_sids(
    recipe: Recipe, cell: Cell, published: Configurations, sids: str | None
) -> list[str]:
    """Describe how the semantic IDs of a cell differ; an option that is None is not used by the method."""
    if not cell.tokenize:
        return []
    differences = []
    if recipe.paper:
        differences += [
            label(OPTIONS.get(name, name), value)
            for name, value in _changed_fields(cell.tokenize, published.tokenize).items()
            if value is not None
        ]
    if cell.tokenize.method != "random" and sids:
        embeddings = sids.split(f"-{cell.tokenize.num_levels}x")[0]
        if embeddings != TEXTS:
            differences.append(f"{embeddings} embeddings")
    return differences


def _published_options(recipe: Recipe, cell: Cell) -> dict[str, Any]:
    """Return the options of a cell's row at the budget `paper`.

    There are none if the recipe has no figures of the paper.
    """
    if not recipe.paper:
        return {}
    (system,) = (system for system in recipe.systems if system.name == cell.system)
    listed = options_of(recipe, system, GridSettings(BUDGET), cell.dataset)
    return {
        option: cell.options[option] if cell.options.get(option) in values else values[0]
        for option, values in listed.items()
    }


def _changed_fields(one: Any, other: Any) -> dict[str, Any]:
    """Return the fields of a configuration that differ from those of another one, with their values."""
    return {name: value for name, value in vars(one).items() if value != getattr(other, name)}


def display_name(system: System, departures: str | None, compared: bool) -> str:
    """Return the name of a system in tables, which tells whether the row is the published model of that name.

    Args:
        system: system of a recipe.
        departures: differences of its cells from the published model; None if nothing is trained.
        compared: true if the recipe has figures of the paper.
    """
    if not system.names_published_model or departures is None:
        return system.name
    if departures:
        return f"{system.name}{OURS}{departures}"
    same = "as in the paper" if system.model.startswith("maskgr") else "as published"
    return f"{system.name}, {same}" if compared else system.name
