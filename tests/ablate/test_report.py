"""The report: its figures worked by hand, pages that need no network, plots that any background bears."""

from __future__ import annotations

import dataclasses
import re
import struct

import pyarrow as pa
import pytest
from matplotlib.colors import to_rgb

from pipelines import artifacts
from pipelines.ablate import published
from pipelines.ablate.curves import collect_curves, draw_curves, panels_of
from pipelines.ablate.grid import GridSettings
from pipelines.ablate.plot import INK, STYLES, _lines, draw
from pipelines.ablate.recipe import Recipe, System
from pipelines.ablate.recipe_file import load, names, read
from pipelines.ablate.report import write_index, write_report
from pipelines.ablate.results import collect
from pipelines.ablate.summary import paired_tests, rows_of
from pipelines.workspace import Workspace
from tests.ablate.conftest import TOML, Fakes, run_grid

SETTINGS = GridSettings("smoke", seeds=2)


def found(workspace: Workspace, recipe: Recipe, settings: GridSettings = SETTINGS) -> pa.Table:
    return collect(workspace, recipe, run_grid(workspace, recipe, settings), settings.budget)


def by_seed(fakes: Fakes) -> None:
    """Items finds every target at once, Digits at rank 3 with seed 0, and at rank 6 with seed 1."""
    fakes.rank = lambda plan: 1 if plan.model == "sasrec" else 3 + 3 * plan.train.seed


def test_rows_are_tidy(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    by_seed(fakes)
    rows = found(toy, recipe).to_pylist()
    assert len(rows) == 3 * 2 * 3
    digits = [
        (row["sids"], row["seed"], row["value"])
        for row in rows
        if row["system"] == "Digits" and row["metric"] == "N@10"
    ]
    assert digits == [
        (m, seed, pytest.approx(0.5 if seed == 0 else 1 / 2.807354922)) for m in "12" for seed in (0, 1)
    ]
    assert {row["sids"] for row in rows if row["system"] == "Items"} == {None}
    assert {
        (row["train_seconds"], round(row["eval_seconds"]), row["commit"], row["state"]) for row in rows
    } == {(60.0, 6, "abc", "done")}


def test_mean_deviation_and_difference_from_the_paper(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    by_seed(fakes)
    items, one, two = rows_of(recipe, SETTINGS, found(toy, recipe))
    assert [row.label for row in (items, one, two)] == ["Items", "Digits · sids 1", "Digits · sids 2"]
    entry = two.entries["R@5"]  # 1 with seed 0, 0 with seed 1
    assert (entry.mean, entry.sd) == (0.5, pytest.approx(0.5**0.5))
    assert entry.lines == ["50.00 ± 70.71", "50.00 to 50.00", "paper 12.50"]
    assert one.entries["R@5"].paper is None
    assert items.entries["R@5"].lines == ["100.00 ± 0.00", "100.00 to 100.00", "paper 40.00"]


def test_only_the_paper_s_own_model_differs_from_the_paper(
    toy: Workspace, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the budget paper what knows items by number is as published; digits of other texts than the paper's
    are not.
    """
    systems = [
        {"name": "SASRec", "model": "sasrec"},
        {**TOML["system"][1], "name": "MaskGR", "constrained": [True, False]},
    ]
    paper = [{**row, "system": system["name"]} for row, system in zip(TOML["paper"], systems, strict=True)]
    recipe = read("toy", {**TOML, "system": systems, "paper": paper}, "toy.toml")

    def last_lines(budget: str) -> dict[str, str]:
        return {
            row.label: row.entries["R@5"].lines[-1]
            for row in rows_of(recipe, GridSettings(budget), found(toy, recipe, GridSettings(budget)))
        }

    ours = "MaskGR, ours: lsa embeddings, other sizes, other training"
    assert last_lines("smoke") == {
        "SASRec, ours: softmax loss, other sizes, other training": "paper 40.00",
        f"{ours} · sids 1 · constrained": "100.00 to 100.00",
        f"{ours} · sids 1 · unconstrained": "100.00 to 100.00",
        f"{ours} · sids 2 · constrained": "paper 12.50",
        f"{ours} · sids 2 · unconstrained": "paper 12.50",
    }
    as_published, *digits = last_lines("paper").items()
    assert as_published == ("SASRec, as published", "paper 40.00 (+60.00)")
    assert digits[-1] == ("MaskGR, ours: lsa embeddings · sids 2 · unconstrained", "paper 12.50")
    monkeypatch.setattr(published, "TEXTS", "lsa")
    assert [*last_lines("paper").items()][3:] == [
        (
            "MaskGR, as in the paper · sids 2 · constrained",
            "paper 12.50",
        ),  # no figure of the paper is known to be of constrained beams
        ("MaskGR, as in the paper · sids 2 · unconstrained", "paper 12.50 (+87.50)"),
    ]


def test_a_report_from_before_settings_were_recorded_differs_from_nothing(
    toy: Workspace, fakes: Fakes
) -> None:
    recipe = read(
        "toy",
        {
            **TOML,
            "system": [{"name": "SASRec", "model": "sasrec"}],
            "paper": [{"system": "SASRec", "R@5": 40.0}],
        },
        "",
    )
    (row,) = rows_of(
        recipe, GridSettings("paper"), found(toy, recipe, GridSettings("paper")).drop_columns("departures")
    )
    assert row.label == "SASRec, ours: settings not recorded"
    assert row.entries["R@5"].lines[-1] == "paper 40.00"


def test_the_best_is_compared_with_the_best_of_another_system(
    toy: Workspace, recipe: Recipe, fakes: Fakes
) -> None:
    by_seed(fakes)
    table = found(toy, recipe)
    tested = {
        paired_test.metric.label: paired_test
        for paired_test in paired_tests(toy, rows_of(recipe, SETTINGS, table), table)
    }
    assert tested.keys() == {"R@5", "N@10"}
    paired_test = tested["N@10"]
    assert (paired_test.best, paired_test.runner_up) == ("Items", "Digits · sids 1")
    assert paired_test.difference == pytest.approx(
        1 - (0.5 + 1 / 2.807354922) / 2
    )  # 1 against the mean of 1 / log2(4) and 1 / log2(7)
    assert paired_test.p == pytest.approx(1 / 10_001)
    assert tested["R@5"].difference == pytest.approx(0.5)  # of seed 1 alone


def test_the_runner_up_is_one_that_can_be_compared(toy: Workspace, fakes: Fakes) -> None:
    """Rows with lists of another length than the best row's are skipped; without others there is no test."""
    named = {"sasrec": "first", "maskgr-items": "second", "bert4rec": "third"}
    fakes.rank = lambda plan: 1 + [*named].index(plan.model)
    systems = [
        System(name, model, {"beams": [20 if name == "second" else 10]}) for model, name in named.items()
    ]
    for kept, runner_up in ((systems, "third"), (systems[:2], "second")):
        recipe = Recipe("own", "Own", ["toy"], ["N@5"], kept)
        table = found(toy, recipe)
        (paired_test,) = paired_tests(toy, rows_of(recipe, SETTINGS, table), table)
        assert (paired_test.best, paired_test.runner_up) == ("first", runner_up)
        assert (paired_test.p is None) == (runner_up == "second")


def test_a_report_is_whole_and_needs_no_network(toy: Workspace, fakes: Fakes) -> None:
    by_seed(fakes)
    systems = [TOML["system"][0], {**TOML["system"][1], "name": "maskgr"}]
    paper = [TOML["paper"][0], {**TOML["paper"][1], "system": "maskgr"}]
    recipe = read(
        "toy", {**TOML, "datasets": ["toy", "<books>"], "system": systems, "paper": paper}, "toy.toml"
    )
    folder, section = write_report(toy, recipe, SETTINGS, found(toy, recipe), "maskgr ablate toy")
    page, text = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "table.md"))
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)|@import|url\(|<script", page)
    assert "data:image/png;base64," in page
    for document in (page, text):
        for shown in (
            "50.00 ± 70.71",
            "paper 12.50",
            "smoke, 2 seeds",
            "abc",
            "a toy",
            "maskgr ablate toy",
            "a paper, table 0",
        ):
            assert shown in document
    assert "maskgr, ours: lsa embeddings, other sizes, other training · sids 2" in page
    assert "| Items | maskgr, ours · sids 1 |" in text  # best and runner-up
    assert "<td>Items</td><td>maskgr, ours · sids 1</td>" in page
    assert "paper 12.50 (" not in page + text
    assert "<books>" not in page
    assert len(section.problems) == 6
    assert "4.0 min to train 6 runs" not in text  # a run of two evaluations would count once
    assert "6.0 min to train 6 runs, 0.6 to evaluate" in text
    path, there, missing = write_index(toy)
    index = path.read_text(encoding="utf-8")
    assert there == ["toy-smoke"]
    assert missing == names()
    assert 'href="#toy-smoke"' in index
    assert f"{load('table1').title}: missing" in index
    assert "6 cells missing" in index


def size(png: bytes) -> tuple[int, int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">IIxB", png[16:26])


def test_lines_and_dots_are_drawn_on_a_transparent_ground(
    toy: Workspace, recipe: Recipe, fakes: Fakes
) -> None:
    by_seed(fakes)
    table = found(toy, recipe)
    with_alpha = 6
    for plot in (
        {},
        {"x": "sids", "y": "R@5"},
        {"x": "k"},
        {"x": "sids", "relative_to": {"sids": 1}, "as": "difference"},
    ):
        drawn = dataclasses.replace(recipe, plot=plot)
        width, height, kind = size(draw(drawn, rows_of(drawn, SETTINGS, table)))
        assert width > 300
        assert height > 100
        assert kind == with_alpha
    assert draw(recipe, []) is None


def test_lines_have_ticks_at_what_was_measured(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    by_seed(fakes)
    drawn = dataclasses.replace(recipe, plot={"x": "sids"})
    (axes,) = _lines(drawn, rows_of(drawn, SETTINGS, found(toy, recipe))).axes
    assert axes.get_xticks().tolist() == [1, 2]


def test_every_colour_is_readable_on_white_and_on_black() -> None:
    """WCAG 2.1: contrast of 3 to 1 for graphics, 4.5 to 1 for text."""

    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour, least in [(style[0], 3) for style in STYLES] + [(INK, 4.5)]:
        assert 1.05 / (luminance(colour) + 0.05) >= least
        assert (luminance(colour) + 0.05) / 0.05 >= least
    assert len({style[1] for style in STYLES}) == len({str(style[2]) for style in STYLES}) == len(STYLES)


def test_curves_are_the_validations_of_every_run(toy: Workspace, recipe: Recipe, fakes: Fakes) -> None:
    """One evaluation a run: a label of its own. Two: the system's name, since a training knows nothing of how
    it is decoded.
    """
    table = found(toy, recipe)
    for place, run in enumerate(dict.fromkeys(table["run"].to_pylist())):
        history = [
            (10, "seconds", 60.0),
            (10, "recall@10", 0.1),
            (20, "seconds", 120.0),
            (20, "recall@10", (20 + place) / 100),
        ]
        step, measure, value = zip(*history, strict=True)
        columns = {
            "step": pa.array(step, pa.int64()),
            "measure": measure,
            "value": pa.array(value, pa.float64()),
        }
        artifacts.write(toy.run(run).history, "history", pa.table(columns), config={})
    points = collect_curves(toy, table).to_pylist()
    assert len(points) == 6 * 2
    assert [point["label"] for point in points[::4]] == ["Items", "Digits · sids 1", "Digits · sids 2"]
    assert [(point["step"], point["minutes"], point["recall@10"]) for point in points[:4]] == [
        (10, 1.0, 0.1),
        (20, 2.0, 0.2),
        (10, 1.0, 0.1),
        (20, 2.0, 0.21),
    ]
    decoded = dataclasses.replace(SETTINGS, options={"beams": [5, 10], "sids": [1]})
    assert {point["label"] for point in collect_curves(toy, found(toy, recipe, decoded)).to_pylist()} == {
        "Digits"
    }  # item models have no sids
    width, height, _ = size(draw_curves(collect_curves(toy, table), {}))
    assert width > height > 300
    folder, section = write_report(toy, recipe, SETTINGS, table, "maskgr ablate toy")
    assert (folder / "curves.png").read_bytes() == section.curves
    assert "(curves.png)" in (folder / "table.md").read_text()
    assert draw_curves(collect_curves(toy, table).slice(0, 1), {}) is None


def test_a_grid_of_ones_own_names_no_paper(toy: Workspace, fakes: Fakes) -> None:
    recipe = Recipe("own", "Own", ["toy"], ["N@5"], [System("sasrec", "sasrec")])
    folder, _ = write_report(toy, recipe, SETTINGS, found(toy, recipe), "maskgr ablate")
    assert "- command: maskgr ablate\n" in (folder / "table.md").read_text()
    assert "- paper:" not in (folder / "table.md").read_text()


def points(labels: list[tuple[str, str]]) -> pa.Table:
    """Curves of runs of these systems and labels."""
    about = {"dataset": "toy", "seed": 0, "commit": "abc", "recall@10": 0.1}
    named = [
        {"system": system, "label": label, "run": f"run {n}"} for n, (system, label) in enumerate(labels)
    ]
    return pa.Table.from_pylist(
        [about | run | {"step": s, "minutes": float(s)} for run in named for s in (1, 2)]
    )


def test_many_labels_have_a_panel_each() -> None:
    """As many as there are styles share one. Of more, each is over its system's first, and that over the
    first of all.
    """
    few = points([("A", f"A {n}") for n in range(len(STYLES))])
    assert [(title, [*lines]) for title, lines in panels_of(few)] == [
        ("toy", [f"A {n}" for n in range(len(STYLES))])
    ]
    many = points([*(("A", f"A {n}") for n in range(6)), ("B", "B 0"), ("B", "B 1")])
    found = panels_of(many)
    assert [[*lines] for _, lines in found[:5]] == [["A 0", f"A {n}"] for n in range(1, 6)]
    assert [(title, [*lines]) for title, lines in found[5:]] == [
        ("toy: B 0", ["A 0", "B 0"]),
        ("toy: B 1", ["B 0", "B 1"]),
    ]
    assert found[0][1]["A 1"] == {"run 1": [(1.0, 10.0), (2.0, 10.0)]}
    one, two = (size(draw_curves(table, {})) for table in (few, many))  # one panel; seven, four to a row
    assert two[0] > one[0]
    assert two[1] > one[1]


def test_names_are_shown_and_not_obeyed_by_any_format(toy: Workspace, fakes: Fakes) -> None:
    """Neither by HTML, Markdown and plots, nor by what shows them: controls and directions of writing."""
    hostile = "<script>alert(1)</script> $\\frac{ [x](javascript:y) \u202eback\x1b[2J"
    systems = [{**system, "name": f"{hostile} {n}"} for n, system in enumerate(TOML["system"])]
    given = {key: value for key, value in TOML.items() if key not in ("paper", "plot")}
    recipe = read("toy", {**given, "title": hostile, "system": systems}, "toy.toml")
    folder, section = write_report(toy, recipe, SETTINGS, found(toy, recipe), "maskgr ablate toy.toml")
    page, text = ((folder / name).read_text("utf-8") for name in ("report.html", "table.md"))
    assert section.png
    assert "<script" not in page + text
    assert not {"\u202e", "\x1b"} & {*page, *text}
    assert r"&lt;script&gt;alert(1)&lt;/script&gt; $\frac{ [x](javascript:y) \u202eback\x1b[2J" in page
    assert r"&lt;script>alert(1)&lt;/script> $\frac{ \[x\](javascript:y) \u202eback\x1b\[2J" in text
