"""Tables of a diagnosis, a table for each measure of the dependence between an item's digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maskgr_cli.tables import Column, Table, percent

if TYPE_CHECKING:
    import pyarrow as pa

Axis = tuple[str, Callable[[Any], str]]  # column of the artifact, and function from its values to labels


@dataclass(frozen=True)
class Layout:
    """Layout of the table of one measure.

    Attributes:
        measure: name of the measure in the artifact, and of the result.
        title: title above the table.
        caption: text below the table.
        rows: column of the artifact that becomes the rows.
        columns: column of the artifact that becomes the columns.
        percent: if true, values are printed in percent with two decimals, else as they are with three.
    """

    measure: str
    title: str
    caption: str
    rows: Axis
    columns: Axis
    percent: bool = False


def _digit(number: int) -> str:
    return f"digit {number + 1}"


DIGITS: Axis = ("digit", _digit)
ORDERS: Axis = ("order", str)
COUNTS: Axis = ("revealed", "{} revealed".format)
EVALUATIONS: Axis = ("evaluations", "T = {}".format)
LAYOUTS = (
    Layout(
        "accuracy",
        "True code is the most probable one (percent)",
        "mean over all sets of this number of revealed digits",
        DIGITS,
        COUNTS,
        percent=True,
    ),
    Layout(
        "nll",
        "−log p(true code) (nats)",
        "mean over all sets of this number of revealed digits",
        DIGITS,
        COUNTS,
    ),
    Layout(
        "dependence",
        "Dependence (nats)",
        "increase of log p(true code) of the row's digit when only the column's digit is revealed",
        DIGITS,
        ("revealed", _digit),
    ),
    Layout(
        "joint_loss",
        "Loss by unmasking digits together (nats)",
        "log p(target) with one digit per function evaluation, minus log p(target) with T evaluations",
        ORDERS,
        EVALUATIONS,
    ),
    Layout(
        "invalid_rate",
        "Invalid beams (percent)",
        "unconstrained beam search",
        ORDERS,
        EVALUATIONS,
        percent=True,
    ),
)


def diagnosis_tables(run: str, diagnosis: pa.Table, title: str) -> list[Table]:
    """Return the tables of a diagnosis.

    The title and the number of users stand above the first table. The key of a value is made of the name and
    the value of the column of the artifact, e.g. "revealed_2".

    Args:
        run: name of the run.
        diagnosis: artifact of kind "diagnosis".
        title: title above all tables.
    """
    results = diagnosis.to_pylist()
    heading = f"{title} · {results[0]['users']:,} users"
    tables: list[Table] = []
    for layout in LAYOUTS:
        (row, row_label), (column, column_label) = layout.rows, layout.columns
        values = {
            (result[row], result[column]): result["value"]
            for result in results
            if result["measure"] == layout.measure
        }
        rows: dict[Any, dict[str, Any]] = {r: {"run": run, row: r} for r, _ in values}
        for (r, c), value in values.items():
            rows[r][f"{column}_{c}"] = value
        columns = [
            Column("", (row,), row_label),
            *(
                Column(column_label(c), (f"{column}_{c}",), percent if layout.percent else _decimals)
                for c in sorted({c for _, c in values})
            ),
        ]
        if values:
            tables.append(
                Table(
                    layout.measure,
                    layout.title,
                    columns,
                    [*rows.values()],
                    layout.caption,
                    heading="" if tables else heading,
                    hidden=("run",),
                )
            )
    return tables


def _decimals(value: float | None) -> str | None:
    return None if value is None else f"{round(value, 3) + 0.0:.3f}"  # −0.0 + 0.0 is 0.0
