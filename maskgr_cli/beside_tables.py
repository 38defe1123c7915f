"""Tables of what `maskgr eval` measures beside Recall and NDCG: properties of lists, groups of targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maskgr_cli.metrics_table import metrics_table
from maskgr_cli.tables import Column, Table, percent
from pipelines.evaluate.config import COLD, HISTORY_LENGTH, POPULARITY

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.evaluate.beside import Beside, Groups

Facts = Mapping[str, Any]


def _number(digits: int) -> Callable[[float | None], str | None]:
    return lambda value: None if value is None else f"{value:.{digits}f}"


MEASURES = {  # measure → title of the column, and text of a value
    "coverage": ("coverage@{}", percent),
    "gini": ("Gini@{}", _number(3)),
    "novelty": ("novelty@{}", _number(2)),
    "diversity": ("diversity@{}", _number(3)),
}
UNITS = {
    POPULARITY: "by the training interactions of the target",
    HISTORY_LENGTH: "by the items of the history",
    COLD: "by targets with and without a training interaction",
}


def beside_tables(systems: Sequence[tuple[Facts, Beside]], by: str | None) -> list[Table]:
    """Return the tables of the lists, of lists without seen items where those matter, and of the groups.

    Args:
        systems: facts about each system, of which the first is its name, and what was measured. The last
            table rows are those of the most popular items, from the first system.
        by: what the groups are by; None if there are none.
    """
    name, split = next(iter(systems[0][0])), systems[0][0]["split"]
    popular, first = {name: "popularity", "split": split}, systems[0][1]
    lists = _lists_table(
        [*((facts, beside.lists) for facts, beside in systems), (popular, first.popularity_lists)],
        first.embeddings,
    )
    tables = [lists, *_unseen_tables(systems)]
    if by is None:
        return tables
    grouped = [*((facts, beside.groups) for facts, beside in systems), (popular, first.popularity_groups)]
    return [*tables, metrics_table("groups", _by_group(grouped), f"Groups of targets, {UNITS[by]}")]


def _unseen_tables(systems: Sequence[tuple[Facts, Beside]]) -> list[Table]:
    """Return the table of the metrics without seen items; none where they hardly differ."""
    found = [(facts, beside.unseen) for facts, beside in systems if beside.unseen]
    if not found:
        return []
    short = max(unseen.short for _, unseen in found)
    note = "from the lists as stored; --exclude-seen searches anew"
    if short:
        note += f" · lists with fewer than ten items left: {short:.1%}"
    return [
        metrics_table("unseen", [(facts, its.metrics) for facts, its in found], "Seen items left out", note)
    ]


def _by_group(systems: Sequence[tuple[Facts, Groups]]) -> list[tuple[Facts, pa.Table]]:
    """Return the groups of all systems as systems of their own, group by group."""
    name = next(iter(systems[0][0]))
    return [
        ({**facts, name: f"{facts[name]}, {label}", "group": label}, table)
        for number in range(len(systems[0][1]))
        for facts, groups in systems
        for label, table in groups[number : number + 1]
    ]


def _lists_table(systems: Sequence[tuple[Facts, pa.Table]], embeddings: str | None) -> Table:
    names = list(dict.fromkeys(name for facts, _ in systems for name in facts))
    rows, depth = [], 0
    for facts, table in systems:
        measured = {row["metric"]: row for row in table.to_pylist()}
        depth = measured["coverage"]["k"]
        rows.append({**facts, **{f"{metric}@{depth}": row["value"] for metric, row in measured.items()}})
    columns = [
        Column(title.format(depth), (f"{metric}@{depth}",), text, optional=True)
        for metric, (title, text) in MEASURES.items()
    ]
    notes = ["coverage in percent of the catalogue", "novelty in bits"]
    notes += [f"diversity: 1 − cosine of {embeddings}"] * (embeddings is not None)
    return Table(
        *("lists", "Lists", [Column("", (names[0],)), *columns], rows, " · ".join(notes)),
        hidden=names[1:],
        adapts=True,
    )
