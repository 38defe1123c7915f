"""JSON held against a shape: what fits passes, what does not is named with its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from pipelines import shapes


@dataclass(frozen=True)
class Sizes:
    width: int
    rate: float = 0.5
    names: list[str] = field(default_factory=list)


class Entry(TypedDict):
    sha256: str


class File(TypedDict, total=False):
    best: Entry | None
    sizes: Sizes
    pairs: dict[str, tuple[int, bool]]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"best": null, "sizes": {"width": 3, "rate": 1}, "pairs": {"a": [1, true]}, "more": [1]}', File),
        ('{"best": {"sha256": "x"}}', File),
        ("{}", File),
        ("[1, 2]", list[int]),
        ("[]", tuple[str, ...]),
        ("null", int | None),
        ('{"a": 1.5}', dict[str, float]),
        ('"\U0001f600"', str),
    ],
)
def test_what_fits(text: str, hint: Any) -> None:
    shapes.parse(text.encode(), hint)


@pytest.mark.parametrize(
    ("text", "hint", "message"),
    [
        ("1", File, "it is 1, expected an object"),
        ('{"best": 3}', File, "best is 3, expected an object"),
        ('{"best": {}}', File, r"best\.sha256 is missing"),
        ('{"best": {"sha256": []}}', File, r"best\.sha256 is \[\], expected text"),
        ('{"sizes": {}}', File, r"sizes\.width is missing"),
        ('{"sizes": {"width": 3.5}}', File, r"sizes\.width is 3\.5, expected a whole number"),
        ('{"sizes": {"width": true}}', File, r"sizes\.width is True, expected a whole number"),
        ('{"sizes": {"width": 1, "height": 2}}', File, r"sizes\.height is unknown"),
        ('{"sizes": {"width": 1, "names": ["a", null]}}', File, r"sizes\.names\[1\] is None, expected text"),
        ('{"pairs": {"a": [1]}}', File, r"pairs\.a has 1 entries, expected 2"),
        ('{"a": 1, "a": 2}', Any, "'a' stands twice"),
        ("[NaN]", Any, r"\[0\] is nan, which is no finite number"),
        ("1e999", Any, "it is inf, which is no finite number"),
        ("18446744073709551616", Any, "no finite number of 64 bits"),
        (r'{"a": "\ud800"}', Any, "a holds .*, which is not Unicode text"),
        (r'{"\u0000": 1}', Any, "which is not Unicode text"),
    ],
)
def test_what_does_not_fit_is_named(text: str, hint: Any, message: str) -> None:
    with pytest.raises(shapes.Misfit, match=message):
        shapes.parse(text, hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 40 + b"]" * 40, "nests more than 32 deep"),
        (b"[" * 100_000, "nests too deep"),
        (b'{"a": ', "Expecting value"),
        (b"\xff\xfe", "utf-8"),
        (b"9" * 5000, "digits"),
    ],
)
def test_what_is_no_json(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shapes.parse(text)
