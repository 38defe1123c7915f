"""Tables of a diagnosis, a table for each measure of the dependence between an item's digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maskgr_cli import console

if TYPE_CHECKING:
    import pyarrow as pa

Axis = tuple[str, Callable[[Any], str]]  # column of the artifact, and function from its values to labels


@dataclass(frozen=True)
class Layout:
    """Layout of the table of one measure.

    Attributes:
        measure: name of the measure in the artifact.
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


def show_diagnosis(diagnosis: pa.Table, title: str) -> None:
    """Print a diagnosis below a line with the title and the number of users.

    Args:
        diagnosis: artifact of kind "diagnosis".
        title: title above all tables.
    """
    results = diagnosis.to_pylist()
    console.result(f"{title} · {results[0]['users']:,} users")
    for layout in LAYOUTS:
        (row, row_label), (column, column_label) = layout.rows, layout.columns
        cells = {
            (result[row], result[column]): _format(result["value"], layout.percent)
            for result in results
            if result["measure"] == layout.measure
        }
        rows, columns = dict.fromkeys(key for key, _ in cells), sorted({key for _, key in cells})
        body = [[row_label(r), *(cells.get((r, c)) for c in columns)] for r in rows]
        if body:
            console.table(layout.title, ["", *map(column_label, columns)], body, layout.caption)


def _format(value: float, percent: bool) -> str:
    if percent:
        return f"{round(100 * value, 2) + 0.0:.2f}"  # −0.0 + 0.0 is 0.0
    return f"{round(value, 3) + 0.0:.3f}"
