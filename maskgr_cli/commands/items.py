"""`maskgr items`: the items of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import DatasetOption, WorkspaceOption, checked
from maskgr_cli.tables import Column, FormatOption, Table, count, show
from pipelines.errors import UserError
from pipelines.options import check_number, check_path, has_no_effect
from pipelines.recommend.config import SIMILARITIES
from pipelines.workspace import Workspace

IDS = Annotated[list[str], typer.Argument(help="Item ids, as imported.", metavar="ID…")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="List the items of a data set, show them, find similar ones, and add new ones.")
    group.command("list")(list_items)
    group.command("show")(show_items)
    group.command("similar")(similar_items)
    group.command("add")(add_items)
    app.add_typer(group, name="items", no_args_is_help=True)


def list_items(
    where: Annotated[
        str | None, typer.Option("--where", help="Only items whose columns satisfy this condition.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="Only items whose title contains this text.")
    ] = None,
    limit: Annotated[
        int, checked("--limit", "Largest number of items; 0: all.", check_number, 0, 2**31 - 1)
    ] = 20,
    dataset: DatasetOption = None,
    format: FormatOption = "table",
    workspace: WorkspaceOption = None,
) -> None:
    """List items by number of interactions, most first."""
    data = Workspace.find(workspace).require_dataset(dataset)
    from pipelines.recommend.items import ItemTable
    from pipelines.recommend.popular import Popularity

    table, rows = ItemTable(data), []
    popularity = Popularity.of_dataset(data, len(table))
    wanted = {*range(len(table))}
    for numbers in (table.qualifying(where), table.matching(like) if like else None):
        wanted &= wanted if numbers is None else set(numbers.tolist())
    order = [number for number in popularity.order.tolist() if number in wanted]
    for number in order[: limit or None]:
        item_id, title = table.names.row(number)
        rows.append({"item_id": item_id, "title": title, "interactions": int(popularity.counts[number])})
    columns = (
        Column("item", ("item_id",)),
        Column("title", ("title",), left=True),
        Column("interactions", ("interactions",), count),
    )
    found = f"{len(order):,} items of {data.name}"
    shown = f", the first {len(rows):,}" if len(rows) < len(order) else ""
    show([Table("items", found + shown, columns, rows)], format)


def show_items(
    ids: IDS,
    neighbors: Annotated[
        int, checked("--neighbors", "Number of similar items of each kind; 0: none.", check_number, 0, 10_000)
    ] = 5,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Run whose model finds similar items.", show_default="the newest of the data set"
        ),
    ] = None,
    dataset: DatasetOption = None,
    format: FormatOption = "table",
    workspace: WorkspaceOption = None,
) -> None:
    """Show all columns of items, what their semantic IDs mean, and similar items.

    Similar are items by the vectors of a trained model, by text embeddings and by semantic IDs, as far as the
    workspace has them.
    """
    if run is not None and not neighbors:
        raise has_no_effect([f"--run {run}"], "--neighbors 0")
    store = Workspace.find(workspace)
    data = store.require_dataset(dataset)
    from maskgr_cli.item_tables import item_tables
    from pipelines.recommend.items import ItemTable

    numbers = _known(ItemTable(data), ids)
    show(item_tables(store, data, numbers, neighbors, run, console.RichProgress()), format)


def similar_items(
    ids: IDS,
    by: Annotated[
        str, typer.Option("--by", help=f"Similarity: {', '.join(SIMILARITIES)} (shared digits).")
    ] = SIMILARITIES[0],
    k: Annotated[int, checked("-k", "Number of similar items.", check_number, 1, 10_000)] = 10,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Run, folder of a bundle, or hf:OWNER/NAME.", show_default="the newest"),
    ] = None,
    format: FormatOption = "table",
    workspace: WorkspaceOption = None,
) -> None:
    """Find the items most similar to each of some items: to a model, by text, or by semantic ID."""
    from maskgr_cli import launch
    from pipelines.recommend.load import load

    chosen = run or Workspace.find(workspace).require_run(None).name
    model = load(chosen, workspace=Workspace.path(workspace), progress=launch.progress())
    numbers = _known(model.table, ids)
    names = model.table.names
    tables = []
    for number in numbers:
        item_id, title = names.row(number)
        rows = model.similar([item_id], k, by=by).to_dicts()
        columns = (
            Column("rank", ("rank",)),
            Column("title", ("title",), left=True),
            Column("item", ("similar_id",), left=True),
            Column("similarity", ("score",), lambda value: f"{value:.3f}"),
        )
        tables.append(Table(item_id, f"Similar to {item_id}: {title}", columns, rows))
    show(tables, format)


def add_items(
    file: Annotated[
        Path, typer.Argument(help="File of any known format: ids and columns as those of the items.")
    ],
    dataset: DatasetOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Add items that nobody took yet, with their embeddings and semantic IDs.

    Encoders and codebooks stay as they were fitted. Numbers, vectors and codes of the old items do not move.
    """
    check_path("FILE", file)
    target = Workspace.find(workspace)
    from pipelines.grow.grow import add_items as add

    add(target, dataset, file, console.RichProgress())


def _known(table: Any, ids: list[str]) -> list[int]:
    """Return the numbers of items.

    Raises:
        UserError: an id is unknown.
    """
    numbers: list[int] = table.numbers(ids).tolist()
    unknown = [name for name, number in zip(ids, numbers, strict=True) if number < 0]
    if unknown:
        raise UserError(
            f"No item {', '.join(map(repr, unknown))} in {table.path}. Find ids with: maskgr items list "
            "--like TEXT"
        )
    return numbers
