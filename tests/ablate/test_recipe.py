"""Recipes: those of the package can all be run, and a mistake in one is one clear line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pipelines.ablate.grid import GridSettings, cells
from pipelines.ablate.options import check_values, option_label, parse_values, stage_of
from pipelines.ablate.recipe import BUDGETS, from_dict
from pipelines.ablate.recipe_file import load, names, read
from pipelines.errors import UserError
from pipelines.train.configure import configure
from tests.ablate.conftest import TOML

PAPER = {"table1", "table2", "table3", "table4", "table5", "table6", "figure2", "figure3", "figure4"}


@pytest.mark.parametrize("name", names())
def test_every_recipe_makes_cells_at_every_budget(name: str) -> None:
    recipe = load(name)
    assert from_dict(recipe.to_dict()) == recipe
    for budget in BUDGETS:
        found = cells(recipe, GridSettings(budget, datasets=tuple(recipe.datasets or ["mine"])))
        assert [(cell.label, cell.refused) for cell in found if cell.refused] == []
        assert len({(cell.dataset, cell.label, cell.seed) for cell in found}) == len(found)


def test_every_table_and_figure_with_figures_has_a_recipe() -> None:
    assert set(names()) >= PAPER


def test_each_lever_changes_the_preset_small() -> None:
    """The first system is the preset with more validations; none of the others is it under another name."""
    first, *others = (cell for cell in cells(load("levers"), GridSettings("small")) if cell.seed == 0)
    model_settings, train = configure("maskgr", "small", {"validations": 4, "validation_users": 0})
    assert (first.model_settings, first.train) == (model_settings, train)
    plans = [(cell.model_settings, cell.train) for cell in (first, *others)]
    assert len(set(plans)) == len(plans) > 10


def changed(path: str, value: Any) -> dict[str, Any]:
    """The toy recipe with another value at a path such as "system.1.model"."""
    found = copy.deepcopy(TOML)
    *places, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    part: Any = found
    for place in places:
        part = part[place]
    part[last] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("system.0.model", "gru", r"toy\.toml: system Items: model 'gru' is unknown; choose maskgr, sasrec"),
        ("system.1.colour", 3, r"toy\.toml: system Digits: there is no option 'colour'"),
        ("system.1.smoke", {"colour": 3}, r"system Digits\.smoke: there is no option 'colour'"),
        ("system.1.nfe", "all", r"system Digits: nfe is 'all'; it must be a whole number"),
        ("system.1.nfe", True, "nfe is True; it must be a whole number"),
        ("system.1.nfe", [], "nfe has no value"),
        ("system.1.seed", 1, "--seeds N"),
        ("system.1.name", "Items", "each needs a name of its own"),
        ("metrics", ["R@7"], r"toy\.toml: metrics: metric 'R@7' is unknown; choose R@5"),
        (
            "system.0.seeds",
            {"tiny": 3},
            r"toy\.toml: system Items: seeds has tiny = 3; it maps paper, small, smoke",
        ),
        ("system.0.seeds", {"small": 0}, "seeds has small = 0"),
        ("metrics", "R@5", "metrics is 'R@5', which is of another type"),
        ("colour", 1, r"toy\.toml: 'colour' is unknown; choose title"),
        ("plot", {"x": "beams"}, "plot: x is 'beams', which no system sets"),
        ("plot", {"x": "nfe", "y": "R"}, "plot: y: metric 'R' is unknown"),
        ("plot", {"as": "ratio"}, "plot: as is 'ratio'; choose share or difference"),
        ("paper.0.system", "TIGER", "paper 1: system 'TIGER' is none of the recipe's"),
        ("paper.1.R@40", 1.0, "paper 2: R@40 is none of the recipe's metrics"),
        ("paper.1.colour", 1.0, "paper 2: there is no option 'colour'"),
        ("paper.1.R@5", "much", "paper 2: R@5 is 'much'; it must be a finite number"),
        ("paper.1.R@5", float("nan"), "paper 2: R@5 is nan; it must be a finite number"),
        ("paper", ["R@5"], r"toy\.toml: paper is \['R@5'\], which is of another type"),
        ("paper.0.sids", [1], "paper is .* of another type"),
        ("metrics", ["R@5", 3], r"toy\.toml: metrics is \['R@5', 3\], which is of another type"),
        ("metrics", ["R@5", "R@5"], "metrics has one twice"),
        ("metrics", [], "metrics and system hold one entry at least"),
        ("datasets", [["toy"]], "datasets is .* of another type"),
        ("seeds", 0, "seeds is at least 1"),
        ("seeds", True, "seeds is True, which is of another type"),
        ("options", {"paper": [1]}, r"options\.paper is \[1\]; it must be a table of options"),
        ("options", {"paper": {"toy": {"nfe": 1}}}, r"options\.paper: there is no option 'toy'"),
        ("system", "Items", "system is 'Items', which is of another type"),
        ("system.0.name", "", "system : name is empty"),
        ("system.0.shown", {"nfe": [1]}, "shown is .* of another type"),
        (
            "system.1.smoke",
            {"toy": {"nfe": "all"}},
            r"system Digits\.smoke\.toy: nfe is 'all'; it must be a whole number",
        ),
        ("system.1.dropout", float("inf"), "system Digits: dropout is inf; it must be a finite number"),
        ("system.1.dropout", 2**63, "system holds a whole number of more than 64 bits"),
        ("title", [[[[[[["deep"]]]]]]], "title is nested deeper than 6 levels"),
        ("plot", {"x": "nfe", "y": {"toy": 1}}, "plot: y is .* of another type"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_the_key(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read("toy", changed(path, value), "toy.toml")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recipe 'table9'; choose table1"):
        load("table9")
    path = tmp_path / "own.toml"
    path.write_text("title = ")
    with pytest.raises(UserError, match=r"own\.toml cannot be read as TOML"):
        load(str(path))
    for text in ("title = " + "[" * 5000 + "]" * 5000, "title = " + "9" * 5000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"own\.toml (cannot be read as TOML|.*title)"):
            load(str(path))
    path.write_text("title = 'x'")
    with pytest.raises(UserError, match=r"own\.toml: datasets is missing"):
        load(str(path))


def test_a_grid_has_a_bounded_number_of_cells() -> None:
    """Said before any of them is made."""
    with pytest.raises(UserError, match="range of 99,999,999 values; a grid takes 10,000 at most"):
        parse_values("nfe", "1..99999999")
    assert len(parse_values("nfe", "1..10000")) == 10_000
    for settings, count in (
        (GridSettings(seeds=100_000), "4,400,000"),
        (GridSettings(options={"nfe": [*range(1, 1001)]}), r"\d+,000"),
    ):
        with pytest.raises(
            UserError,
            match=f"This grid has {count} cells; 10,000 at most can be run. Take fewer values, --seeds",
        ):
            cells(load("table1"), settings)


def test_a_system_may_have_options_of_its_own_on_a_data_set_at_a_budget() -> None:
    found = {
        (cell.system, cell.dataset): cell.model_settings.max_items
        for cell in cells(load("table1"), GridSettings("paper"))
    }
    assert {dataset for (system, dataset), items in found.items() if items == 200} == {"ml-1m"}
    assert {system for (system, dataset), items in found.items() if items == 200} == {"SASRec", "BERT4Rec"}
    typed = cells(load("table1"), GridSettings("paper", options={"max_items": [30]}))
    assert {cell.model_settings.max_items for cell in typed} == {30}
    smoke = [cell.model_settings for cell in cells(load("table1"), GridSettings("smoke"))]
    assert {settings.max_items for settings in smoke if not settings.is_counted} == {20}


def test_a_bound_on_minutes_is_for_trainings_in_steps() -> None:
    found = {cell.model: cell.train for cell in cells(load("table1"), GridSettings(minutes=3.0))}
    assert (found["sasrec"].minutes, found["cooccurrence"].minutes) == (3.0, None)


def test_constrained_beams_have_no_nearest_item() -> None:
    recipe = read("toy", changed("system.1.nearest", [False, True]), "toy.toml")
    both = GridSettings("smoke", options={"constrained": [False, True]})
    found = [
        (c.decoding.constrained, c.decoding.nearest)
        for c in cells(recipe, both)
        if c.system == "Digits" and c.model_settings
    ]
    assert found == [(False, False), (True, False), (False, True)] * 2
    only = [
        c.label
        for c in cells(recipe, GridSettings("smoke", options={"constrained": [False]}))
        if c.system == "Digits"
    ]
    assert only == [f"Digits · sids {m}{nearest}" for m in (1, 2) for nearest in ("", " · nearest item")]
    with pytest.raises(UserError, match="--nearest needs --no-constrained"):
        cells(read("toy", TOML, "toy.toml"), GridSettings("smoke", options={"nearest": [True]}))


def test_a_recipe_without_a_system_for_the_data_sets_is_refused() -> None:
    recipe = read(
        "toy",
        {**TOML, "system": [{**system, "datasets": ["other"]} for system in TOML["system"]]},
        "toy.toml",
    )
    with pytest.raises(UserError, match="The recipe toy has no system for toy"):
        cells(recipe, GridSettings("smoke"))


@pytest.mark.parametrize(
    ("option", "text", "values"),
    [
        ("sids", "3,4,5", [3, 4, 5]),
        ("nfe", "1..3,5", [1, 2, 3, 5]),
        ("unmask", "greedy, random", ["greedy", "random"]),
        ("drop_items", "0,0.25", [0.0, 0.25]),
        ("constrained", "yes,no", [True, False]),
        ("unmask_counts", "1+2+2,2+3", ["1,2,2", "2,3"]),
        ("learning_rate", "1e-3", [0.001]),
    ],
)
def test_lists_as_typed(option: str, text: str, values: list) -> None:
    found = parse_values(option, text)
    assert found == values
    assert [*map(type, found)] == [*map(type, values)]
    assert check_values(option, found) == values


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("nfe", "few"),
        ("nfe", "1.5"),
        ("constrained", "maybe"),
        ("nfe", "3..1"),
        ("unmask", ""),
        ("dropout", "inf"),
        ("nfe", "nan"),
    ],
)
def test_what_is_not_of_the_option_s_type_is_refused(option: str, text: str) -> None:
    with pytest.raises(UserError, match=f"--{option}"):
        parse_values(option, text)


def test_each_option_belongs_to_one_stage() -> None:
    assert [*map(stage_of, ("sids", "layers", "drop_items", "beams"))] == [
        "tokenize",
        "train",
        "train",
        "eval",
    ]
    shown = [
        option_label(*pair)
        for pair in (
            ("constrained", False),
            ("unmask", "greedy"),
            ("dense", False),
            ("nfe", 3),
            ("drop_items", 0.25),
        )
    ]
    assert shown == ["unconstrained", "greedy", "no dense", "nfe 3", "drop items 0.25"]
