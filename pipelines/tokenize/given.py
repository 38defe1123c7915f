"""Semantic IDs that another program made, matched with the items by id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.errors import UserError
from pipelines.keyed import numbers_of, read_keyed
from pipelines.options import quoted
from pipelines.progress import Progress
from pipelines.tokenize.config import CODES, DIGITS

if TYPE_CHECKING:
    import polars as pl

NAMES = ("sid", "semantic_id", "codes", "tokens", "semantic_ids")  # of a column of codes, best first
TOKENS = r"^\s*(?:<[A-Za-z]+_\d{1,9}>[\s,]*)+$"  # <a_12><b_3><c_7>
NUMBERS = r"^[\s\[(]*\d{1,9}(?:[\s,]+\d{1,9})*[\s\])]*$"  # 12 3 7 or [12, 3, 7]


def read_codes(path: Path, items: pa.Table, progress: Progress) -> np.ndarray:
    """Read the codes of all items, int64 [N, m].

    Args:
        path: table with a column of ids and one of codes (lists of numbers or of tokens such as <a_12>, or
            text of them) or a column of numbers per digit; or a JSON dictionary from ids to lists.
        items: artifact of kind "items".

    Raises:
        UserError: the file cannot be used, an item has no codes, or codes are out of range or of several
            lengths.
    """
    if not path.is_file():
        raise UserError(f"--from {path} does not exist or is not a file.")
    table, ids = read_keyed(path)
    codes = _matrix(path, _as_text(path, table), ids)  # [rows, m]
    rows = numbers_of(path, ids, items)  # [rows]
    if strange := int((rows < 0).sum()):
        example = ids[int(np.argmin(rows))]
        progress.say(f"{strange:,} of {len(ids):,} ids of {path} are no items, e.g. {example}: left out.")
    missing = np.setdiff1d(np.arange(len(items)), rows)
    if len(missing):
        raise UserError(
            f"{path} has no codes of {len(missing):,} of the {len(items):,} items, e.g. "
            f"{items['item_id'][int(missing[0])]}. Give a file with all items."
        )
    result = np.zeros((len(items), codes.shape[1]), np.int64)
    result[rows[rows >= 0]] = codes[rows >= 0]
    return result


def _as_text(path: Path, table: pl.DataFrame) -> pl.Series:
    """Return the codes of each row as one text."""
    import polars as pl

    def holds_codes(kind: pl.DataType) -> bool:
        inner = kind.inner if isinstance(kind, pl.List) else kind
        return inner == pl.String or bool(isinstance(kind, pl.List) and inner.is_integer())

    candidates = [name for name, kind in table.schema.items() if holds_codes(kind)]
    named = [name for name in NAMES if name in candidates] or candidates
    if candidates and (len(candidates) == 1 or named != candidates):
        column = table[named[0]]
        is_list = isinstance(column.dtype, pl.List)
        return column.cast(pl.List(pl.String)).list.join(" ") if is_list else column.cast(pl.String)
    digits = [name for name, kind in table.schema.items() if kind.is_integer()]
    if candidates or not digits:
        raise UserError(
            f"{path} needs one column of codes, called {NAMES[0]} if there are several of text, or a column "
            f"of whole numbers for each digit; besides the ids it has {', '.join(table.columns) or 'none'}."
        )
    return table.select(pl.concat_str([pl.col(name) for name in digits], separator=" ").alias("sid"))["sid"]


def _matrix(path: Path, texts: pl.Series, ids: list[str]) -> np.ndarray:
    """Return the codes that texts spell, int64 [rows, m].

    Raises:
        UserError: a text is something else, has another number of codes or other letters than the first, or a
            code is out of range.
    """
    import polars as pl

    letters = texts.str.extract_all(r"[A-Za-z]+").list.join(" ")
    numbers = texts.str.extract_all(r"\d+")
    count = len(numbers[0]) if numbers[0] is not None else 0
    valid = (
        (texts.str.contains(TOKENS) | texts.str.contains(NUMBERS))
        & (numbers.list.len() == count)
        & (letters == letters[0])
    ).fill_null(False)
    if not valid.all():
        row = int(valid.arg_min() or 0)
        raise UserError(
            f"{path}: the codes of item {ids[row]} are {quoted(texts[row])}; expected {max(count, 1)} whole "
            "numbers or tokens such as <a_12>, with the same letters for every item."
        )
    if not DIGITS[0] <= count <= DIGITS[1]:
        raise UserError(f"{path} has {count} digits per item; a semantic ID has {DIGITS[0]} to {DIGITS[1]}.")
    codes = numbers.explode().cast(pl.Int64).to_numpy().reshape(len(ids), count)  # [rows, m]
    if codes.max() >= CODES[1]:
        row = int(codes.max(axis=1).argmax())
        raise UserError(
            f"{path}: item {ids[row]} has the code {codes[row].max()}; codes go from 0 to {CODES[1] - 1:,}."
        )
    return codes
