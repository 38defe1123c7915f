"""Reader of external lists: a file with a row for each entry, or a row for each list, becomes `Lists`.

The rules, in this order:
1. The entries of a list are ordered by rank, else by score, else as in the file. Entries of equal rank or
   score keep the order of the file.
2. Users and items are those that were imported with the same identifiers. The lists of unknown users are left
   out. An entry that is no item keeps its place.
3. An entry that repeats an item of its list keeps its place, and only the first counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.evaluate.external import Lists
from pipelines.progress import Progress
from pipelines.readers import names
from pipelines.readers.read import read_table
from pipelines.workspace import Dataset

# Names by which columns are known, best first.
ITEMS = (*names.ITEMS, "items", "item_ids", "recommendations", "recommended_items")
RANKS = ("rank", "position", "place", "order")
SCORES = ("score", "scores", "prediction", "predictions", "rating")
MOST_UNKNOWN_USERS = 0.01  # largest share of unknown users
SHOWN = 3  # identifiers that a message names


def read_lists(path: Path, dataset: Dataset, progress: Progress) -> Lists:
    """Read the lists of another program, and report what was taken and what was left out.

    Args:
        path: file of any format that `readers` knows.
        dataset: data set of the users and items.

    Raises:
        UserError: the file or a column cannot be used, too many users are unknown, or no item is known.
    """
    table = read_table(path)
    entries, order = _entries(table, path)
    entries = _known_users(entries, path, dataset, progress)
    entries = _numbered_items(entries, path, dataset, progress)
    entries = entries.sort("user", "key", maintain_order=True)
    ties = entries.filter(pl.all_horizontal(pl.col("user", "key") == pl.col("user", "key").shift()))
    first = entries.select(pl.struct("user", "item").is_first_distinct()).to_series()
    users, items = (entries[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    lists = Lists(path, users, items, (items >= 0) & ~first.to_numpy())
    _report(lists, order, ties["user"].n_unique(), progress)
    return lists


def _report(lists: Lists, order: str, tied: int, progress: Progress) -> None:
    """Report the number and the order of the lists, ties and repeated items."""
    count = len(np.unique(lists.users))
    progress.say(f"{lists.path.name}: {count:,} lists of up to {lists.longest:,} entries, {order}.")
    if tied:
        progress.say(f"{tied:,} lists have ties: tied entries keep the order of the file.")
    if repeated := int(lists.repeated.sum()):
        progress.say(f"{repeated:,} entries repeat an item of their list: the first counts.")


def _entries(table: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, str]:
    """Return user_id and item_id (text), and key (smaller is better), one row per entry; and how they are
    ordered, in words.
    """
    user, item = _required(table, path, "users", names.USERS), _required(table, path, "items", ITEMS)
    rank, score = _first(table, RANKS), _first(table, SCORES)
    table = table.with_columns(_lists(table[item]))
    if isinstance(table.schema[item], pl.List):
        rank, score = None, score if score and isinstance(table.schema[score], pl.List) else None
        table = _exploded(table, path, user, item, score)
    by = rank or score
    place = pl.int_range(len(table), eager=True).cast(pl.Float64)
    ids = {
        "user_id": _identifiers(table, path, user),
        "item_id": _identifiers(table, path, item),
        "key": _numbers(table, path, by) * (1 if rank else -1) if by else place,
    }
    if missing := ids["user_id"].null_count():
        raise UserError(f"{path}: column {user} has no value in {missing:,} rows. Write the file again.")
    if ids["item_id"].null_count() == len(table):
        raise UserError(f"{path}: column {item} holds no item. Write the file again.")
    return pl.DataFrame(ids), f"ordered by {by}" if by else "in the order of the file"


def _first(table: pl.DataFrame, known: tuple[str, ...]) -> str | None:
    """Return the column that is known by the best of some names, or None."""
    return next(iter(names.matches(table.columns, known)), None)


def _required(table: pl.DataFrame, path: Path, words: str, known: tuple[str, ...]) -> str:
    column = _first(table, known)
    if column is None:
        raise UserError(
            f"{path} has no column of {words}; it has {', '.join(table.columns)}. "
            f"Call the column of {words} {known[0]}."
        )
    return column


def _lists(column: pl.Series) -> pl.Series:
    """Return a column whose texts are all lists in JSON as a column of lists, any other column as it is."""
    texts = column.drop_nulls()
    if column.dtype != pl.String or texts.is_empty() or not texts.str.starts_with("[").all():
        return column
    try:
        return column.str.json_decode(pl.List(pl.String))
    except pl.exceptions.ComputeError:
        return column


def _exploded(table: pl.DataFrame, path: Path, user: str, item: str, score: str | None) -> pl.DataFrame:
    """Return a row for each entry of the lists.

    Raises:
        UserError: a list has another number of scores than of items, or all lists are empty.
    """
    lists = [item, score] if score else [item]
    table = table.select(user, *lists)
    wrong = (table[lists[0]].list.len() != table[lists[-1]].list.len()).arg_true()
    if len(wrong):
        raise UserError(
            f"{path}: row {wrong[0]} has another number of {score} than of {item}. Write the file again."
        )
    table = table.filter(pl.col(item).list.len() > 0)
    if table.is_empty():
        raise UserError(f"{path}: all lists in column {item} are empty. Write the file again.")
    return table.explode(lists)


def _numbers(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Return ranks or scores as numbers.

    Raises:
        UserError: a value is missing or is no number.
    """
    numbers = table[name].cast(pl.Float64, strict=False)
    wrong = (numbers.is_null() | numbers.is_nan()).arg_true()
    if len(wrong):
        raise UserError(
            f"{path}: column {name} holds {table[name][wrong[0]]!r} in row {wrong[0]}, which is no number. "
            "Write the file again, or rename the column to leave it out."
        )
    return numbers


def _identifiers(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Return a column of identifiers as text; a missing one is null.

    Raises:
        UserError: the column holds neither text nor whole numbers.
    """
    column = table[name]
    if column.dtype.is_float():  # 151.0 is 151
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
    if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise UserError(
            f"{path}: column {name} holds {column.dtype} values; ids must be text or whole numbers."
        )
    return column.cast(pl.String).replace("", None)


def _known_users(entries: pl.DataFrame, path: Path, dataset: Dataset, progress: Progress) -> pl.DataFrame:
    """Return the entries of known users with their number in the column user.

    Raises:
        UserError: more than `MOST_UNKNOWN_USERS` of the users are unknown.
    """
    users = _artifact(dataset.sequences, "sequences", "user", "user_id")
    joined = entries.join(users, on="user_id", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("user").is_null())["user_id"].unique(maintain_order=True)
    if unknown.is_empty():
        return joined
    count = entries["user_id"].n_unique()
    found = f"{len(unknown):,} of {count:,} users of {path} are not in {dataset.name}, e.g. {_some(unknown)}"
    if len(unknown) > MOST_UNKNOWN_USERS * count:
        raise UserError(
            f"{found}, where users are e.g. {_some(users['user_id'])}. Give users as they were imported; at "
            f"most {MOST_UNKNOWN_USERS:.0%} may be unknown."
        )
    progress.say(f"{found}: their lists are left out.")
    return joined.filter(pl.col("user").is_not_null())


def _numbered_items(entries: pl.DataFrame, path: Path, dataset: Dataset, progress: Progress) -> pl.DataFrame:
    """Return the entries with the number of their item in the column item, −1 where it is unknown.

    Raises:
        UserError: no item is known.
    """
    items = _artifact(dataset.items, "items", "item", "item_id")
    joined = entries.join(items, on="item_id", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("item").is_null())["item_id"]
    if len(unknown) == len(joined):
        raise UserError(
            f"No item of {path} is in {dataset.name}: it has e.g. {_some(unknown)}, where items are e.g. "
            f"{_some(items['item_id'])}. Give items as they were imported."
        )
    if len(unknown):
        progress.say(
            f"{len(unknown):,} of {len(joined):,} entries are no item of {dataset.name}, e.g. "
            f"{_some(unknown)}: they keep their places and count as invalid."
        )
    return joined.with_columns(pl.col("item").fill_null(-1))


def _artifact(path: Path, kind: str, number: str, identifier: str) -> pl.DataFrame:
    """Return numbers and identifiers (text) of the users or items of a data set."""
    table = pl.from_arrow(artifacts.read(path, kind, columns=[number, identifier]))
    assert isinstance(table, pl.DataFrame)
    return table.with_columns(pl.col(identifier).cast(pl.String))


def _some(identifiers: pl.Series) -> str:
    """Return the first distinct identifiers, for messages."""
    names = identifiers.unique(maintain_order=True).head(SHOWN)
    return ", ".join("nothing" if name is None else repr(name) for name in names)
