"""Amazon reviews of 2014: gzipped lines, each a JSON object or a Python literal."""

from __future__ import annotations

import ast
import gzip
import html
import json
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.errors import UserError

TEXT = ["title", "categories", "description", "price"]  # paper, section 4.1
ASIN = re.compile(rb"""["']asin["']:\s*["']([^"']+)["']""")
AGAIN = "Remove the file and load it again."


def read(files: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Interactions, items and the columns of the text, from the reviews and the metadata of a category.

    Raises:
        UserError: a file that breaks off or is empty, a line that is neither form, a review without user, item or time.
    """
    reviews, metadata = files
    rows = [_review(parse(line, reviews, number), reviews, number) for number, line in _lines(reviews)]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "rating": pl.Float64}
    interactions = pl.DataFrame(rows, schema=schema, orient="row")
    return interactions, _products(metadata, set(interactions["item_id"])), TEXT


def parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """One line as a dictionary; nothing in it is ever evaluated.

    Raises:
        UserError: it is neither a JSON object nor a Python literal of one.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about backslashes in descriptions
                found = ast.literal_eval(line.decode("utf-8").strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}, line {number} is neither a JSON object nor a Python literal: {line[:60]!r}. {AGAIN}")
    return found


def _review(review: dict[str, Any], path: Path, number: int) -> tuple[str, str, int, float | None]:
    """User, item, seconds since 1970 and stars of a review."""
    kinds = {"reviewerID": str, "asin": str, "unixReviewTime": (int, float)}
    for name, kind in kinds.items():
        if not isinstance(review.get(name), kind):
            state = f"holds {review[name]!r} as" if name in review else "has no"
            raise UserError(f"{path}, line {number} {state} {name}; a review needs {', '.join(kinds)}. {AGAIN}")
    stars = review.get("overall")
    return review["reviewerID"], review["asin"], int(review["unixReviewTime"]), float(stars) if isinstance(stars, (int, float)) else None


def _products(path: Path, wanted: set[str]) -> pl.DataFrame:
    """item_id and the fields of the text, of the wanted items; most lines describe others and are not parsed."""
    rows = {}
    for number, line in _lines(path):
        asin = ASIN.search(line)
        if asin and asin[1].decode(errors="replace") not in wanted:
            continue
        product = parse(line, path, number)
        if product.get("asin") in wanted:
            price = product.get("price")
            rows[product["asin"]] = (
                _text(product.get("title")),
                list(dict.fromkeys(_names(product.get("categories")))),
                _text(product.get("description")),
                None if price is None else f"${price}",
            )
    schema = {"item_id": pl.String, "title": pl.String, "categories": pl.List(pl.String), "description": pl.String, "price": pl.String}
    return pl.DataFrame([(asin, *fields) for asin, fields in rows.items()], schema=schema, orient="row")


def _text(value: object) -> str | None:
    """A field as plain text: no HTML entities, single blanks."""
    return " ".join(html.unescape(value).split()) if isinstance(value, str) else None


def _names(value: object) -> Iterator[str]:
    """The names in lists of lists."""
    if isinstance(value, list):
        for inner in value:
            yield from _names(inner)
    elif text := _text(value):
        yield text


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a gzip file that are not blank, with their numbers from 1.

    Raises:
        UserError: it is not a whole gzip file, or holds no line.
    """
    number = 0
    try:
        with gzip.open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} is not a whole gzip file ({error}). {AGAIN}") from None
    if not number:
        raise UserError(f"{path} is empty. {AGAIN}")
