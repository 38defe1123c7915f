"""Cells of a recipe: each system with each combination of its options, on each data set, with each seed.

This module imports no heavy library.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any

from pipelines.ablate.metrics import find_metric
from pipelines.ablate.options import MAX_CELLS, RENAMED, option_label, stage_of
from pipelines.ablate.recipe import Recipe, System
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_class
from pipelines.options import flag_named, has_no_effect
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.config import TrainConfig, unread_options
from pipelines.train.configure import configure


@dataclass(frozen=True)
class GridSettings:
    """Settings that all runs of a grid share.

    Attributes:
        budget: preset of every run.
        minutes: bound on the minutes of each training, in addition to the steps of the preset; None for no
            bound.
        seeds: number of seeds of every system; None for the recipe's numbers.
        datasets: data sets that replace the recipe's; empty for the recipe's.
        options: mapping from option to values, which replace the values of all systems.
        split: "test" or "validation".
    """

    budget: str = "small"
    minutes: float | None = None
    seeds: int | None = None
    datasets: tuple[str, ...] = ()
    options: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    split: str = "test"


@dataclass(frozen=True)
class Configurations:
    """Configurations of one cell.

    Attributes:
        model_settings: configuration of the model.
        train: configuration of the training.
        tokenize: configuration of the semantic IDs; None for a model that uses item numbers.
        decoding: configuration of the evaluation.
    """

    model_settings: ModelConfig
    train: TrainConfig
    tokenize: TokenizeConfig | None
    decoding: Decoding


@dataclass(frozen=True, eq=False)
class Cell:
    """One evaluation of one run.

    Attributes:
        dataset: name of the data set.
        system: name of the system in the recipe.
        model: key of `MODELS`; "" if nothing is trained.
        seed: seed of the training.
        varied_options: options that distinguish the cell from the system's other cells, with their values.
        options: all options that the recipe sets for the cell, with their values.
        model_settings: configuration of the model; None if nothing is trained, or if the cell is refused.
        train: configuration of the training; None in the same cases.
        tokenize: configuration of the semantic IDs; None also for a model that uses item numbers.
        decoding: configuration of the evaluation; None if nothing is trained, or if the cell is refused.
        diagnosed: if true, the dependence between digits is measured too.
        refused: reason, in one line, why the cell cannot be run.
    """

    dataset: str
    system: str
    model: str
    seed: int
    varied_options: dict[str, Any]
    options: dict[str, Any]
    model_settings: ModelConfig | None = None
    train: TrainConfig | None = None
    tokenize: TokenizeConfig | None = None
    decoding: Decoding | None = None
    diagnosed: bool = False
    refused: str | None = None

    @property
    def label(self) -> str:
        """Label of the cell's row in a table."""
        return row_label(self.system, self.varied_options)


def row_label(system: str, varied_options: dict[str, Any]) -> str:
    """Return the label of a row: the system's name and its varied options."""
    parts = (system, *(option_label(option, value) for option, value in varied_options.items()))
    return " · ".join(filter(None, parts))


def cells(recipe: Recipe, settings: GridSettings) -> list[Cell]:
    """Return all cells of a recipe, in the recipe's order.

    Raises:
        UserError: there is no data set, there are too many cells, no system is for these data sets, or every
            cell is refused.
    """
    datasets = list(dict.fromkeys(settings.datasets or recipe.datasets))
    if not datasets:
        raise UserError(
            f"The recipe {recipe.name} is for data sets of your own: "
            "name them with --dataset, separated by commas."
        )
    pairs = [
        (dataset, system)
        for dataset in datasets
        for system in recipe.systems
        if system.runs_on(dataset, bool(settings.datasets))
    ]
    count = sum(_count(recipe, system, settings, dataset) for dataset, system in pairs)
    if count > MAX_CELLS:
        raise UserError(
            f"This grid has {count:,} cells; {MAX_CELLS:,} at most can be run. "
            "Take fewer values, --seeds or data sets."
        )
    result = [
        cell
        for dataset, system in pairs
        for varied_options, options in combinations(recipe, system, settings, dataset)
        for cell in _cells_of_row(recipe, system, settings, dataset, varied_options, options)
    ]
    if not result:
        raise UserError(f"The recipe {recipe.name} has no system for {', '.join(datasets)}.")
    if all(cell.refused for cell in result):
        raise UserError(result[0].refused or "")
    return result


def options_of(recipe: Recipe, system: System, settings: GridSettings, dataset: str) -> dict[str, list[Any]]:
    """Return the options of a system on a data set, with their values.

    The more specific value counts. From general to specific, the values are those of the recipe, of the
    recipe at the budget, of the system, of the system at the budget, of the system at the budget on the data
    set, and of the grid's settings.
    """
    budget = settings.budget
    parts = (
        recipe.options,
        recipe.budgets.get(budget, {}),
        system.options,
        system.budgets.get(budget, {}),
        system.on.get(budget, {}).get(dataset, {}),
        settings.options,
    )
    return dict(itertools.chain.from_iterable(part.items() for part in parts))


def combinations(
    recipe: Recipe, system: System, settings: GridSettings, dataset: str
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return every combination of a system's options on a data set.

    A constrained beam is an item already. Combinations of `constrained` and `nearest` are therefore left out,
    unless there is no other combination.

    Returns:
        Pairs of the options that vary and all options, with one value each.
    """
    listed = options_of(recipe, system, settings, dataset)
    varied = [option for option, values in listed.items() if len(values) > 1]
    every = [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]
    valid = [
        options for options in every if not (options.get("nearest") and options.get("constrained", True))
    ]
    return [({option: options[option] for option in varied}, options) for options in valid or every]


def _count(recipe: Recipe, system: System, settings: GridSettings, dataset: str) -> int:
    """Return the number of cells of a system on a data set, impossible combinations included."""
    values = options_of(recipe, system, settings, dataset).values()
    return _seeds(recipe, system, settings) * math.prod(map(len, values))


def _seeds(recipe: Recipe, system: System, settings: GridSettings) -> int:
    if not system.model:
        return 1
    return settings.seeds or system.seeds.get(settings.budget, recipe.seeds)


def _cells_of_row(
    recipe: Recipe,
    system: System,
    settings: GridSettings,
    dataset: str,
    varied_options: dict[str, Any],
    options: dict[str, Any],
) -> list[Cell]:
    """Return one cell for each seed."""
    cell = Cell(
        dataset=dataset,
        system=system.name,
        model=system.model,
        seed=0,
        varied_options=system.shown | varied_options,
        options=system.shown | options,
    )
    if not system.model:
        return [cell]
    diagnosed = any(find_metric(label).source == "diagnosis" for label in recipe.metrics)
    result = []
    for seed in range(_seeds(recipe, system, settings)):
        try:
            configurations = configure_cell(system.model, settings, options, seed)
        except UserError as error:
            fields: dict[str, Any] = {"refused": str(error)}
        else:
            fields = vars(configurations)
        result.append(dataclasses.replace(cell, seed=seed, diagnosed=diagnosed, **fields))
    return result


def configure_cell(model: str, settings: GridSettings, options: dict[str, Any], seed: int) -> Configurations:
    """Return the configurations of a cell.

    Args:
        model: key of `MODELS`.
        settings: settings of the grid; its budget and its bound on the minutes count.
        options: options with one value each.
        seed: seed of the training.

    Raises:
        UserError: a value is refused, or an option means nothing to the model.
    """
    of_stage = {
        stage: {option: value for option, value in options.items() if stage_of(option) == stage}
        for stage in ("tokenize", "train", "eval")
    }
    training = {**of_stage["train"], "seed": seed}
    if settings.minutes is not None and "minutes" not in unread_options(model_class(model)):
        training["minutes"] = settings.minutes
    model_settings, train = configure(model, settings.budget, training)
    model_settings.check_horizon(train.horizon)
    tokenize = TokenizeConfig(
        **{RENAMED.get(name, name): value for name, value in of_stage["tokenize"].items()}
    )
    if not model_settings.needs and of_stage["tokenize"]:
        flags = [flag_named(option) for option in of_stage["tokenize"]]
        raise has_no_effect(flags, f"--model {model}", "which identifies items by number")
    decoding = Decoding(**of_stage["eval"])
    return Configurations(model_settings, train, tokenize if model_settings.needs else None, decoding)
