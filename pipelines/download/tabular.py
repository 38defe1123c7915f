"""A person's own files: CSV, TSV, JSON Lines or Parquet, with columns found by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl

from pipelines import artifacts
from pipelines.download.config import ImportConfig
from pipelines.download.prepare import prepare
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Workspace

# Names by which columns are known, best first; compared without case, dashes and underscores.
USERS = ("user_id", "user", "uid", "reviewer_id", "customer_id", "visitor_id", "session_id", "session")
ITEMS = ("item_id", "item", "iid", "asin", "parent_asin", "product_id", "movie_id", "track_id", "news_id", "article_id", "sku")
STAMPS = ("timestamp", "time", "unix_review_time", "datetime", "date", "created_at", "ts", "event_time")
POSITIONS = ("position", "order", "index", "rank", "step")
RATINGS = ("rating", "score", "stars", "overall")
FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet")


def import_dataset(
    workspace: Workspace,
    name: str,
    config: ImportConfig,
    progress: Progress,
    *,
    interactions: Path,
    items: Path | None = None,
    force: bool = False,
) -> Dataset:
    """Make a data set of a person's own files and take it as the current one.

    Args:
        interactions: one row an interaction, with a user, an item and a time or position.
        items: one row an item; without it items have no text.
        force: read the files again even where nothing changed.

    Raises:
        UserError: a file or a column that cannot be used (names it, and says what to do).
    """
    dataset = workspace.dataset(name)
    inputs = {"interactions": interactions} | ({"items": items} if items else {})
    for path in inputs.values():
        _check(path)
    recorded = dataclasses.asdict(config)
    reason = artifacts.stale(dataset.interactions, recorded, inputs) or artifacts.stale(dataset.sequences)
    if reason is None and not force and (items is None) == ("items" not in artifacts.provenance(dataset.interactions)["inputs"]):
        progress.say(f"{name} is up to date ({dataset.path}).")
    else:
        table = read_interactions(interactions, config)
        described, text_columns = read_items(items, config) if items else (pl.DataFrame({"item_id": []}, schema={"item_id": pl.String}), [])
        if items is None:
            progress.say("No items file: items have no text, so they need embeddings of your own or a model without semantic IDs.")
        prepare(
            dataset,
            table,
            described,
            text_columns=text_columns,
            min_count=config.min_count,
            config=recorded,
            inputs=inputs,
            progress=progress,
        )
    workspace.use(name)
    return dataset


def read_interactions(path: Path, config: ImportConfig) -> pl.DataFrame:
    """user_id, item_id (strings), timestamp or position (numbers), perhaps rating; rows in file order.

    Raises:
        UserError: see `import_dataset`.
    """
    table = _read(path)
    user = _find(table, path, config.user_column, USERS, "users", "--user-column")
    item = _find(table, path, config.item_column, ITEMS, "items", "--item-column")
    when = _find(table, path, config.time_column, (*STAMPS, *POSITIONS), "times", "--time-column")
    named = "position" if _plain(when) in map(_plain, POSITIONS) else "timestamp"
    rating = _matching(table, RATINGS)
    columns = [_identifier(table, path, user).alias("user_id"), _identifier(table, path, item).alias("item_id")]
    columns += [_times(table, path, when).alias(named)]
    if rating and table.schema[rating].is_numeric():
        columns += [table[rating].alias("rating")]
    return pl.DataFrame(columns)


def read_items(path: Path, config: ImportConfig) -> tuple[pl.DataFrame, list[str]]:
    """item_id (distinct strings) and the text columns, and their names.

    Raises:
        UserError: see `import_dataset`.
    """
    table = _read(path)
    item = _find(table, path, config.item_column, ITEMS, "items", "--item-column")
    if config.text_columns:
        chosen = [name.strip() for name in config.text_columns.split(",")]
        for name in chosen:
            _find(table, path, name, (), "texts", "--text-columns")
    else:
        chosen = [name for name, kind in table.schema.items() if name != item and kind in (pl.String, pl.List(pl.String))]
    table = table.with_columns(_identifier(table, path, item).alias(item)).rename({item: "item_id"} if item != "item_id" else {})
    repeated = table.filter(pl.col("item_id").is_duplicated())
    if len(repeated):
        raise UserError(f"{path}: item id {repeated['item_id'][0]!r} stands in several rows. Keep one row an item.")
    return table.select("item_id", *(name for name in chosen if name != item)), [name for name in chosen if name != item]


def _check(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file. Check --interactions and --items.")
    if _format(path) not in FORMATS:
        raise UserError(f"{path} is of no known format. Use {', '.join(FORMATS)}, the text ones also with .gz.")


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]


def _read(path: Path) -> pl.DataFrame:
    kind = _format(path)
    try:
        if kind == ".parquet":
            table = pl.read_parquet(path)
        elif kind in (".csv", ".tsv"):
            table = pl.read_csv(path, separator="\t" if kind == ".tsv" else ",", infer_schema_length=None)
        else:
            table = pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be read as {kind} ({reason}). Check that the file is whole and its name fits its format.") from None
    if table.is_empty():
        raise UserError(f"{path} holds no rows; there is nothing to import.")
    return table


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").split(":")[0]


def _matching(table: pl.DataFrame, names: tuple[str, ...]) -> str | None:
    known = {_plain(column): column for column in reversed(table.columns)}
    return next((known[_plain(name)] for name in names if _plain(name) in known), None)


def _find(table: pl.DataFrame, path: Path, given: str | None, names: tuple[str, ...], meaning: str, option: str) -> str:
    found = given if given in table.columns else None if given else _matching(table, names)
    if found is None:
        missing = f"no column {given!r}" if given else f"no column of {meaning} that is known by its name"
        raise UserError(f"{path} has {missing}; it has {', '.join(table.columns)}. Name the one of {meaning} with {option}.")
    return found


def _identifier(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    column = table[name]
    if column.dtype.is_nested() or column.dtype.is_float():
        raise UserError(f"{path}: column {name} holds {column.dtype} values; ids must be text or whole numbers.")
    column = column.cast(pl.String)
    _no_nulls(column, path, name)
    return column


def _no_nulls(column: pl.Series, path: Path, name: str) -> None:
    if column.null_count():
        raise UserError(
            f"{path}: column {name} has no value in {column.null_count():,} rows, first in row {column.is_null().arg_true()[0]}."
        )


def _times(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Numbers that order time; dates become seconds since 1970."""
    column = table[name]
    _no_nulls(column, path, name)
    if column.dtype.is_numeric():
        return column
    if column.dtype == pl.String:
        number = column.cast(pl.Float64, strict=False)
        if not number.null_count():
            return number
        text, column = column, _parsed(column)
        wrong = (number.is_null() & column.is_null()).arg_true()
        if len(wrong) or column.null_count():
            row = wrong[0] if len(wrong) else column.is_null().arg_true()[0]
            raise UserError(
                f"{path}: column {name} holds {text[row]!r} in row {row}, which is no time like the others. "
                "Use numbers or ISO dates, or another --time-column."
            )
    if not column.dtype.is_temporal():
        raise UserError(f"{path}: column {name} holds {column.dtype} values, which are no times. Name another with --time-column.")
    return column.cast(pl.Datetime("us")).dt.timestamp("us") / 1e6


def _parsed(column: pl.Series) -> pl.Series:
    """ISO dates or datetimes; null where one does not parse."""
    dates = column.str.strptime(pl.Date, "%Y-%m-%d", strict=False)
    if not dates.null_count():
        return dates
    return column.str.replace("Z$", "").str.replace("T", " ").str.strptime(pl.Datetime("us"), "%Y-%m-%d %H:%M:%S%.f", strict=False)
