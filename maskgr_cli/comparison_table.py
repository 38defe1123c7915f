"""How runs differ from another: a row for each run and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskgr_cli import console
from maskgr_cli.metrics_table import CUTOFFS
from pipelines.evaluate.compare import PERMUTATIONS

if TYPE_CHECKING:
    import pyarrow as pa


def show_comparison(comparison: pa.Table) -> None:
    """Print the rows of artifacts of kind "comparison", all against one baseline, in percentage points."""
    rows = comparison.to_pylist()
    baseline = rows[0]["baseline"]
    body, run = [], None
    for row in rows:
        name = row["run"] if row["run"] != run else ""  # once for all its metrics
        interval = f"{_points(row['low'])} to {_points(row['high'])}"
        body.append(
            [
                name,
                CUTOFFS[row["metric"]].format(row["k"]),
                _points(row["difference"]),
                interval,
                f"{row['p']:.4f}",
            ]
        )
        run = row["run"]
    notes = [
        f"{rows[0]['users']:,} users",
        "interval: paired bootstrap over users",
        f"p: paired permutation (sign-flip) test, two-sided, {PERMUTATIONS:,} permutations, not corrected for the number of comparisons",
    ]
    console.table(
        f"Difference from {baseline} (percentage points)",
        ["", "", "difference", "95 % interval", "p"],
        body,
        " · ".join(notes),
    )


def _points(fraction: float) -> str:
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # never −0
