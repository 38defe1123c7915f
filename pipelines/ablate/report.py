"""A grid's report: table.md, plot.png, curves.png, one self-contained report.html, all from results.parquet and curves.parquet; and many
reports in one page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import jinja2
import pyarrow as pa

from pipelines import artifacts, shapes
from pipelines.ablate.curves import curves, draw_curves
from pipelines.ablate.grid import GridSettings
from pipelines.ablate.metrics import metric
from pipelines.ablate.plot import draw
from pipelines.ablate.recipe import Recipe, from_dict, load, names
from pipelines.ablate.summary import PairedTest, Row, labels, paired_tests, rows_of
from pipelines.artifacts import Provenance
from pipelines.durable import together
from pipelines.errors import UserError
from pipelines.evaluate.compare import PERMUTATIONS
from pipelines.options import printable
from pipelines.workspace import Workspace

INDEX, CURVES = "report.html", "curves.parquet"


class GridConfig(TypedDict):
    """The configuration of results.parquet."""

    recipe: Recipe
    scale: GridSettings
    command: str


@dataclass(frozen=True)
class Table:
    """One table; a cell is lines of text. `measured` tells whether it holds any figure of ours."""

    title: str
    header: list[str]
    rows: list[list[list[str]]]
    measured: bool


@dataclass(frozen=True, eq=False)
class Section:
    """One grid, ready to be shown.

    Attributes:
        tables: one a data set, or one for all where each has a single row.
        facts: what a reader must know of how it was made, name → text.
        problems: cells that have no figures, and why.
        png: the plot.
        curves: the plot of what was learnt by when.
    """

    recipe: Recipe
    budget: str
    tables: list[Table]
    paired_tests: list[PairedTest]
    facts: dict[str, str]
    problems: dict[str, str]
    png: bytes | None
    curves: bytes | None

    @property
    def anchor(self) -> str:
        return f"{self.recipe.name}-{self.budget}"

    @staticmethod
    def address(png: bytes) -> str:
        """A plot as a data address."""
        return "data:image/png;base64," + base64.b64encode(png).decode()


def write_report(
    workspace: Workspace, recipe: Recipe, scale: GridSettings, table: pa.Table, command: str
) -> tuple[Path, Section]:
    """Write results.parquet, curves.parquet and all that is made of them.

    Args:
        table: an artifact of kind "grid".
        command: what makes it again.

    Returns:
        the folder, and what it shows.
    """
    folder = workspace.report(f"{recipe.name}-{scale.budget}")
    config = {"recipe": recipe.to_dict(), "scale": vars(scale), "command": command}
    learnt = curves(workspace, table)
    with together(folder) as new:
        path = artifacts.write(new / "results.parquet", "grid", table, config=config)
        if learnt.num_rows:
            artifacts.write(
                new / CURVES, "curves", learnt, config={"command": command}, inputs={"results": path}
            )
        section = read_section(workspace, path)
        (new / "table.md").write_text(_markdown(section), encoding="utf-8")
        if section.png:
            (new / "plot.png").write_bytes(section.png)
        if section.curves:
            (new / "curves.png").write_bytes(section.curves)
        (new / INDEX).write_text(_page([section], [], recipe.title), encoding="utf-8")
        made = {file.name for file in new.iterdir()}
    for old in {CURVES, "curves.png", "plot.png"} - made:
        (folder / old).unlink(missing_ok=True)
    return folder, section


def write_index(workspace: Workspace) -> tuple[Path, list[str], list[str]]:
    """All reports of a workspace in one page with a table of contents.

    Returns:
        the page, the reports in it, and the recipes of the package of which there is none.
    """
    sections = [read_section(workspace, path) for path in workspace.reports]
    order = names()
    sections.sort(
        key=lambda s: (
            order.index(s.recipe.name) if s.recipe.name in order else len(order),
            s.recipe.name,
            s.budget,
        )
    )
    missing = [name for name in order if name not in {section.recipe.name for section in sections}]
    path = workspace.root / "reports" / INDEX
    with artifacts.atomic(path) as temporary:
        page = _page(
            sections,
            [(name, load(name).title) for name in missing],
            "Reproduction of MaskGR (arXiv 2511.23021)",
        )
        temporary.write_text(page, encoding="utf-8")
    return path, [section.anchor for section in sections], missing


def read_section(workspace: Workspace, path: Path) -> Section:
    """A report from its results.parquet.

    Raises:
        UserError: it is missing or cannot be read.
    """
    table = artifacts.read(path, "grid", hint="Run `maskgr ablate` first.")
    made = artifacts.provenance(path)
    entries = table.to_pylist()
    try:
        shapes.fit(made and made["config"], GridConfig)
        inputs = {
            (row["dataset"], *pair)
            for row in entries
            for pair in shapes.parse(row["inputs"] or "{}", dict[str, str]).items()
        }
    except ValueError as error:
        raise UserError(
            f"{path} does not say which grid it is of ({error}). Run `maskgr ablate` again."
        ) from None
    recipe = from_dict(made["config"]["recipe"])
    scale = GridSettings(
        **{**made["config"]["scale"], "datasets": tuple(made["config"]["scale"]["datasets"])}
    )
    rows = rows_of(recipe, scale, table)
    named = labels(rows)
    problems = {
        f"{e['dataset']} · {named.get((e['dataset'], e['label']), e['label'])} · seed {e['seed']}": e[
            "reason"
        ]
        or e["state"]
        for e in entries
        if e["state"] != "done"
    }
    return Section(
        recipe,
        scale.budget,
        _tables(recipe, rows),
        paired_tests(workspace, rows, table),
        _facts(scale, entries, inputs, made),
        problems,
        draw(recipe, rows),
        None
        if artifacts.stale(path.with_name(CURVES))
        else draw_curves(artifacts.read(path.with_name(CURVES), "curves"), named),
    )


def _tables(recipe: Recipe, rows: list[Row]) -> list[Table]:
    """See `Section.tables`."""
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    header = ["", *map(_heading, recipe.metrics)]

    def table(title: str, shown: dict[str, Row]) -> Table:
        measured = any(entry.values for row in shown.values() for entry in row.entries.values())
        return Table(
            title,
            header,
            [[[name], *(e.lines for e in row.entries.values())] for name, row in shown.items()],
            measured,
        )

    if len(rows) == len(datasets):
        return [table("", {row.dataset: row for row in rows})]
    return [
        table(dataset, {row.label: row for row in rows if row.dataset == dataset}) for dataset in datasets
    ]


def _heading(label: str) -> str:
    asked = metric(label)
    unit = "%" if asked.factor == 100 else "nats" if asked.source == "diagnosis" else ""
    return f"{label} ({unit})" if unit else label


def _facts(
    scale: GridSettings, rows: list[dict[str, Any]], inputs: set[tuple[str, str, str]], made: Provenance
) -> dict[str, str]:
    """How the figures were made; several values of one thing stand side by side.

    Args:
        inputs: data set, name and sha256 of each.
    """

    def values(column: str) -> str:
        return "; ".join(dict.fromkeys(str(row[column]) for row in rows if row[column])) or "unknown"

    runs = {row["run"]: row["train_seconds"] for row in rows if row["run"]}
    evaluations = {(row["run"], row["evaluation"]): row["eval_seconds"] or 0.0 for row in rows if row["run"]}
    length = f", {scale.minutes:g} minutes a run" if scale.minutes is not None else ""
    trained: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        trained.setdefault((row["dataset"], row["label"]), set()).add(row["seed"])
    counts = sorted({len(seeds) for seeds in trained.values()})
    return {
        "budget": f"{scale.budget}{length}, {' or '.join(map(str, counts))} seed{'s' * (counts != [1])}, {scale.split} users",
        "wall time": f"{sum(runs.values()) / 60:,.1f} min to train {len(runs)} runs, {sum(evaluations.values()) / 60:,.1f} to evaluate",
        "machine": values("machine"),
        "commit": values("commit"),
        "data (sha256)": "; ".join(f"{dataset} {name} {sha[:12]}" for dataset, name, sha in sorted(inputs))
        or "none",
        "written": f"{made['written']} by maskgr {made['version']}",
        "command": made["config"]["command"],
    }


LEGEND = (
    "Measured: mean ± standard deviation over seeds, then the 95 % bootstrap interval over users (of several seeds, the mean of their "
    "bounds), then the paper's figure of a system of that name. A difference from it stands only where the row is that system: \"as in "
    'the paper" or "as published", beams not constrained. "Ours" names by what a row is another.'
)
TESTED = (
    "Best against runner-up (the best of another system, where there is one), user by user, means over seeds: paired bootstrap interval "
    f"and paired permutation test, two-sided, {PERMUTATIONS:,} permutations, not corrected for the number of comparisons."
)


def paired_test_cells(paired_test: PairedTest) -> list[str]:
    """A row of the table of best against runner-up."""
    named = [paired_test.dataset, paired_test.metric.label, paired_test.best, paired_test.runner_up]
    if paired_test.p is None:
        return [*named, "—", "—", "—"]
    points = [f"{100 * value:+.2f}" for value in (paired_test.difference, paired_test.low, paired_test.high)]
    return [*named, points[0], f"{points[1]} to {points[2]}", f"{paired_test.p:.4f}"]


CONTEST_HEADER = ["data set", "metric", "best", "runner-up", "difference (points)", "95 % interval", "p"]


def _markdown(section: Section) -> str:
    def grid(header: list[str], rows: list[list[str]]) -> list[str]:
        clean = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        return ["", *(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *clean))]

    lines = [
        f"# {section.recipe.title}",
        "",
        f"Budget: **{section.budget}**. {section.recipe.note}".rstrip(),
        "",
        LEGEND,
    ]
    for table in section.tables:
        lines += [f"\n## {table.title}"] * bool(table.title)
        lines += grid(table.header, [["<br>".join(cell) for cell in row] for row in table.rows])
    if section.paired_tests:
        lines += [
            "",
            TESTED,
            *grid(CONTEST_HEADER, [paired_test_cells(paired_test) for paired_test in section.paired_tests]),
        ]
    if section.problems:
        lines += [
            "",
            "Without figures:",
            "",
            *(f"- {cell}: {reason}" for cell, reason in section.problems.items()),
        ]
    lines += ["", "![Plot](plot.png)"] * bool(section.png)
    lines += ["", "![Validation Recall@10 against minutes of training](curves.png)"] * bool(section.curves)
    facts = section.facts | ({"paper": section.recipe.source} if section.recipe.source else {})
    return printable(
        "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in facts.items()), ""]), lines=True
    )


def _page(sections: list[Section], missing: list[tuple[str, str]], title: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    fixed = {
        "legend": LEGEND,
        "tested": TESTED,
        "contest_header": CONTEST_HEADER,
        "contest_cells": paired_test_cells,
    }
    return environment.get_template("report.html").render(
        title=title, sections=sections, missing=missing, **fixed
    )
