"""Reader of texts without a header that hold users and items only: sequences, and pairs in order."""

from __future__ import annotations

import polars as pl

from pipelines.readers.content import Content
from pipelines.readers.layout import SEPARATORS, is_value
from pipelines.readers.names import USERS, plain
from pipelines.readers.rows import Reading, Rows

SHORTEST = 5  # fields a line from which lines of equal length may be sequences
OTHERS = [separator for separator in SEPARATORS if separator != "\t"]


def is_sequences(content: Content) -> bool:
    """Return True for lines of a user and any number of items between blanks."""
    lengths = _lengths(content)
    return bool(lengths) and max(lengths) > 2 and (len(set(lengths)) > 1 or lengths[0] >= SHORTEST)


def is_pairs(content: Content) -> bool:
    """Return True for lines of a user and an item, without a header."""
    if set(_lengths(content)) != {2}:
        return False
    first = content.sample[0].split()
    repeated = {line.split()[0] for line in content.sample[1:]}
    return first[0] in repeated or any(map(is_value, first))


def read_sequences(content: Content, how: Reading) -> Rows:
    """Read lines of a user and the user's items in order.

    Returns:
        user_id and item_id, one row an item.
    """
    numbered = [(number, line) for number, line in content.lines()]
    if plain(numbered[0][1].split()[0]) in map(plain, USERS):
        numbered = numbered[1:]
    lines = pl.DataFrame(numbered, schema={"line": pl.Int64, "text": pl.String}, orient="row")
    fields = pl.col("text").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    table = lines.select(
        "line", fields.list.first().alias("user_id"), fields.list.slice(1).alias("item_id")
    ).filter(pl.col("item_id").list.len() > 0)
    table = table.explode("item_id")
    line = table["line"]
    return Rows(
        table.drop("line"),
        ("a user and the user's items a line",),
        ordered=True,
        place=lambda row: f"line {line[row]}",
    )


def read_pairs(content: Content, how: Reading) -> Rows:
    """Read lines of a user and an item.

    Returns:
        user_id and item_id.
    """
    lines = pl.Series([line for _, line in content.lines()], dtype=pl.String)
    fields = lines.str.strip_chars().str.replace_all(r"\s+", " ").str.splitn(" ", 2).struct.unnest()
    return Rows(
        pl.DataFrame([fields.to_series(i).alias(name) for i, name in enumerate(("user_id", "item_id"))]),
        ("a user and an item a line, no header",),
        ordered=True,
        place=lambda row: f"line {content.line_of(row)}",
    )


def _lengths(content: Content) -> list[int]:
    """Return the number of fields between blanks of the first lines; empty if these are no identifiers."""
    lines = content.sample
    if content.start in ("{", "[", "") or any(
        separator in line for line in lines for separator in (*OTHERS, '"')
    ):
        return []
    return [len(line.split()) for line in lines]
