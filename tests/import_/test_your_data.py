"""Each row of the table in docs/your-data.md, run on a small file of the form that it describes."""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines.workspace import Workspace
from tests.conftest import ROOT
from tests.import_.samples import load

pytest.importorskip("sqlglot")

PAGE = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.*) \| `(maskgr import .*)` \|$", PAGE, re.MULTILINE)
EXPECTED = {"1": ["11", "12", "13"], "2": ["12", "13", "11"]}  # user → items
TITLES = {"11": "Red mug", "12": "Blue mug", "13": "Lamp"}
DAY = 86_400
LOG = [("1", "11", 3), ("1", "12", 4), ("2", "12", 3), ("2", "13", 5), ("2", "11", 6), ("1", "13", 7)]


def lines(*rows: object, separator: str = ",", header: str = "") -> str:
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)  # type: ignore[arg-type]
    return f"{header}\n{text}" if header else text


def seconds(day: int) -> int:
    return 1_700_000_000 + DAY * day


def log(header: str = "user_id,item_id,timestamp", times: str = "{seconds}", extra: str = "") -> str:
    return lines(*((u, i, times.format(day=d, seconds=seconds(d)) + extra) for u, i, d in LOG), header=header)


def objects(rows: list[dict], literal: bool = False) -> str:
    return "\n".join(repr(row) if literal else json.dumps(row) for row in rows) + "\n"


def frame(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def rows(*names: str, **others: object) -> list[dict]:
    """The log as objects with these names of user, item and time."""
    return [dict(zip(names, (u, i, seconds(d)), strict=True)) | others for u, i, d in LOG]


PRODUCTS = "item_id,title\n" + lines(*TITLES.items(), ("99", "New lamp"))
CHINESE = "item_id,title\n" + lines(*((item, "蓝桌子黑系列") for item in TITLES))
TABLE = pl.DataFrame(rows("user_id", "item_id", "timestamp"))
SHOWN = [*((u, i, 1, seconds(d)) for u, i, d in LOG), ("1", "99", 0, seconds(9)), ("2", "98", 0, seconds(9))]
FILES: dict[str, str | bytes] = {
    "orders.csv": log(),
    "products.csv": PRODUCTS,
    "export.csv": log(times="2{day}.01.2024 12:58").replace(",", ";"),
    "artikel.csv": PRODUCTS.replace(",", ";").replace("mug", "Käfer").encode("cp1252"),
    "produkte-gb18030.csv": CHINESE.encode("gb18030"),
    "export-2.csv": log("who,what,when"),
    "no-header.csv": lines(*((i, u, 5.0, seconds(d)) for u, i, d in LOG)),
    "daily/2024-01.csv": "".join(log().splitlines(keepends=True)[:4]),
    "daily/2024-02.csv": "".join(log().splitlines(keepends=True)[:1] + log().splitlines(keepends=True)[4:]),
    "rest.parquet": frame(TABLE.tail(1)),
    "orders.csv.gz": gzip.compress(log().encode()),
    "orders.parquet": frame(TABLE),
    "events.jsonl": objects(
        [{"user": {"id": u}, "product": {"sku": i, "price": 2}, "ts": seconds(d)} for u, i, d in LOG]
    ),
    "events-2.jsonl": objects(
        [{"buyer": {"key": u}, "thing": {"number": i}, "ts": seconds(d)} for u, i, d in LOG]
    ),
    "orders.json": json.dumps(rows("user_id", "item_id", "timestamp"), indent=1),
    "frame.json": json.dumps({c.name: dict(enumerate(c.to_list())) for c in TABLE}),
    "bigquery.csv": log(times="2024-01-0{day} 12:58:27 UTC"),
    "dates.csv": log(times="0{day}-01-2024"),
    "no-times.csv": lines(*(row[:2] for row in LOG), header="user,item"),
    "newest-first.csv": lines(*(row[:2] for row in reversed(LOG)), header="user,item"),
    "days.csv": log(times="2024-01-0{day}"),
    "shown.csv": lines(*SHOWN, header="user,item,label,time"),
    "kinds.csv": lines(
        *((u, i, "purchase" if taken else "view", t) for u, i, taken, t in SHOWN),
        header="user,item,event,time",
    ),
    "ratings.csv": lines(
        *((u, i, 5 if taken else 1, t) for u, i, taken, t in SHOWN), header="user,item,rating,time"
    ),
    "gaps.csv": log() + ",11,5\n",
    "zeros.csv": lines(*((u, f"00{i}", seconds(d)) for u, i, d in LOG), header="user,item,time"),
    "zeros-lost.csv": PRODUCTS,
    "reviews-2023.jsonl": objects(
        [
            {"rating": 5.0, "asin": f"V{i}", "parent_asin": i, "user_id": u, "timestamp": seconds(d) * 1000}
            for u, i, d in LOG
        ]
    ),
    "meta-2023.jsonl": objects(
        [{"title": t, "images": [{"hi_res": None}], "parent_asin": i} for i, t in TITLES.items()]
    ),
    "reviews-2014.json": objects(rows("reviewerID", "asin", "unixReviewTime", overall=5.0)),
    "meta-2014.json": objects(
        [{"asin": i, "title": t, "categories": [["A", "B"]]} for i, t in TITLES.items()], literal=True
    ),
    "steam.json": objects(
        [{"username": u, "product_id": i, "date": f"2017-12-0{d}", "funny": None} for u, i, d in LOG],
        literal=True,
    ),
    "movielens/ratings.csv": lines(
        *((u, i, 4.5, seconds(d)) for u, i, d in LOG), header="userId,movieId,rating,timestamp"
    ),
    "movielens/movies.csv": lines(
        *((i, f'"{t}, The"', "A|B") for i, t in TITLES.items()), header="movieId,title,genres"
    ),
    "ratings.dat": lines(*((u, i, 4, seconds(d)) for u, i, d in LOG), separator="::"),
    "shop.inter": lines(
        *((u, i, float(seconds(d))) for u, i, d in LOG),
        separator="\t",
        header="user_id:token\titem_id:token\ttimestamp:float",
    ),
    "shop.item": lines(*TITLES.items(), separator="\t", header="item_id:token\ttitle:token_seq"),
    "shop.inter.json": json.dumps(EXPECTED),
    "shop.item.json": json.dumps({i: {"title": t, "brand": "b"} for i, t in TITLES.items()}),
    "pairs.txt": lines(*((u, i) for u, i, _ in LOG), separator=" "),
    "sequences.txt": lines(*((u, *items) for u, items in EXPECTED.items()), ("3", "11"), separator=" "),
    "lists.csv": 'user_id,item_ids,timestamps\n1,"[13, 12, 11]","[9, 8, 7]"\n2,"[11, 13, 12]","[9, 8, 7]"\n',
}


@pytest.mark.parametrize("command", [command for _, command in ROWS], ids=[have for have, _ in ROWS])
def test_a_row_of_the_table(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MASKGR_WORKSPACE", raising=False)
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    sequences, texts = load(Workspace(tmp_path / "data").dataset("shop"))
    assert sequences == EXPECTED
    if "--items" in command:
        assert all(texts[item] for item in TITLES)
    assert ("99" in texts) == ("--untaken" in command)
    assert "Warning" not in done.output


def test_the_table_is_whole() -> None:
    assert len(ROWS) == PAGE.count("maskgr import shop --interactions") - 2  # the two at the top
    named = {word for _, command in ROWS for word in shlex.split(command)[1:]}
    unused = [name for name in FILES if name not in named and not name.startswith("daily/")]
    assert not unused
