"""Amazon reviews of 2014: gzipped lines, each a JSON object or a Python literal."""

from __future__ import annotations

import ast
import contextlib
import gzip
import html
import json
import re
import reprlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.errors import UserError, reading

TEXT = ["title", "categories", "description", "price"]  # paper, section 4.1
ASIN = re.compile(rb"""["']asin["']:\s*["']([^"']+)["']""")
ENTITY = re.compile(r"&#?\w{1,32};?")  # no longer ones: html.unescape counts their digits
AGAIN = "Remove the file and load it again."
LONGEST = 1 << 24  # bytes of a line


def read(files: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Interactions, items and the columns of the text, from the reviews and the metadata of a category.

    Raises:
        UserError: a file that breaks off or is empty, a line that is neither form, a review without user, item or time, a product
            without item.
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
        raise UserError(
            f"{path}, line {number} is neither a JSON object nor a Python literal: {line[:60]!r}. {AGAIN}"
        )
    return found


def _review(review: dict[str, Any], path: Path, number: int) -> tuple[str, str, int, float | None]:
    """User, item, seconds since 1970 and stars of a review."""
    fits = {"reviewerID": _is_text, "asin": _is_text, "unixReviewTime": _is_number}
    for name, check in fits.items():
        if not check(review.get(name)):
            raise _wrong(review, name, f"a review needs {', '.join(fits)}", path, number)
    stars = review.get("overall")
    return (
        review["reviewerID"],
        review["asin"],
        int(review["unixReviewTime"]),
        float(stars) if _is_number(stars) else None,
    )


def _wrong(line: dict[str, Any], name: str, needs: str, path: Path, number: int) -> UserError:
    state = f"holds {reprlib.repr(line[name])} as" if name in line else "has no"
    return UserError(f"{path}, line {number} {state} {name}; {needs}. {AGAIN}")


def _is_text(value: object) -> bool:
    """Whether it is text that can be stored: half a surrogate pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_number(value: object) -> bool:
    """Whether it is a finite number that 64 bits hold."""
    return type(value) in (int, float) and -(2**63) <= value < 2**63


def _products(path: Path, wanted: set[str]) -> pl.DataFrame:
    """item_id and the fields of the text, of the wanted items; most lines describe others and are not parsed."""
    rows = {}
    for number, line in _lines(path):
        asin = ASIN.search(line)
        if asin and asin[1].decode(errors="replace") not in wanted:
            continue
        product = parse(line, path, number)
        if not _is_text(product.get("asin")):
            raise _wrong(product, "asin", "a product needs one", path, number)
        if product["asin"] in wanted:
            price = product.get("price")
            rows[product["asin"]] = (
                _text(product.get("title")),
                list(dict.fromkeys(_names(product.get("categories")))),
                _text(product.get("description")),
                f"${price}" if _is_number(price) or _is_text(price) else None,
            )
    schema = {
        "item_id": pl.String,
        "title": pl.String,
        "categories": pl.List(pl.String),
        "description": pl.String,
        "price": pl.String,
    }
    return pl.DataFrame([(asin, *fields) for asin, fields in rows.items()], schema=schema, orient="row")


def _text(value: object) -> str | None:
    """A field as plain text: no HTML entities, single blanks, no half of a surrogate pair."""
    if not isinstance(value, str):
        return None
    whole = (
        ENTITY.sub(lambda found: html.unescape(found[0]), value)
        .encode("utf-16", "surrogatepass")
        .decode("utf-16", "replace")
    )
    return " ".join(whole.split())


def _names(value: object) -> list[str]:
    """The names in lists of lists, in order."""
    found, left = [], [value]
    while left:
        first = left.pop()
        if isinstance(first, list):
            left += reversed(first)
        elif text := _text(first):
            found.append(text)
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a gzip file that are not blank, with their numbers from 1.

    Raises:
        UserError: it is not a whole gzip file, holds no line, or one that does not end.
    """
    number = 0
    with contextlib.ExitStack() as opened:
        with reading(path, "gzip file", AGAIN):
            file = opened.enter_context(gzip.open(path))
        while True:
            with reading(path, "gzip file", AGAIN):
                line = file.readline(LONGEST)
            if not line:
                break
            number += 1
            if len(line) == LONGEST:
                raise UserError(f"{path}, line {number} is longer than {LONGEST:,} bytes. {AGAIN}")
            if line.strip():
                yield number, line
    if not number:
        raise UserError(f"{path} is empty. {AGAIN}")
