"""A person's own files: CSV, TSV, JSON Lines or Parquet, with columns found by name."""

from __future__ import annotations

import dataclasses
import gzip
import io
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.download.config import ImportConfig
from pipelines.download.prepare import is_current, prepare
from pipelines.errors import UserError, reading, unsaid_panics
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Workspace

# Names by which columns are known, best first; compared without case, dashes and underscores.
USERS = ("user_id", "user", "uid", "reviewer_id", "customer_id", "visitor_id", "session_id", "session")
ITEMS = (
    "item_id",
    "item",
    "iid",
    "asin",
    "parent_asin",
    "product_id",
    "movie_id",
    "track_id",
    "news_id",
    "article_id",
    "sku",
)
STAMPS = ("timestamp", "time", "unix_review_time", "datetime", "date", "created_at", "ts", "event_time")
POSITIONS = ("position", "order", "index", "rank", "step")
RATINGS = ("rating", "score", "stars", "overall")
OWN = ("item", "item_id", "text")  # columns of the artifact: a text column so named is stored as NAME_given
ISO = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2}(?:\.\d+)?))?)? ?(Z|[+-]\d{2}(?::?\d{2})?)?$"
UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}  # of an instant, in a second
IDENTIFIERS = (pl.String, pl.Categorical, pl.Enum, pl.Null)  # and whole numbers
DEEPEST = 32  # lists and objects within each other in a line of JSON; polars crashes at some hundreds
STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[][{}]', re.DOTALL)
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
    if config.text_columns and items is None:
        raise UserError(
            f"--text-columns {config.text_columns} names columns of an items file. Give it with --items."
        )
    recorded = dataclasses.asdict(config) | {"items": items is not None}
    if not is_current(dataset, recorded, inputs, force, progress):
        table = read_interactions(interactions, config)
        described, text_columns = (
            read_items(items, config)
            if items
            else (pl.DataFrame({"item_id": []}, schema={"item_id": pl.String}), [])
        )
        if items is None:
            progress.say(
                "No items file: items have no text, so they need embeddings of your own or a model without semantic IDs."
            )
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
    table = _read(path, config)
    user = _find(table, path, config.user_column, USERS, "users", "--user-column")
    item = _find(table, path, config.item_column, ITEMS, "items", "--item-column")
    when = _find(table, path, config.time_column, (*STAMPS, *POSITIONS), "times", "--time-column")
    if len({user, item, when}) < 3:
        raise UserError(f"{path}: users, items and times need a column each, not {user}, {item} and {when}.")
    named = "position" if _plain(when) in map(_plain, POSITIONS) else "timestamp"
    rating = _matching(table, RATINGS)
    columns = [
        _identifier(table, path, user).alias("user_id"),
        _identifier(table, path, item).alias("item_id"),
    ]
    columns += [_times(table, path, when).alias(named)]
    if rating and table.schema[rating].is_numeric():
        columns += [table[rating].alias("rating")]
    return pl.DataFrame(columns)


def read_items(path: Path, config: ImportConfig) -> tuple[pl.DataFrame, list[str]]:
    """item_id (distinct strings) and the text columns, and their names.

    Raises:
        UserError: see `import_dataset`.
    """
    table = _read(path, config)
    given = (
        config.item_column if config.item_column in table.columns else None
    )  # it may name the other file's column only
    item = _find(table, path, given, (*ITEMS, "id"), "items", "--item-column, or call it item_id")
    if config.text_columns:
        chosen = list(dict.fromkeys(name.strip() for name in config.text_columns.split(",")))
        for name in chosen:
            _find(table, path, name, (), "texts", "--text-columns")
            if _inner(table.schema[name]).is_nested() or table.schema[name] == pl.List(pl.Binary):
                raise UserError(
                    f"{path}: column {name} holds {table.schema[name]} values; texts must be text, numbers or lists of these."
                )
    else:
        chosen = [
            name
            for name, kind in table.schema.items()
            if name != item and _inner(kind) in (pl.String, pl.Categorical, pl.Enum)
        ]
    ids = _identifier(table, path, item)
    repeated = ids.filter(ids.is_duplicated())
    if len(repeated):
        raise UserError(f"{path}: item id {repeated[0]!r} stands in several rows. Keep one row an item.")
    fields = {name: _stored(name, chosen) for name in chosen if name != item}
    return pl.DataFrame(
        [
            ids.alias("item_id"),
            *(_decoded(table, path, name).alias(stored) for name, stored in fields.items()),
        ]
    ), list(fields.values())


def _stored(name: str, chosen: list[str]) -> str:
    """The column of the artifact that holds a text column: its name, unless the artifact means something else by it."""
    stored = name or "unnamed"
    while stored in OWN or (stored != name and stored in chosen):
        stored += "_given"
    return stored


def _check(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file. Check --interactions and --items.")
    if _format(path) not in FORMATS:
        raise UserError(
            f"{path} is of no known format. Use {', '.join(FORMATS)}, the text ones also with .gz."
        )
    try:
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]


def _read(path: Path, config: ImportConfig) -> pl.DataFrame:
    """A file as a table; ids in CSV stay text as they are written ("007"), and so does what needs more than 64 bits."""
    kind = _format(path)
    with (
        reading(path, f"{kind} file", "Check that it is whole and its name fits its format."),
        unsaid_panics(),
    ):
        if kind == ".parquet":
            table = _parquet(path)
        elif kind in (".csv", ".tsv"):
            separator = "\t" if kind == ".tsv" else ","
            header = pl.read_csv(path, separator=separator, n_rows=0, infer_schema=False, glob=False).columns
            ids = {
                *map(_plain, (*USERS, *ITEMS, "id")),
                *map(_plain, filter(None, (config.user_column, config.item_column))),
            }
            texts = {name: pl.String for name in header if _plain(name) in ids}
            table = pl.read_csv(
                path, separator=separator, schema_overrides=texts, infer_schema_length=None, glob=False
            )
        else:
            table = pl.read_ndjson(io.BytesIO(_json_lines(path)), infer_schema_length=None)
    if table.is_empty():
        raise UserError(f"{path} holds no rows; there is nothing to import.")
    for name in table.columns:
        if "\0" in name:
            raise UserError(f"{path}: the column {name!r} has a NUL in its name. Give it another name.")
    return table.with_columns(
        pl.col(name).cast(_narrow(dtype)) for name, dtype in table.schema.items() if _narrow(dtype) != dtype
    )


def _parquet(path: Path) -> pl.DataFrame:
    """Read by Arrow, which refuses what makes polars panic, and looks whether texts are UTF-8."""
    table = pq.ParquetFile(path).read()
    for name in table.column_names:
        try:
            table[name].validate(full=True)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{path}: column {name} cannot be read ({error}). Write the file again."
            ) from None
    return pl.from_arrow(table)


def _json_lines(path: Path) -> bytes:
    """The bytes of JSON Lines, unpacked, after a look at how deep they nest.

    Raises:
        UserError: a line nests deeper than `DEEPEST`; the file begins with something else than JSON.
    """
    data = path.read_bytes()
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    for number, line in enumerate(io.BytesIO(data), start=1):
        if line.count(b"[") + line.count(b"{") > DEEPEST and _depth(line) > DEEPEST:
            raise UserError(
                f"{path}, line {number} nests more than {DEEPEST} deep. Give a file with users, items and times side by side."
            )
    if data.strip()[:1] not in (b"{", b""):
        raise UserError(
            f"{path} is not JSON Lines: it begins with {data.strip()[:20]!r}, where a line is an object {{…}}."
        )
    return data


def _depth(line: bytes) -> int:
    """How deep lists and objects lie within each other in a line of JSON."""
    depth = deepest = 0
    for mark in STRUCTURE.findall(line):
        depth = max(0, depth + (mark in b"[{") - (mark in b"]}"))
        deepest = max(deepest, depth)
    return deepest


def _narrow(kind: pl.DataType) -> pl.DataType:
    """Text in place of whole numbers of 128 bits, which Arrow does not know."""
    if isinstance(kind, pl.List):
        return pl.List(_narrow(kind.inner))
    return pl.String() if str(kind) in ("Int128", "UInt128") else kind


def _inner(kind: pl.DataType) -> pl.DataType:
    """What a list holds; any other type as it is."""
    return kind.inner if isinstance(kind, (pl.List, pl.Array)) else kind


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").split(":")[0]


def _matching(table: pl.DataFrame, names: tuple[str, ...]) -> str | None:
    known = {_plain(column): column for column in reversed(table.columns)}
    return next((known[_plain(name)] for name in names if _plain(name) in known), None)


def _find(
    table: pl.DataFrame, path: Path, given: str | None, names: tuple[str, ...], meaning: str, option: str
) -> str:
    found = given if given in table.columns else None if given else _matching(table, names)
    if found is None:
        missing = f"no column {given!r}" if given else f"no column of {meaning} that is known by its name"
        raise UserError(
            f"{path} has {missing}; it has {', '.join(table.columns)}. Name the one of {meaning} with {option}."
        )
    return found


def _identifier(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    column = _decoded(table, path, name)
    if not (
        column.dtype.is_integer() or getattr(column.dtype, "scale", None) == 0 or column.dtype in IDENTIFIERS
    ):
        raise UserError(
            f"{path}: column {name} holds {column.dtype} values; ids must be text or whole numbers."
        )
    column = column.cast(pl.String)
    column = column.set(column == "", None)
    _no_nulls(column, path, name)
    return column


def _decoded(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """A column, as text where it holds bytes: some programs write texts so."""
    column = table[name]
    if column.dtype != pl.Binary:
        return column
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        row = next(
            row
            for row, value in enumerate(column)
            if value is not None and "\ufffd" in value.decode("utf-8", "replace")
        )
        raise UserError(
            f"{path}: column {name} holds bytes that are no UTF-8, first in row {row}. Write the file again."
        ) from None


def _no_nulls(column: pl.Series, path: Path, name: str) -> None:
    if column.null_count():
        raise UserError(
            f"{path}: column {name} has no value in {column.null_count():,} rows, first in row {column.is_null().arg_true()[0]}."
        )


def _times(table: pl.DataFrame, path: Path, name: str) -> pl.Series:
    """Numbers that order time, as given; dates become seconds since 1970."""
    column = table[name]
    _no_nulls(column, path, name)
    if column.dtype == pl.String:
        readings = (
            column.cast(pl.Int64, strict=False),
            column.cast(pl.Float64, strict=False),
            _instants(column),
        )
        times = min(readings, key=pl.Series.null_count)  # the first that fits best
    else:
        times = column
    if isinstance(times.dtype, pl.Date):
        times = times.to_physical() * 86_400.0
    elif isinstance(times.dtype, pl.Datetime):  # as numbers: polars panics at instants that no calendar has
        times = times.to_physical() / UNITS[times.dtype.time_unit]
    elif not times.dtype.is_numeric():
        raise UserError(
            f"{path}: column {name} holds {column.dtype} values, which are no times. Name another with --time-column."
        )
    wrong = (~times.cast(pl.Float64).is_finite().fill_null(False)).arg_true()
    if len(wrong):
        raise UserError(
            f"{path}: column {name} holds {column[wrong[0]]!r} in row {wrong[0]}, which is no time like the others. "
            "Use numbers or ISO dates, or another --time-column."
        )
    return times


def _instants(column: pl.Series) -> pl.Series:
    """ISO dates, with or without time of day and offset, as instants (UTC where no offset stands); null where one does not parse."""
    day, clock, seconds, offset = column.str.extract_groups(ISO).struct.unnest().get_columns()
    whole = (
        day
        + " "
        + clock.fill_null("00:00")
        + ":"
        + seconds.fill_null("00")
        + offset.str.replace("Z", "+00:00").fill_null("+00:00")
    )
    return whole.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%d %H:%M:%S%.f%#z", strict=False)
