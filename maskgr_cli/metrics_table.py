"""Table of Recall and NDCG: a row for each system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskgr_cli import console

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN_TITLES = {"recall": "R@{}", "ndcg": "N@{}"}  # metric → title of the column for each cut-off
RATES = {"invalid_rate": "invalid", "duplicate_rate": "duplicate"}
Result = dict[str, Any]  # row of an artifact of kind "metrics"


def show_metrics(tables: list[tuple[str, pa.Table]], title: str, caption: str = "") -> None:
    """Print metrics in percent with half the width of their 95 % bootstrap interval.

    The widest layout that fits into the terminal is used: a row for each system with intervals beside the
        values, the
    same with intervals below the values, or a row for each metric.

    Args:
        tables: names of systems, each with an artifact of kind "metrics".
        title: title above the table.
        caption: text below the table; the number of users and the meaning of ± follow it.
    """
    systems = [
        (name, {(result["metric"], result["k"]): result for result in table.to_pylist()})
        for name, table in tables
    ]
    measured = {key for _, results in systems for key in results}
    cutoffs = sorted(
        (key for key in measured if key[0] in COLUMN_TITLES),
        key=lambda key: (list(COLUMN_TITLES).index(key[0]), key[1]),
    )
    rates = [(metric, None) for metric in RATES if (metric, None) in measured]
    header = [
        "",
        *(COLUMN_TITLES[metric].format(k) for metric, k in cutoffs),
        *(RATES[metric] for metric, _ in rates),
    ]

    def grid(separator: str) -> list[list[str]]:
        rows = [header]
        for name, results in systems:
            values = [_with_interval(results.get(key), separator) for key in cutoffs]
            rows.append([name, *values, *(_percent(results.get(key)) for key in rates)])
        return rows

    transposed = [list(column) for column in zip(*grid(" "), strict=True)]
    layouts = [grid(" "), grid("\n"), transposed]  # from wide to narrow
    columns, *body = next((layout for layout in layouts if _width(layout) <= console.out().width), transposed)
    users = " / ".join(dict.fromkeys(f"{table['users'][0].as_py():,}" for _, table in tables))
    notes = [caption] * bool(caption) + [f"{users} users", "percent, ± half the 95 % bootstrap interval"]
    console.table(title, columns, body, " · ".join(notes))


def _width(grid: list[list[str]]) -> int:
    """Return the width of a printed table: a line and two blanks for each column, and a line at the end."""
    return 1 + sum(
        3 + max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(*grid, strict=True)
    )


def _percent(result: Result | None) -> str:
    return "—" if result is None else f"{100 * result['value']:.2f}"


def _with_interval(result: Result | None, separator: str) -> str:
    if result is None or result["low"] is None or result["high"] is None:
        return _percent(result)
    return f"{_percent(result)}{separator}±{50 * (result['high'] - result['low']):.2f}"
