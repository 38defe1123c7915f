"""Recipe of a table or figure: its systems, options, metrics, and the paper's figures.

This module imports no heavy library. `recipe_file` reads recipes from TOML.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from pipelines.train.presets import PRESET_NAMES

Options = dict[str, list[Any]]  # option → values
BUDGETS = PRESET_NAMES
AXIS_K = "k"  # horizontal axis of a plot over cut-offs
SHARE, DIFFERENCE = "share", "difference"  # values of `as` in a plot


@dataclass(frozen=True)
class System:
    """One system of a recipe.

    Attributes:
        name: name in tables.
        model: key of `MODELS`; "" if nothing is trained.
        options: mapping from option to values; several values make several runs or evaluations.
        budgets: mapping from budget to options, which replace `options` at that budget.
        on: mapping from budget to data set to options, which replace both of the above.
        datasets: data sets of the system; None for all data sets of the recipe.
        shown: settings that stand in the row's label but are no options, e.g. the function evaluations of an
            autoregressive model.
        seeds: mapping from budget to the number of seeds, which replaces the recipe's number.
    """

    name: str
    model: str = ""
    options: Options = field(default_factory=dict)
    budgets: dict[str, Options] = field(default_factory=dict)
    on: dict[str, dict[str, Options]] = field(default_factory=dict)
    datasets: list[str] | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)

    @property
    def names_published_model(self) -> bool:
        """True if the name is that of a published model, so that a table must tell how the system differs."""
        return bool(self.model) and re.split(r"\W", self.name)[0].casefold() == self.model.split("-")[0]

    def runs_on(self, dataset: str, named: bool) -> bool:
        """Return whether the system is for a data set; it is for every data set that the user names."""
        return named or self.datasets is None or dataset in self.datasets


@dataclass(frozen=True)
class Recipe:
    """A table or figure.

    Attributes:
        name: name of the recipe's file, or of the user's own grid.
        title: title of the report.
        datasets: names of data sets.
        metrics: labels of metrics, see `metrics.find_metric`.
        systems: systems in the order of the table's rows.
        options: options of all systems; the systems' own options replace them.
        budgets: mapping from budget to options, which replace `options` at that budget.
        seeds: number of seeds without --seeds.
        paper: rows of the paper's figures. A row holds "dataset" (the first one if it is left out), "system",
            the options that a cell must match, and figures by metric, in the units of the paper's tables. The
            systems at the budget `paper` are the systems that the paper measured.
        source: place of these figures in the paper.
        note: remarks for the reader.
        plot: x (an option, or "k" for the cut-offs), y (a metric, or one for each data set), relative_to
            (settings of the row to which each value is compared) and as ("share": divided by that row's
            value, or "difference": minus that value). Without x the plot shows dots.
    """

    name: str
    title: str
    datasets: list[str]
    metrics: list[str]
    systems: list[System]
    options: Options = field(default_factory=dict)
    budgets: dict[str, Options] = field(default_factory=dict)
    seeds: int = 1
    paper: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""
    note: str = ""
    plot: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values, from which `from_dict` makes a recipe."""
        return dataclasses.asdict(self)


def from_dict(values: dict[str, Any]) -> Recipe:
    """Return the recipe with the values that `Recipe.to_dict` returned."""
    return Recipe(**{**values, "systems": [System(**system) for system in values["systems"]]})
