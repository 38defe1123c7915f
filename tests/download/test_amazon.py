"""Lines of the 2014 reviews and metadata: what is read, what is skipped, what is refused and where."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pipelines.download import described, streams
from pipelines.download.lines import parse
from pipelines.download.sources import DATASETS
from pipelines.errors import UserError
from pipelines.prepare.tables import Tables
from pipelines.progress import Silent

REVIEW = {"reviewerID": "U1", "asin": "B1", "overall": 4.0, "unixReviewTime": 1000}


def read(files: list[Path]) -> Tables:
    return described.read(DATASETS["beauty"].editions[0], files, Silent())


def files(folder: Path, reviews: list[str], metadata: list[str]) -> list[Path]:
    paths = [folder / "reviews.json.gz", folder / "meta.json.gz"]
    for path, lines in zip(paths, (reviews, metadata), strict=True):
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return paths


def test_fields_become_plain_text(tmp_path: Path) -> None:
    product = {
        "asin": "B1",
        "title": "Soap &amp;\n Water",
        "categories": [["Beauty", "Bath"], ["Beauty", "Skin"]],
        "price": 2.5,
    }
    interactions, items, text = read(files(tmp_path, [json.dumps(REVIEW)], [repr(product)]))
    assert interactions.rows() == [("U1", "B1", 1000, 4.0)]
    assert items.select("item_id", *text).rows() == [
        ("B1", "Soap & Water", ["Beauty", "Bath", "Skin"], None, "$2.5")
    ]


def test_numbers_are_text_and_lists_are_not(tmp_path: Path) -> None:
    product = {"asin": "B1", "title": 7, "description": ["a"], "categories": "Beauty"}
    _, items, _ = read(files(tmp_path, [json.dumps(REVIEW)], [json.dumps(product)]))
    assert items.rows() == [("B1", "7", ["Beauty"], None, None, None)]


def test_only_products_with_reviews_are_parsed(tmp_path: Path) -> None:
    metadata = ["{'asin': 'B9', broken", "{'asin': 'B1', 'title': 'first'}"]
    _, items, _ = read(files(tmp_path, [json.dumps(REVIEW)], metadata))
    assert items["title"].to_list() == ["first"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unixReviewTime": None}, "has no unixReviewTime"),
        ({"unixReviewTime": "soon"}, "holds 'soon' as unixReviewTime"),
        ({"reviewerID": {"id": 3}}, "holds {'id': 3} as reviewerID"),
        ({"asin": None}, "has no asin"),
        ({"unixReviewTime": float("nan")}, "holds nan as unixReviewTime"),
        ({"unixReviewTime": float("inf")}, "holds inf as unixReviewTime"),
        ({"unixReviewTime": 10**20}, "holds 100000000000000000000 as unixReviewTime"),
        ({"unixReviewTime": True}, "holds True as unixReviewTime"),
        ({"reviewerID": "a\ud800"}, "holds 'a\\\\ud800' as reviewerID"),
        ({"asin": ["B1"]}, r"holds \['B1'\] as asin"),
    ],
    ids=str,
)
def test_a_review_without_a_field_is_named(tmp_path: Path, change: dict, message: str) -> None:
    wrong = {k: v for k, v in (REVIEW | change).items() if v is not None}
    paths = files(tmp_path, [json.dumps(REVIEW), "", json.dumps(wrong)], ["{'asin': 'B1'}"])
    with pytest.raises(UserError, match=rf"reviews.json.gz, line 3 {message}"):  # blank lines count
        read(paths)


def test_an_empty_metadata_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="meta.json.gz is empty"):
        read(files(tmp_path, [json.dumps(REVIEW)], []))


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b"-" * 100_000 + b"1", b"{'a': 1 + 1j**9}", b"{[]: 1}"],
    ids=lambda line: str(line[:8]),
)
def test_hostile_lines_do_not_bring_it_down(line: bytes) -> None:
    with pytest.raises(UserError, match="line 2 is neither"):
        parse(line, "meta.json.gz", 2)


def test_backslashes_in_literals_warn_nobody(recwarn: pytest.WarningsRecorder) -> None:
    assert parse(rb"{'title': 'a\/b'}", "m", 1) == {"title": r"a\/b"}
    assert not recwarn.list


def test_stars_that_are_no_number_are_none(tmp_path: Path) -> None:
    lines = [json.dumps(REVIEW | {"overall": stars}) for stars in (5, True, float("nan"), 10**400, "5")]
    interactions, _, _ = read(files(tmp_path, lines, ["{'asin': 'B1'}"]))
    assert interactions["rating"].to_list() == [5.0, None, None, None, None]


def test_texts_of_any_kind_can_be_stored(tmp_path: Path) -> None:
    nested: list = ["inmost"]
    for _ in range(300):
        nested = [nested]
    reviews = [json.dumps(REVIEW | {"asin": f"B{i}"}) for i in (1, 2)]
    metadata = [
        r"{'asin': 'B1', 'title': 'a \ud83d\ude00 \ud800 b', 'price': 0x1F}",
        json.dumps({"asin": "B2", "title": "&#" + "9" * 5000 + "; &lt;", "categories": nested, "price": [1]}),
    ]
    _, items, _ = read(files(tmp_path, reviews, metadata))
    assert items["title"][0] == "a \U0001f600 \ufffd b"
    assert items["title"][1].endswith("; <")
    assert items["categories"].to_list() == [[], ["inmost"]]
    assert items["price"].to_list() == ["$31", None]


def test_a_product_without_item_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"meta.json.gz, line 2 holds \['B1'\] as asin; a row needs asin"):
        read(files(tmp_path, [json.dumps(REVIEW)], ["{'asin': 'B1'}", "{'asin': ['B1']}"]))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST", 1000)
    with pytest.raises(UserError, match="reviews.json.gz, line 2 is longer than 1,000 bytes"):
        read(files(tmp_path, [json.dumps(REVIEW), " " * 2000], ["{'asin': 'B1'}"]))
