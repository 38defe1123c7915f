"""Table of the differences of runs from a baseline: a row for each run and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskgr_cli import console
from maskgr_cli.metrics_table import COLUMN_TITLES
from pipelines.evaluate.compare import PERMUTATIONS

if TYPE_CHECKING:
    import pyarrow as pa


def show_comparison(comparison: pa.Table) -> None:
    """Print differences in percentage points.

    Args:
        comparison: rows of artifacts of kind "comparison", all with the same baseline.
    """
    rows = comparison.to_pylist()
    body = []
    previous = None
    for row in rows:
        body.append(
            [
                row["run"] if row["run"] != previous else "",  # printed once for all metrics of a run
                COLUMN_TITLES[row["metric"]].format(row["k"]),
                _points(row["difference"]),
                f"{_points(row['low'])} to {_points(row['high'])}",
                f"{row['p']:.4f}",
            ]
        )
        previous = row["run"]
    notes = [
        f"{rows[0]['users']:,} users",
        "interval: paired bootstrap over users",
        f"p: two-sided paired permutation (sign-flip) test with {PERMUTATIONS:,} permutations, "
        "not corrected for the number of comparisons",
    ]
    console.table(
        f"Difference from {rows[0]['baseline']} (percentage points)",
        ["", "", "difference", "95 % interval", "p"],
        body,
        " · ".join(notes),
    )


def _points(fraction: float) -> str:
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # −0.0 + 0.0 is 0.0
