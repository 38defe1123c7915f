"""The cells of a recipe: every system with every value of its options, on every data set, with every seed. Light to import."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any

from pipelines.ablate.metrics import metric
from pipelines.ablate.options import MOST, RENAMED, label, owner
from pipelines.ablate.recipe import Recipe, System
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure


@dataclass(frozen=True)
class GridSettings:
    """What all runs of a grid share.

    Attributes:
        budget: the preset.
        minutes: bound on each run's training, beside the preset's steps; None for none.
        seeds: how many, for all systems; None takes the recipe's.
        datasets: in place of the recipe's.
        options: option → values, in place of all systems'.
        split: "test" or "validation".
    """

    budget: str = "small"
    minutes: float | None = None
    seeds: int | None = None
    datasets: tuple[str, ...] = ()
    options: dict[str, list] = dataclasses.field(default_factory=dict)
    split: str = "test"


@dataclass(frozen=True, eq=False)
class Cell:
    """One evaluation of one run.

    Attributes:
        setting: what tells it from the system's other cells: option → value.
        values: all that a recipe says of it, option → value.
        sizes, train: what to train; None where nothing is, or where it is refused.
        tokenize: how its semantic IDs are made; None for models that know items by number.
        decoding: how it is evaluated.
        diagnosed: the dependence between digits is measured too.
        refused: why it cannot be run, in a line.
    """

    dataset: str
    system: str
    model: str
    seed: int
    setting: dict[str, Any]
    values: dict[str, Any]
    model_settings: ModelConfig | None = None
    train: TrainConfig | None = None
    tokenize: TokenizeConfig | None = None
    decoding: Decoding | None = None
    diagnosed: bool = False
    refused: str | None = None

    @property
    def label(self) -> str:
        """Its row in a table."""
        return row_label(self.system, self.setting)


def row_label(system: str, setting: dict[str, Any]) -> str:
    """What a table calls a system with some settings."""
    return " · ".join(filter(None, (system, *(label(option, value) for option, value in setting.items()))))


def cells(recipe: Recipe, scale: GridSettings) -> list[Cell]:
    """All cells of a recipe, in its order.

    Raises:
        UserError: there is no data set, there are too many cells, or not one can be run as it stands.
    """
    datasets = list(dict.fromkeys(scale.datasets or recipe.datasets))
    if not datasets:
        raise UserError(
            f"The recipe {recipe.name} is for data sets of your own: name them with --dataset, separated by commas."
        )
    pairs = [
        (dataset, system)
        for dataset in datasets
        for system in recipe.systems
        if system.runs_on(dataset, bool(scale.datasets))
    ]
    count = sum(
        _seeds(recipe, system, scale)
        * math.prod(map(len, options_of(recipe, system, scale, dataset).values()))
        for dataset, system in pairs
    )
    if count > MOST:
        raise UserError(
            f"This grid has {count:,} cells; {MOST:,} at most can be run. Take fewer values, --seeds or data sets."
        )
    found = [
        cell
        for dataset, system in pairs
        for values in combinations(recipe, system, scale, dataset)
        for cell in _seeded(recipe, system, scale, dataset, values)
    ]
    if not found:
        raise UserError(f"The recipe {recipe.name} has no system for {', '.join(datasets)}.")
    if all(cell.refused for cell in found):
        raise UserError(found[0].refused or "")
    return found


def options_of(recipe: Recipe, system: System, scale: GridSettings, dataset: str) -> dict[str, list]:
    """Option → values of a system on a data set; what is said more closely counts, and what is typed most of all."""
    budget = scale.budget
    parts = (recipe.options, recipe.budgets.get(budget, {}), system.options, system.budgets.get(budget, {}))
    return dict(
        itertools.chain.from_iterable(
            p.items() for p in (*parts, system.on.get(budget, {}).get(dataset, {}), scale.options)
        )
    )


def combinations(
    recipe: Recipe, system: System, scale: GridSettings, dataset: str
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every combination of a system's options: those that vary, and all. Constrained beams are items, so that none has a nearest one."""
    options = options_of(recipe, system, scale, dataset)
    varied = [option for option, values in options.items() if len(values) > 1]
    every = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    sound = [values for values in every if not (values.get("nearest") and values.get("constrained", True))]
    return [({option: values[option] for option in varied}, values) for values in sound or every]


def _seeds(recipe: Recipe, system: System, scale: GridSettings) -> int:
    return (scale.seeds or system.seeds.get(scale.budget, recipe.seeds)) if system.model else 1


def _seeded(
    recipe: Recipe, system: System, scale: GridSettings, dataset: str, combination: tuple[dict, dict]
) -> list[Cell]:
    setting, values = combination
    shared = {
        "dataset": dataset,
        "system": system.name,
        "model": system.model,
        "setting": system.shown | setting,
    }
    shared["values"] = system.shown | values
    if not system.model:
        return [Cell(**shared, seed=0)]
    seeds = range(_seeds(recipe, system, scale))
    diagnosed = any(metric(name).source == "diagnosis" for name in recipe.metrics)
    return [
        Cell(**shared, seed=seed, diagnosed=diagnosed, **configured(system.model, scale, values, seed))
        for seed in seeds
    ]


def configured(model: str, scale: GridSettings, values: dict[str, Any], seed: int) -> dict[str, Any]:
    """The configurations of a cell, or why they are refused."""
    kinds = {
        kind: {option: value for option, value in values.items() if owner(option) == kind}
        for kind in ("tokenize", "train", "eval")
    }
    settings = {**kinds["train"], "seed": seed} | (
        {"minutes": scale.minutes} if scale.minutes is not None else {}
    )
    try:
        model_settings, train = configure(model, scale.budget, settings)
        model_settings.check_horizon(train.horizon)
        tokenize = TokenizeConfig(
            **{RENAMED.get(option, option): value for option, value in kinds["tokenize"].items()}
        )
        if not model_settings.needs and kinds["tokenize"]:
            raise UserError(
                f"--{' and --'.join(kinds['tokenize'])} mean nothing to --model {model}, which knows items by number."
            )
        decoding = Decoding(**kinds["eval"])
    except UserError as error:
        return {"refused": str(error)}
    return {
        "model_settings": model_settings,
        "train": train,
        "tokenize": tokenize if model_settings.needs else None,
        "decoding": decoding,
    }
