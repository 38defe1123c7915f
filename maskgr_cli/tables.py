"""Results of a command as tables of raw values, and their formats: table, json, csv and latex.

A command states each result once, as a `Table`. For a reader (table, latex) a column turns raw values into
the text of a cell. For a program (json, csv) the raw values are written under their keys.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from maskgr_cli import console
from maskgr_cli.options import checked
from pipelines.options import check_choice, printable

FORMATS = ("table", "json", "csv", "latex")
UNITS = "Metrics and shares are in percent in table and latex, and fractions in json and csv."
FormatOption = Annotated[
    str, checked("--format", f"Format of the result: {', '.join(FORMATS)}. {UNITS}", check_choice, FORMATS)
]
ShortFormatOption = Annotated[
    str,
    checked(
        "--format",
        "Format of the result: table or json. Shares are in percent in table, and fractions in json.",
        check_choice,
        FORMATS[:2],
    ),
]
LATEX = {  # character → what LaTeX prints as this character
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---"},
    **{"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "…": r"\ldots{}", "≥": r"$\geq$"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"[": "{[}", "]": "{]}", "*": "{*}"},  # behind the end of a row, [ and * are arguments
}


def _same(value: object) -> object:
    return value


@dataclass(frozen=True)
class Column:
    """Column of a table for a reader.

    Attributes:
        title: title of the column.
        keys: keys of the raw values that a cell shows.
        text: function from these values to the cell; a cell of None is empty.
        optional: if true, the column is left out where all its cells are empty.
        once: if true, a cell is left out where it equals the cell above.
        left: if true, cells are left-aligned, as those of the first column are.
    """

    title: str
    keys: tuple[str, ...]
    text: Callable[..., object] = _same
    optional: bool = False
    once: bool = False
    left: bool = False


@dataclass(frozen=True)
class Table:
    """One result.

    Attributes:
        key: name of the result in json and csv.
        title: title above the table.
        columns: columns for a reader.
        rows: mappings from keys to raw values: text, numbers, true or false, None.
        caption: text below the table.
        heading: line above the title, for a table that begins a group of tables.
        hidden: keys of raw values that json and csv have besides those of the columns.
        adapts: if true, the table is laid out anew where the terminal is too narrow: intervals below their
            values, or else a row for each column.
    """

    key: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    caption: str = ""
    heading: str = ""
    hidden: Sequence[str] = ()
    adapts: bool = False

    @property
    def keys(self) -> list[str]:
        """Keys of all raw values, in the order of json and csv."""
        return list(dict.fromkeys([*(key for column in self.columns for key in column.keys), *self.hidden]))

    def cells(self) -> list[list[object]]:
        """Return the titles and, row by row, the cells for a reader."""
        columns = []
        for column in self.columns:
            cells = [column.text(*(row.get(key) for key in column.keys)) for row in self.rows]
            if column.once:
                above = [None, *cells]
                cells = ["" if cell == last else cell for cell, last in zip(cells, above, strict=False)]
            if not (column.optional and all(cell is None for cell in cells)):
                columns.append([column.title, *cells])
        return [list(row) for row in zip(*columns, strict=True)]


def show(tables: Sequence[Table], form: str) -> None:
    """Print results on standard output.

    Args:
        tables: results. Those with the same key are parts of one result.
        form: one of `FORMATS`. Results without rows are left out in table and latex.
    """
    if form == "json":
        console.data(json.dumps(_by_key(tables), indent=2))
    elif form == "csv":
        console.data(_csv(tables).rstrip("\n"))
    for table in tables if form in ("table", "latex") else ():
        if table.rows and table.columns and form == "latex":
            console.data(_latex(table))
        elif table.rows and table.columns:
            if table.heading:
                console.result(table.heading)
            titles, *rows = _fitting(table.cells()) if table.adapts else table.cells()
            left = [column.title for column in table.columns if column.left]
            title, caption = table.title.split("\n"), table.caption.split("\n")
            console.table(title, [str(title) for title in titles], rows, caption, left)


def percent(fraction: float | None) -> str | None:
    """Return a fraction in percent with two decimals, without the sign."""
    return None if fraction is None else f"{round(100 * fraction, 2) + 0.0:.2f}"  # −0.0 + 0.0 is 0.0


def count(number: int | None) -> str | None:
    """Return a number with separators of thousands."""
    return None if number is None else f"{number:,}"


def _by_key(tables: Sequence[Table]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables by the tables' keys."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        rows.setdefault(table.key, []).extend({key: row.get(key) for key in table.keys} for row in table.rows)
    return rows


def _csv(tables: Sequence[Table]) -> str:
    """Return all rows as CSV: the key of their table, and one column for each key of any table."""
    file = io.StringIO()
    keys = list(dict.fromkeys(key for table in tables for key in table.keys))
    writer = csv.DictWriter(file, ["table", *keys], lineterminator="\n")
    writer.writeheader()
    for name, rows in _by_key(tables).items():
        writer.writerows(
            {"table": name, **{key: _plain(value) for key, value in row.items()}} for row in rows
        )
    return file.getvalue()


def _plain(value: object) -> object:
    """Return a value as CSV holds it: text and None as they are, other values as in JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _latex(table: Table) -> str:
    """Return a table for LaTeX with the package booktabs."""
    titles, *rows = [[_escaped(cell) for cell in row] for row in table.cells()]
    caption = ". ".join(_escaped(text) for text in (table.heading, table.title, table.caption) if text)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _escaped(cell: object) -> str:
    text = "; ".join(map(printable, _lines(cell)))
    return "".join(LATEX.get(character, character) for character in text)


def _fitting(cells: list[list[object]]) -> list[list[object]]:
    """Return the widest layout that fits into the terminal.

    The layouts are, from wide to narrow: the cells as they are, intervals below their values, and a row for
    each column.
    """
    broken: list[list[object]] = [[_broken(cell) for cell in row] for row in cells]
    transposed: list[list[object]] = [list(column) for column in zip(*cells, strict=True)]
    layouts = (cells, broken, transposed)
    return next((layout for layout in layouts if _width(layout) <= console.out().width), transposed)


def _broken(cell: object) -> object:
    return cell.replace(" ±", "\n±").split("\n") if isinstance(cell, str) and " ±" in cell else cell


def _lines(cell: object) -> list[str]:
    return [*map(str, cell)] if isinstance(cell, list) else ["—" if cell is None else str(cell)]


def _width(cells: list[list[object]]) -> int:
    """Return the width of a printed table: a line and two blanks for each column, and a line at the end."""
    return 1 + sum(
        3 + max(len(line) for cell in column for line in _lines(cell)) for column in zip(*cells, strict=True)
    )
