"""Formats of an export. Each writer writes the files of one format into a folder.

All formats keep identifiers as they are. Importing the files and exporting again gives the same bytes.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from pipelines.errors import UserError
from pipelines.export.content import Content
from pipelines.options import quoted
from pipelines.readers import names
from pipelines.readers.read import read_source
from pipelines.readers.rows import Reading
from pipelines.readers.separated import TITLES

BLANK = r"[\s\x1c-\x1f]"  # a character that separates words
SEPARATORS = r"[\s\x1c-\x1f,]"  # a character that separates the entries of lists
EXACT = 2**53  # bound of the whole numbers that float64 represents exactly
LETTERS = string.ascii_lowercase  # letter of each digit of a semantic ID


def write_csv(content: Content, folder: Path) -> None:
    """Write interactions.csv and items.csv. Lists are JSON."""
    for part, rows in _parts(content, "validation"):
        rows.write_csv(folder / f"interactions{part}.csv")
    _write_items(content, folder)


def write_recbole(content: Content, folder: Path) -> None:
    """Write NAME.inter and NAME.item, the atomic files of RecBole: tabs between fields, types in the header.

    Identifiers are of type token, numbers of type float, and texts and lists of texts of type token_seq, with
    a blank between words. Only titles and the like keep their commas, which separate words as well.
    """
    for part, rows in _parts(content, "valid"):
        _write_atomic(rows, folder / f"{content.name}{part}.inter")
    _write_atomic(content.items, folder / f"{content.name}.item")


def write_sequences(content: Content, folder: Path) -> None:
    """Write sequences.txt, a line for each user with the user and the items in order, and items.csv.

    Raises:
        UserError: an identifier has a blank, or `maskgr import` would read other identifiers.
    """
    for name in ("user_id", "item_id"):
        split = content.interactions[name].filter(content.interactions[name].str.contains(BLANK))
        if len(split):
            raise UserError(
                f"{name} {split[0]!r} of {content.name} has a blank, which separates identifiers in "
                "--format sequences. Use --format csv, recbole or dictionary."
            )
    lines = _lists(content).select(pl.concat_str("user_id", pl.col("item_id").list.join(" "), separator=" "))
    path = folder / "sequences.txt"
    _write_text(path, lines.to_series().str.join("\n").item() + "\n")
    if not _is_read_back(path, content.interactions.select("user_id", "item_id")):
        raise UserError(
            f"Identifiers of {content.name} would not be read back from --format sequences, which has no "
            f"header and no quotes; its first line is {quoted(lines.item(0, 0))}. Use --format csv, recbole "
            "or dictionary."
        )
    _write_items(content, folder)


def _is_read_back(path: Path, pairs: pl.DataFrame) -> bool:
    """Return True if a file of sequences is told as such, and read as these users and items."""
    try:
        source = read_source(path, Reading())
    except UserError:
        return False
    table = source.rows.table
    return table.columns == pairs.columns and table.cast(pl.String).equals(pairs)


def write_dictionary(content: Content, folder: Path) -> None:
    """Write NAME.inter.json, the items of each user in order; NAME.item.json, the fields of each item; and
    with semantic IDs NAME.index.json, the tokens of each item.
    """
    _write_object(folder / f"{content.name}.inter.json", _lists(content), "user_id", _json("item_id"))
    items, fields = content.items, content.items.columns[1:]
    texts = items.with_columns(pl.col(pl.String).fill_null(""), pl.col(pl.Float32, pl.Float64).fill_nan(None))
    encoded = pl.struct(fields).struct.json_encode() if fields else pl.lit("{}")
    _write_object(folder / f"{content.name}.item.json", texts, "item_id", encoded)
    if content.sids is not None:
        digits = zip(LETTERS, content.sids.columns, strict=False)
        tokens = content.sids.select(pl.concat_list(pl.format(f"<{a}_{{}}>", digit) for a, digit in digits))
        table = items.select("item_id", tokens=tokens.to_series())
        _write_object(folder / f"{content.name}.index.json", table, "item_id", _json("tokens"))


# Name of a format → its writer.
WRITERS: dict[str, Callable[[Content, Path], None]] = {
    "csv": write_csv,
    "recbole": write_recbole,
    "sequences": write_sequences,
    "dictionary": write_dictionary,
}


def _parts(content: Content, validation: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the end of a file's name and its interactions: all of them, or those of each part.

    Args:
        validation: name of the validation in file names.
    """
    rows = content.interactions
    if not content.split:
        yield "", rows
        return
    for part, ending in (("train", "train"), ("validation", validation), ("test", "test")):
        yield f".{ending}", rows.filter(pl.col("part") == part).drop("part")


def _lists(content: Content) -> pl.DataFrame:
    """Return user_id and item_id, the list of the user's items in order; one row per user."""
    return content.interactions.group_by("user_id", maintain_order=True).agg("item_id")


def _write_items(content: Content, folder: Path) -> None:
    nested = [name for name, kind in content.items.schema.items() if kind.is_nested()]
    encoded = (pl.when(pl.col(name).is_not_null()).then(_json(name)).alias(name) for name in nested)
    items = content.items.with_columns(pl.col(pl.String).replace("", None), *encoded)
    items.write_csv(folder / "items.csv")


def _write_atomic(table: pl.DataFrame, path: Path) -> None:
    fields = [_field(name, kind) for name, kind in table.schema.items()]
    table.select(fields).write_csv(path, separator="\t")


def _field(name: str, kind: pl.DataType) -> pl.Expr:
    """Return a column as a field of an atomic file, named NAME:TYPE."""
    column, plain = pl.col(name), name.replace(":", "_")
    if name in ("user_id", "item_id"):
        return column.alias(f"{name}:token")
    if kind.is_numeric() or kind == pl.Boolean:
        return _number(column).alias(f"{plain}:float")
    if isinstance(kind, pl.List) and kind.inner.is_numeric():
        return column.list.eval(_number(pl.element())).list.join(" ").alias(f"{plain}:float_seq")
    if isinstance(kind, pl.List) and not kind.inner.is_nested():
        column = column.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
    elif kind.is_nested():
        column = _json(name)
    separators = BLANK if names.plain(name) in TITLES else SEPARATORS
    words = column.cast(pl.String).str.replace_all(f"{separators}+", " ").str.strip_chars(" ")
    return words.replace("", None).alias(f"{plain}:token_seq")


def _number(column: pl.Expr) -> pl.Expr:
    """Return numbers as text, whole ones without a decimal point."""
    number = column.cast(pl.Float64).fill_nan(None)
    is_whole = (number == number.round()) & (number.abs() < EXACT)
    whole = pl.when(is_whole).then(number).cast(pl.Int64, strict=False).cast(pl.String)
    return whole.fill_null(number.cast(pl.String))


def _json(name: str) -> pl.Expr:
    """Return a column as JSON."""
    encoded = pl.struct(pl.col(name).alias("_")).struct.json_encode()
    return encoded.str.strip_prefix('{"_":').str.strip_suffix("}").alias(name)


def _write_object(path: Path, table: pl.DataFrame, key: str, value: pl.Expr) -> None:
    """Write a JSON object with a line for each row.

    Args:
        key: column of the keys.
        value: the values, as JSON.
    """
    lines = table.select(pl.concat_str(_json(key), value, separator=": ")).to_series()
    _write_text(path, "{\n" + lines.str.join(",\n").item() + "\n}\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
