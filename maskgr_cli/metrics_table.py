"""Table of Recall and NDCG: a row for each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maskgr_cli.tables import Column, Table, percent

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN_TITLES = {"recall": "R@{}", "ndcg": "N@{}"}  # metric → title of the column for each cut-off
RATES = {"invalid_rate": "invalid", "duplicate_rate": "duplicate"}
Key = tuple[str, int | None]  # metric and cut-off
Systems = Sequence[tuple[Mapping[str, Any], "pa.Table"]]


def metrics_table(key: str, systems: Systems, title: str, caption: str = "") -> Table:
    """Return a table of metrics with half the width of their 95 % bootstrap interval.

    Args:
        key: name of the result.
        systems: facts about each system, and its metrics, an artifact of kind "metrics". The first fact is
            its name, which is shown; the others are hidden.
        title: title above the table.
        caption: text below the table; the number of users and the meaning of ± follow it.
    """
    names = list(dict.fromkeys(name for facts, _ in systems for name in facts))
    results = [table.to_pylist() for _, table in systems]
    measured = {(result["metric"], result["k"]) for rows in results for result in rows}
    shown = sorted((k for k in measured if k[0] in COLUMN_TITLES), key=_position)
    shown += [(metric, None) for metric in RATES if (metric, None) in measured]
    others = sorted(measured - {*shown}, key=str)
    rows = [
        {**facts, "users": rows[0]["users"], **{k: v for row in rows for k, v in _values(row).items()}}
        for (facts, _), rows in zip(systems, results, strict=True)
    ]
    users = " / ".join(dict.fromkeys(f"{row['users']:,}" for row in rows))
    notes = [caption] * bool(caption) + [f"{users} users", "percent, ± half the 95 % bootstrap interval"]
    columns = [Column("", (names[0],)), *map(_column, shown)]
    hidden = ["users", *(key for other in others for key in _keys(*other)), *names[1:]]
    return Table(key, title, columns, rows, " · ".join(notes), hidden=hidden, adapts=True)


def _position(key: Key) -> tuple[int, int]:
    return list(COLUMN_TITLES).index(key[0]), key[1] or 0


def by_warmth(systems: Systems) -> list[tuple[Mapping[str, Any], pa.Table]]:
    """Return the metrics of cold and of warm targets as systems of their own, for `metrics_table`.

    Returns:
        Facts and metrics; empty where no system has metrics of cold targets.
    """
    found: list[tuple[Mapping[str, Any], pa.Table]] = []
    for kind in ("cold", "warm"):
        for facts, table in systems:
            rows = [row for row in table.to_pylist() if row["metric"].startswith(f"{kind}_")]
            if rows:
                renamed = [{**row, "metric": row["metric"].removeprefix(f"{kind}_")} for row in rows]
                first = next(iter(facts))
                named = {**facts, first: f"{facts[first]}, {kind} targets", "targets": kind}
                found.append((named, table.from_pylist(renamed, table.schema)))
    return found


def _keys(metric: str, k: int | None) -> tuple[str, str, str]:
    """Return the keys of a metric's value and of the ends of its interval."""
    key = metric if k is None else f"{metric}@{k}"
    return key, f"{key}_low", f"{key}_high"


def _values(result: Mapping[str, Any]) -> dict[str, float | None]:
    values = (result["value"], result["low"], result["high"])
    return dict(zip(_keys(result["metric"], result["k"]), values, strict=True))


def _column(key: Key) -> Column:
    metric, k = key
    if metric in RATES:
        return Column(RATES[metric], _keys(metric, k), lambda value, _low, _high: percent(value))
    return Column(COLUMN_TITLES[metric].format(k), _keys(metric, k), _with_interval)


def _with_interval(value: float | None, low: float | None, high: float | None) -> str | None:
    if low is None or high is None:
        return percent(value)
    return f"{percent(value)} ±{50 * (high - low):.2f}"
