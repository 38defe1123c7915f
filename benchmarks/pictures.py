"""Draw the picture of docs/choose-a-model.md from the reports in benchmarks/results.

    python -m benchmarks.pictures

It reads measured figures only; nothing is trained.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import polars as pl

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
REPORTS = {
    "table1-small": "eight minutes",
    "others-small": "eight minutes",
    "plateau-small": "thirty minutes",
}
COLORS = {"eight minutes": "#3949ab", "thirty minutes": "#ef6c00"}


def figures(report: str) -> pl.DataFrame:
    """Return model, value, low and high of Recall@10 in percent, means over the seeds of a report."""
    table = pl.read_parquet(ROOT / "benchmarks" / "results" / report / "results.parquet")
    chosen = table.filter((pl.col("metric") == "R@10") & pl.col("value").is_not_null())
    return chosen.group_by("model").agg(pl.col("value", "low", "high").mean() * 100)


def main() -> None:
    """Write docs/models.svg."""
    frames = [figures(report).with_columns(budget=pl.lit(budget)) for report, budget in REPORTS.items()]
    table = pl.concat(frames)
    order = table.group_by("model").agg(pl.col("value").max()).sort("value")["model"].to_list()
    plt.rcParams.update({"svg.hashsalt": "maskgr", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(7.5, 4))
    for budget, color in COLORS.items():
        part = table.filter(pl.col("budget") == budget)
        places = [order.index(model) for model in part["model"]]
        errors = [(part["value"] - part["low"]).to_list(), (part["high"] - part["value"]).to_list()]
        axes.errorbar(part["value"], places, xerr=errors, fmt="o", color=color, capsize=3, label=budget)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlim(0)
    axes.set_xlabel("Recall@10 on Beauty, percent, with the 95 % interval over users")
    axes.legend(title="training on one core", loc="lower right")
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "models.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
