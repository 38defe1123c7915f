"""Tables of `maskgr items show`: columns of items, what their codes mean, and similar items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maskgr_cli.sids_tables import code_row
from maskgr_cli.tables import Column, Table, count
from pipelines.progress import Progress
from pipelines.recommend.items import ItemTable
from pipelines.recommend.popular import Popularity
from pipelines.views.codes import Meaning
from pipelines.workspace import Dataset, Workspace

FACTS = (Column("column", ("column",)), Column("value", ("value",), lambda value: _plain(value), left=True))
CODES = (
    Column("SIDs", ("sids",), once=True),
    Column("digit", ("digit",)),
    Column("code", ("code",)),
    Column("items with it", ("items",), count),
    Column("typical words", ("words",), ", ".join, left=True),
)
NEIGHBORS = (
    Column("similar by", ("by", "source"), lambda by, source: f"{by} ({source})", once=True),
    Column("rank", ("rank",)),
    Column("title", ("title",), left=True),
    Column("item", ("similar_id",), left=True),
    Column(
        "similarity", ("score", "by"), lambda score, by: f"{score:.0f}" if by == "sids" else f"{score:.3f}"
    ),
)


def item_tables(
    workspace: Workspace,
    dataset: Dataset,
    numbers: Sequence[int],
    neighbors: int,
    run: str | None,
    progress: Progress,
) -> list[Table]:
    """Return the tables of items, three for each: columns, codes and similar items.

    Args:
        workspace: workspace of the data set.
        numbers: item numbers.
        neighbors: number of similar items of each kind.
        run: run whose model finds similar items; None for the newest of the data set.
        progress: receives messages.

    Raises:
        UserError: the run cannot be loaded, or a file is damaged.
    """
    items = ItemTable(dataset)
    counts = Popularity.of_dataset(dataset, len(items)).counts
    meanings = [Meaning(dataset, path.stem) for path in dataset.all_sids]
    similar = _neighbors(workspace, dataset, items, numbers, neighbors, run, progress) if neighbors else {}
    tables = []
    for number in numbers:
        item_id, title = items.names.row(number)
        facts: dict[str, Any] = dict(zip(items.frame.columns, items.frame.row(number), strict=True))
        facts |= {"interactions": int(counts[number])}
        codes = [
            {"item_id": item_id, "sids": meaning.name, **code_row(code)}
            for meaning in meanings
            for code in meaning.of_item(number)
        ]
        for meaning in meanings:
            digits = [str(row["code"]) for row in codes if row["sids"] == meaning.name]
            facts[f"SIDs {meaning.name}"] = " ".join(digits)
        rows = [{"column": name, "value": _raw(value)} for name, value in facts.items()]
        tables += [
            Table(item_id, f"{item_id}: {title}", FACTS, rows),
            Table("codes", "Codes", CODES, codes, hidden=["item_id"]),
            Table("neighbors", "Similar items", NEIGHBORS, similar.get(number, []), hidden=["item_id"]),
        ]
    return tables


def _neighbors(
    workspace: Workspace,
    dataset: Dataset,
    items: ItemTable,
    numbers: Sequence[int],
    k: int,
    run: str | None,
    progress: Progress,
) -> dict[int, list[dict[str, Any]]]:
    """Return similar items as rows, by the number of the item."""
    from pipelines.views.neighbors import neighbors  # loads torch

    rows: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
    for found in neighbors(workspace, dataset, np.array(numbers, np.int64), k, run, progress):
        for place, number in enumerate(numbers):
            similar = zip(found.items[place].tolist(), found.scores[place].tolist(), strict=True)
            for rank, (other, score) in enumerate(similar, start=1):
                similar_id, title = items.names.row(other)
                facts = {"by": found.by, "source": found.source, "rank": rank, "similar_id": similar_id}
                rows[number].append(
                    {"item_id": items.names["item_id"][number], **facts, "title": title, "score": score}
                )
    return rows


def _raw(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, list):
        return [_raw(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _plain(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return None if value is None else str(value)
