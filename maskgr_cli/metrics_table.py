"""The Recall/NDCG table, one row per system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskgr_cli import console

if TYPE_CHECKING:
    import pyarrow as pa

CUTOFFS = {"recall": "R@{}", "ndcg": "N@{}"}  # metric → column, one for each cut-off
RATES = {"invalid_rate": "invalid", "duplicate_rate": "duplicate"}


def show_metrics(rows: list[tuple[str, pa.Table]], title: str, caption: str = "") -> None:
    """Print metrics in percent with the half-width of their 95 % bootstrap interval.

    Args:
        rows: system → an artifact of kind "metrics".
        title: above the table.
        caption: below the table; the number of users and what ± means follow it.
    """
    systems = [(name, {(r["metric"], r["k"]): r for r in table.to_pylist()}) for name, table in rows]
    measured = {key for _, found in systems for key in found}
    cutoffs = sorted(
        (key for key in measured if key[0] in CUTOFFS), key=lambda key: (list(CUTOFFS).index(key[0]), key[1])
    )
    rates = [(metric, None) for metric in RATES if (metric, None) in measured]
    headers = [
        "",
        *(CUTOFFS[metric].format(k) for metric, k in cutoffs),
        *(RATES[metric] for metric, _ in rates),
    ]

    def grid(separator: str) -> list[list[str]]:
        lines = [[_with_interval(found.get(key), separator) for key in cutoffs] for _, found in systems]
        shares = [[_percent(found.get(key)) for key in rates] for _, found in systems]
        return [
            headers,
            *([name, *line, *share] for (name, _), line, share in zip(systems, lines, shares, strict=True)),
        ]

    transposed = [list(column) for column in zip(*grid(" "), strict=True)]
    layouts = [grid(" "), grid("\n"), transposed]  # from wide to narrow
    header, *body = next((layout for layout in layouts if _width(layout) <= console.out.width), transposed)
    users = " / ".join(dict.fromkeys(f"{table['users'][0].as_py():,}" for _, table in rows))
    notes = [caption] * bool(caption) + [f"{users} users", "percent, ± half the 95 % bootstrap interval"]
    console.table(title, header, body, " · ".join(notes))


def _width(grid: list[list[str]]) -> int:
    """Columns of a terminal that the table takes: cells, two blanks and a line for each, and one line more."""
    return 1 + sum(
        3 + max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(*grid, strict=True)
    )


def _percent(row: dict | None) -> str:
    return "—" if row is None else f"{100 * row['value']:.2f}"


def _with_interval(row: dict | None, separator: str) -> str:
    if row is None or row["low"] is None or row["high"] is None:
        return _percent(row)
    return f"{_percent(row)}{separator}±{50 * (row['high'] - row['low']):.2f}"
