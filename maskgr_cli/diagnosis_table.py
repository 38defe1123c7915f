"""How the digits of an item depend on each other: a table for each measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskgr_cli import console

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Grid:
    """One measure: which columns of the artifact become its rows and columns, and what they are called."""

    measure: str
    title: str
    caption: str
    rows: tuple[str, Callable[[object], str]]
    columns: tuple[str, Callable[[object], str]]
    scale: float = 1
    places: int = 3


def _digit(number: int) -> str:
    return f"digit {number + 1}"


DIGITS, ORDERS = ("digit", _digit), ("order", str)
OTHERS, EVALUATIONS = ("revealed", "{} revealed".format), ("evaluations", "T = {}".format)
PERCENT = {"scale": 100, "places": 2}
GRIDS = (
    Grid(
        "accuracy",
        "True code is the likeliest (percent)",
        "mean over all sets of so many other digits",
        DIGITS,
        OTHERS,
        **PERCENT,
    ),
    Grid("nll", "−log p(true code) (nats)", "mean over all sets of so many other digits", DIGITS, OTHERS),
    Grid(
        "dependence",
        "Dependence (nats)",
        "what log p(true code) of the row's digit gains once the column's is revealed and nothing else",
        DIGITS,
        ("revealed", _digit),
    ),
    Grid(
        "joint_loss",
        "Lost by deciding digits together (nats)",
        "log p(target) with one digit an evaluation, less that in T evaluations",
        ORDERS,
        EVALUATIONS,
    ),
    Grid(
        "invalid_rate",
        "Beams that are no item (percent)",
        "unconstrained beam search",
        ORDERS,
        EVALUATIONS,
        **PERCENT,
    ),
)


def _number(value: float, grid: Grid) -> str:
    rounded = round(grid.scale * value, grid.places) + 0.0  # never −0
    return f"{rounded:.{grid.places}f}"


def show_diagnosis(diagnosis: pa.Table, title: str) -> None:
    """Print an artifact of kind "diagnosis" below a line with the title and the number of users."""
    found = diagnosis.to_pylist()
    console.result(f"{title} · {found[0]['users']:,} users")
    for grid in GRIDS:
        (row, row_name), (column, column_name) = grid.rows, grid.columns
        cells = {
            (r[row], r[column]): _number(r["value"], grid) for r in found if r["measure"] == grid.measure
        }
        rows, columns = dict.fromkeys(key for key, _ in cells), sorted({key for _, key in cells})
        body = [[row_name(r), *(cells.get((r, c)) for c in columns)] for r in rows]
        if body:
            console.table(grid.title, ["", *map(column_name, columns)], body, grid.caption)
