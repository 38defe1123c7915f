"""Reports of grids.

The report of a grid is a folder with results.parquet, curves.parquet and groups.parquet and, made from these,
table.md, plot.png, curves.png, groups.png and a self-contained report.html. The index is one page with the
reports of all grids.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipelines import artifacts
from pipelines.ablate.curves import collect_curves
from pipelines.ablate.grid import GridSettings
from pipelines.ablate.groups import collect_groups
from pipelines.ablate.plot import STYLES
from pipelines.ablate.recipe import Recipe
from pipelines.ablate.recipe_file import load, names
from pipelines.ablate.section import CURVES, GROUPS, Section, read_section
from pipelines.ablate.summary import PairedTest
from pipelines.durable import atomic, together
from pipelines.evaluate.compare import PERMUTATIONS
from pipelines.options import printable
from pipelines.pages import page
from pipelines.workspace import Workspace

INDEX = "report.html"
TEMPLATE = Path(__file__).parent / "templates" / "report.html"
MARKDOWN = {"<": "&lt;", "|": "\\|", "[": "\\[", "]": "\\]"}  # character → Markdown that shows it
LEGEND = (
    "Measured: mean ± standard deviation over seeds, then the 95 % bootstrap interval over users (with "
    "several seeds, the mean of their bounds), then the paper's figure for a system of that name. The "
    'difference from the paper\'s figure is given only if the row is that system: "as in the paper" or "as '
    'published", without constrained beams. The words after "ours" tell how a row differs from the published '
    "model."
)
TESTED = (
    "Best row against the runner-up (the best row of another system, if there is one), user by user, means "
    "over seeds: paired bootstrap interval and two-sided paired permutation test with "
    f"{PERMUTATIONS:,} permutations, not corrected for the number of comparisons."
)
GROUPED = (
    "Recall@10 of groups of targets, cut at the quartiles of the training interactions of the target and of "
    "the items of the history: means over seeds with the 95 % bootstrap interval over targets; of more than "
    f"{len(STYLES)} rows on a data set, those with the highest Recall@10."
)
GROUPED_PLOT = "Recall@10 by the popularity of the target and by the length of the history"
PAIRED_TEST_HEADER = ["data set", "metric", "best", "runner-up", "difference (points)", "95 % interval", "p"]


def write_report(
    workspace: Workspace, recipe: Recipe, settings: GridSettings, table: pa.Table, command: str
) -> tuple[Path, Section]:
    """Write results.parquet, curves.parquet, groups.parquet and everything that is made from them.

    Args:
        workspace: workspace of the runs and of the report.
        recipe: recipe of the grid.
        settings: settings of the grid.
        table: artifact of kind "grid".
        command: command that makes the report again.

    Returns:
        Folder and content of the report.

    Raises:
        UserError: an artifact is damaged, or a file cannot be written.
    """
    folder = workspace.report(f"{recipe.name}-{settings.budget}")
    config = {"recipe": recipe.to_dict(), "scale": vars(settings), "command": command}
    beside = {
        "curves": (CURVES, collect_curves(workspace, table)),
        "groups": (GROUPS, collect_groups(workspace, table)),
    }
    with together(folder) as new:
        path = artifacts.write(new / "results.parquet", "grid", table, config=config)
        for kind, (name, content) in beside.items():
            if content.num_rows:
                artifacts.write(
                    new / name, kind, content, config={"command": command}, inputs={"results": path}
                )
        section = read_section(workspace, path)
        (new / "table.md").write_text(_markdown(section), encoding="utf-8")
        if section.png:
            (new / "plot.png").write_bytes(section.png)
        if section.curves:
            (new / "curves.png").write_bytes(section.curves)
        if section.groups:
            (new / "groups.png").write_bytes(section.groups)
        (new / INDEX).write_text(_page([section], [], recipe.title), encoding="utf-8")
        written = {file.name for file in new.iterdir()}
    for outdated in {CURVES, GROUPS, "curves.png", "groups.png", "plot.png"} - written:
        (folder / outdated).unlink(missing_ok=True)
    return folder, section


def write_index(workspace: Workspace) -> tuple[Path, list[str], list[str]]:
    """Write all reports of a workspace into one page with a table of contents.

    Returns:
        Path of the page, names of the reports in it, and names of the package's recipes without a report.

    Raises:
        UserError: a report is damaged, or the page cannot be written.
    """
    sections = [read_section(workspace, path) for path in workspace.reports]
    order = names()

    def position(section: Section) -> tuple[int, str, str]:
        name = section.recipe.name
        return order.index(name) if name in order else len(order), name, section.budget

    sections.sort(key=position)
    missing = [name for name in order if name not in {section.recipe.name for section in sections}]
    path = workspace.root / "reports" / INDEX
    with atomic(path) as temporary:
        titles = [(name, load(name).title) for name in missing]
        text = _page(sections, titles, "Reproduction of MaskGR (arXiv 2511.23021)")
        temporary.write_text(text, encoding="utf-8")
    return path, [section.anchor for section in sections], missing


def paired_test_cells(test: PairedTest) -> list[str]:
    """Return the row of a paired test in the table with the header `PAIRED_TEST_HEADER`."""
    names = [test.dataset, test.metric.label, test.best, test.runner_up]
    if test.difference is None or test.low is None or test.high is None or test.p is None:
        return [*names, "—", "—", "—"]
    difference, low, high = (f"{100 * value:+.2f}" for value in (test.difference, test.low, test.high))
    return [*names, difference, f"{low} to {high}", f"{test.p:.4f}"]


def _markdown(section: Section) -> str:
    lines = [
        f"# {_plain(section.recipe.title)}",
        "",
        f"Budget: **{section.budget}**. {_plain(section.recipe.note)}".rstrip(),
        "",
        LEGEND,
    ]
    for table in section.tables:
        lines += [f"\n## {_plain(table.title)}"] * bool(table.title)
        lines += _markdown_table(table.header, table.rows)
    if section.paired_tests:
        lines += [
            "",
            TESTED,
            *_markdown_table(
                PAIRED_TEST_HEADER,
                [[[cell] for cell in paired_test_cells(test)] for test in section.paired_tests],
            ),
        ]
    if section.problems:
        problems = [f"- {_plain(cell)}: {_plain(reason)}" for cell, reason in section.problems.items()]
        lines += ["", "Without figures:", "", *problems]
    lines += ["", "![Plot](plot.png)"] * bool(section.png)
    lines += ["", "![Validation Recall@10 against minutes of training](curves.png)"] * bool(section.curves)
    lines += ["", GROUPED, "", f"![{GROUPED_PLOT}](groups.png)"] * bool(section.groups)
    facts = section.facts | ({"paper": section.recipe.source} if section.recipe.source else {})
    lines += ["", *(f"- {name}: {_plain(value)}" for name, value in facts.items()), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is: no HTML, link, table or line of its own."""
    return "".join(MARKDOWN.get(character, character) for character in printable(text))


def _markdown_table(header: list[str], rows: list[list[list[str]]]) -> list[str]:
    """Return a table; a cell is a list of lines."""
    escaped = [["<br>".join(map(_plain, cell)) for cell in row] for row in rows]
    titles = [*map(_plain, header)]
    return ["", *(f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(header), *escaped))]


def _page(sections: list[Section], missing: list[tuple[str, str]], title: str) -> str:
    """Return a page in HTML.

    Args:
        sections: sections of the page.
        missing: names and titles of recipes without a report.
        title: title of the page.
    """
    return page(
        TEMPLATE,
        title=title,
        sections=sections,
        missing=missing,
        legend=LEGEND,
        tested=TESTED,
        grouped=GROUPED,
        grouped_plot=GROUPED_PLOT,
        paired_test_header=PAIRED_TEST_HEADER,
        paired_test_cells=paired_test_cells,
    )
