"""Table of the differences of runs from a baseline: a row for each run and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskgr_cli.metrics_table import COLUMN_TITLES
from maskgr_cli.tables import Column, Table
from pipelines.evaluate.compare import PERMUTATIONS

if TYPE_CHECKING:
    import pyarrow as pa


def comparison_table(comparison: pa.Table) -> Table:
    """Return a table of differences in percentage points.

    Args:
        comparison: rows of artifacts of kind "comparison", all with the same baseline.
    """
    rows = comparison.to_pylist()
    notes = [
        f"{rows[0]['users']:,} users",
        "interval: paired bootstrap over users",
        f"p: two-sided paired permutation (sign-flip) test with {PERMUTATIONS:,} permutations, "
        "not corrected for the number of comparisons",
    ]
    columns = [
        Column("", ("run",), once=True),
        Column("", ("metric", "k"), lambda metric, k: COLUMN_TITLES[metric].format(k)),
        Column("difference", ("difference",), _points),
        Column("95 % interval", ("low", "high"), lambda low, high: f"{_points(low)} to {_points(high)}"),
        Column("p", ("p",), "{:.4f}".format),
    ]
    title = f"Difference from {rows[0]['baseline']} (percentage points)"
    hidden = ("baseline", "baseline_value", "value", "users", "evaluation")
    return Table("differences", title, columns, rows, " · ".join(notes), hidden=hidden)


def _points(fraction: float) -> str:
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # −0.0 + 0.0 is 0.0
