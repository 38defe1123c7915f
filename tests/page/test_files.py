"""The files of the page, without a browser."""

from __future__ import annotations

import re

from pipelines.serve.app import PAGE
from pipelines.serve.served import Served
from tests.serve.conftest import running
from tests.serve.conftest import served as served

LINK = re.compile(r"""(?:src|href|from)[= ]"([^"#]+)\"""")


def test_every_file_is_served_and_asked_about_each_time(served: Served) -> None:
    with running(served, page=PAGE) as (client, _):
        start = client.get("/")
        assert start.headers["content-type"].startswith("text/html")
        assert not re.search(r"<style|style=|\bon[a-z]+=|<script(?![^>]* src=)", start.text)
        names, seen = ["./"], set[str]()
        while names:
            name = names.pop()
            seen.add(name)
            answer = client.get("/" + name)
            assert answer.status_code == 200, name
            assert name == "docs" or answer.headers["cache-control"] == "no-cache"
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            links = (
                {link.removeprefix("./") for link in LINK.findall(answer.text)} if name != "docs" else set()
            )
            assert not [link for link in links if "//" in link]
            names += links - seen
        assert {path.name for path in PAGE.iterdir()} <= {*seen, "index.html"}
