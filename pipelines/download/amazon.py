"""Reader of the Amazon reviews of 2014: gzip files whose lines are JSON objects or Python literals."""

from __future__ import annotations

import ast
import contextlib
import gzip
import html
import json
import re
import reprlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import polars as pl

from pipelines.errors import UserError, reading
from pipelines.prepare.tables import Tables

TEXT = ["title", "categories", "description", "price"]  # paper, section 4.1
ASIN = re.compile(rb"""["']asin["']:\s*["']([^"']+)["']""")
ENTITY = re.compile(
    r"&#?\w{1,32};?"
)  # bounded, because html.unescape converts the digits of an entity of any length
AGAIN = "Remove the file and load it again."
LONGEST = 1 << 24  # bytes of a line
REVIEW_SCHEMA = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "timestamp": pl.Int64(),
    "rating": pl.Float64(),
}
PRODUCT_SCHEMA = {
    "item_id": pl.String(),
    "title": pl.String(),
    "categories": pl.List(pl.String()),
    "description": pl.String(),
    "price": pl.String(),
}


def read(files: list[Path]) -> Tables:
    """Read a category.

    Args:
        files: path of the reviews, path of the metadata.

    Raises:
        UserError: a file is truncated or empty, a line is neither a JSON object nor a Python literal of one,
            a review has no user, item or time, or a product has no item.
    """
    reviews, metadata = files
    rows = [_review(parse(line, reviews, number), reviews, number) for number, line in _lines(reviews)]
    interactions = pl.DataFrame(rows, schema=REVIEW_SCHEMA, orient="row")
    return Tables(interactions, _products(metadata, set(interactions["item_id"])), TEXT)


def parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Parse one line into a dictionary. Nothing in the line is evaluated.

    Args:
        path: path of the file, for messages.
        number: number of the line, for messages.

    Raises:
        UserError: the line is neither a JSON object nor a Python literal of a dictionary.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of backslashes in descriptions
                value = ast.literal_eval(line.decode("utf-8").strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise UserError(
            f"{path}, line {number} is neither a JSON object nor a Python literal: {line[:60]!r}. {AGAIN}"
        )
    return value


def _review(review: dict[str, Any], path: Path, number: int) -> tuple[str, str, int, float | None]:
    """Return user, item, time in seconds since 1970, and rating of a review."""
    checks: dict[str, Callable[[object], bool]] = {
        "reviewerID": _is_text,
        "asin": _is_text,
        "unixReviewTime": _is_number,
    }
    for name, check in checks.items():
        if not check(review.get(name)):
            raise _wrong(review, name, f"a review needs {', '.join(checks)}", path, number)
    rating = review.get("overall")
    return (
        review["reviewerID"],
        review["asin"],
        int(review["unixReviewTime"]),
        float(rating) if _is_number(rating) else None,
    )


def _wrong(line: dict[str, Any], name: str, requirement: str, path: Path, number: int) -> UserError:
    state = f"holds {reprlib.repr(line[name])} as" if name in line else "has no"
    return UserError(f"{path}, line {number} {state} {name}; {requirement}. {AGAIN}")


def _is_text(value: object) -> TypeGuard[str]:
    """Return True for text that can be stored, which excludes unpaired surrogates."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_number(value: object) -> TypeGuard[float]:
    """Return True for a finite number in the range of int64."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _products(path: Path, items: set[str]) -> pl.DataFrame:
    """Read item_id and text columns of the given items. Most lines about other items are not parsed."""
    rows = {}
    for number, line in _lines(path):
        asin = ASIN.search(line)
        if asin and asin[1].decode(errors="replace") not in items:
            continue
        product = parse(line, path, number)
        if not _is_text(product.get("asin")):
            raise _wrong(product, "asin", "a product needs one", path, number)
        if product["asin"] in items:
            price = product.get("price")
            rows[product["asin"]] = (
                _text(product.get("title")),
                list(dict.fromkeys(_names(product.get("categories")))),
                _text(product.get("description")),
                f"${price}" if _is_number(price) or _is_text(price) else None,
            )
    return pl.DataFrame(
        [(asin, *fields) for asin, fields in rows.items()], schema=PRODUCT_SCHEMA, orient="row"
    )


def _text(value: object) -> str | None:
    """Return a field as plain text without HTML entities, repeated blanks and unpaired surrogates."""
    if not isinstance(value, str):
        return None
    text = ENTITY.sub(lambda match: html.unescape(match[0]), value)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(text.split())


def _names(value: object) -> list[str]:
    """Return the texts in nested lists, in order."""
    names, stack = [], [value]
    while stack:
        entry = stack.pop()
        if isinstance(entry, list):
            stack += reversed(entry)
        elif text := _text(entry):
            names.append(text)
    return names


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number, counted from 1, and content of each line of a gzip file that is not blank.

    Raises:
        UserError: the file is not a complete gzip file, has no line, or has a line of `LONGEST` bytes or
            more.
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
