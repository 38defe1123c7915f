"""The table of readers: formats, how each is told from the content of a file, and what reads it.

A format is added by one entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.errors import UserError
from pipelines.options import quoted
from pipelines.readers import json_text, parquet, separated, sequences
from pipelines.readers.content import Content
from pipelines.readers.rows import Reading, Rows


@dataclass(frozen=True)
class Reader:
    """A format.

    Attributes:
        name: name of the format.
        suffixes: usual ends of the names of such files. They decide between readers that fit equally.
        fits: function that returns True if the content has the format.
        read: function that reads the content.
        read_pieces: function that does so in pieces, or returns None if this content cannot be read so; None
            if no such content can.
    """

    name: str
    suffixes: tuple[str, ...]
    fits: Callable[[Content], bool]
    read: Callable[[Content, Reading], Rows]
    read_pieces: Callable[[Content, Reading], Rows | None] | None = None


TEXTS = (".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".data")
READERS = (  # those that fit only a special content first
    Reader(
        "Parquet",
        (".parquet", ".parq", ".pq"),
        parquet.is_parquet,
        parquet.read_parquet,
        parquet.read_parquet_pieces,
    ),
    Reader("RecBole", (".inter", ".item", ".user"), separated.is_typed, separated.read_typed),
    Reader("dictionary in JSON", (".json",), json_text.is_dictionary, json_text.read_dictionary),
    Reader("JSON", (".json",), json_text.is_list, json_text.read_list),
    Reader("lines of Python literals", (), json_text.is_literals, json_text.read_literals),
    Reader("JSON Lines", (".jsonl", ".ndjson", ".json"), json_text.is_lines, json_text.read_lines),
    Reader("pairs in order", (".txt",), sequences.is_pairs, sequences.read_pairs),
    Reader("sequences", (".txt", ".seq"), sequences.is_sequences, sequences.read_sequences),
    Reader("CSV", TEXTS, separated.is_separated, separated.read_separated, separated.read_separated_pieces),
)


def reader_of(content: Content, how: Reading) -> Reader:
    """Return the reader of a file.

    Raises:
        UserError: the content has no known format.
    """
    fitting = [reader for reader in READERS if reader.fits(content)]
    if how.columns:  # which only separated values have
        fitting = [reader for reader in fitting if reader.read is separated.read_separated] or fitting
    if not fitting:
        start = content.data[:20].decode("utf-8", "replace")
        raise UserError(
            f"{content.path} is of no known format: it begins with {quoted(start)}. "
            f"Known are {', '.join(reader.name for reader in READERS)}."
        )
    return next((reader for reader in fitting if content.suffix in reader.suffixes), fitting[0])


def remark(content: Content, reader: Reader) -> str:
    """Return what is odd about the suffix of a file, a clause; "" if nothing is."""
    others = [other.name for other in READERS if content.suffix in other.suffixes]
    if not others or reader.name in others or reader.read in (separated.read_typed, json_text.read_literals):
        return ""
    return f"its name ends with {content.suffix}, but its content is {reader.name}"
