"""Amazon reviews of 2014: gzipped lines, each a JSON object or a Python literal."""

from __future__ import annotations

import ast
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.errors import UserError

TEXT = ["title", "categories", "description", "price"]  # paper, section 4.1
ASIN = re.compile(rb"""["']asin["']:\s*["']([^"']+)["']""")


def read(files: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Interactions, items and the columns of the text, from the reviews and the metadata of a category.

    Raises:
        UserError: a file that breaks off, a line that is neither form, a review without user, item or time.
    """
    reviews, metadata = files
    rows = []
    for number, line in enumerate(_lines(reviews), 1):
        review = parse(line, reviews, number)
        try:
            rows.append((review["reviewerID"], review["asin"], int(review["unixReviewTime"]), float(review.get("overall") or 0)))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{reviews}, line {number}: no usable {error} in the review. The file is not a review file of 2014.") from None
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "rating": pl.Float64}
    if not rows:
        raise UserError(f"{reviews} holds no reviews. Remove it and download it again.")
    interactions = pl.DataFrame(rows, schema=schema, orient="row")
    return interactions, _products(metadata, set(interactions["item_id"])), TEXT


def parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """One line as a dictionary; nothing in it is ever evaluated.

    Raises:
        UserError: it is neither a JSON object nor a Python literal of one.
    """
    try:
        found = json.loads(line)
    except ValueError:
        try:
            found = ast.literal_eval(line.decode("utf-8"))
        except (ValueError, SyntaxError, UnicodeDecodeError, MemoryError, RecursionError):
            found = None
    if not isinstance(found, dict):
        raise UserError(
            f"{path}, line {number} is neither a JSON object nor a Python literal: {line[:60]!r}. Remove the file and fetch it again."
        )
    return found


def _products(path: Path, wanted: set[str]) -> pl.DataFrame:
    rows = {}
    for number, line in enumerate(_lines(path), 1):
        asin = ASIN.search(line)
        if asin and asin[1].decode() not in wanted:
            continue  # most products have no five reviews: their lines are not worth parsing
        product = parse(line, path, number)
        if product.get("asin") in wanted:
            paths = product.get("categories") or []
            categories = list(dict.fromkeys(name for names in paths for name in names))
            price = product.get("price")
            rows[product["asin"]] = (product.get("title"), categories, product.get("description"), None if price is None else f"${price}")
    schema = {"item_id": pl.String, "title": pl.String, "categories": pl.List(pl.String), "description": pl.String, "price": pl.String}
    return pl.DataFrame([(asin, *fields) for asin, fields in rows.items()], schema=schema, orient="row")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            yield from (line for line in file if line.strip())
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        raise UserError(f"{path} is not a whole gzip file ({error}). Remove it and download it again.") from None
