"""Requests that wait: together, bounded, in time, and none lost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from pipelines.serve.engine import Engine, Full, Late
from pipelines.serve.messages import Ask
from pipelines.serve.metrics import Metrics
from pipelines.serve.served import Served
from tests.recommend.test_model import HISTORY
from tests.serve.conftest import running


class Closed:
    """Work that keeps the model busy until it is opened."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self, served: Served) -> dict[str, Any]:
        self.begun.set()
        assert self.opened.wait(600)
        return {}


def engine_of(served: Served, **settings: Any) -> Engine:
    return Engine(served, **{"max_batch": 4, "queue": 64, "timeout": 600.0, "metrics": Metrics(), **settings})


async def waiting(engine: Engine, closed: Closed, asks: list[Ask]) -> list[asyncio.Task[Any]]:
    """Keep the engine busy, and let requests wait behind that."""
    busy = asyncio.create_task(engine.do(closed))
    await asyncio.to_thread(closed.begun.wait, 600)
    tasks = [asyncio.create_task(engine.do(ask)) for ask in asks]
    await asyncio.sleep(0)  # each task runs until it waits
    return [busy, *tasks]


def test_requests_that_wait_with_equal_settings_are_answered_together(served: Served) -> None:
    asks = [Ask(history=HISTORY[:n], k=n) for n in (1, 2, 3)] + [Ask(history=HISTORY, nfe=2)]
    asks += [Ask(history=HISTORY, k=n) for n in (1, 2)]

    async def run() -> list[tuple[dict[str, Any], int]]:
        engine, closed = engine_of(served), Closed()
        tasks = await waiting(engine, closed, asks)
        closed.opened.set()
        answers = await asyncio.gather(*tasks)
        engine.end()
        return answers[1:]

    answers = asyncio.run(run())
    assert [batch for _, batch in answers] == [3, 3, 3, 1, 2, 2]  # four at a time
    assert [len(answer["recommendations"]) for answer, _ in answers] == [1, 2, 3, 10, 1, 2]


def test_a_full_queue_refuses_and_loses_nothing(served: Served) -> None:
    async def run() -> None:
        engine, closed = engine_of(served, queue=3), Closed()
        tasks = await waiting(engine, closed, [Ask(history=HISTORY)] * 3)
        assert engine.is_full
        with pytest.raises(Full):
            await engine.do(Ask(history=HISTORY))
        closed.opened.set()
        assert [batch for _, batch in await asyncio.gather(*tasks)] == [1, 3, 3, 3]
        await engine.do(Ask(history=HISTORY))
        engine.end()
        with pytest.raises(Full):
            await engine.do(Ask(history=HISTORY))

    asyncio.run(run())


def test_a_request_that_waits_too_long_is_given_up_and_not_computed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Ask] = []
    prepare = served.prepare
    monkeypatch.setattr(served, "prepare", lambda ask: prepared.append(ask) or prepare(ask))

    async def run() -> None:
        engine, closed = engine_of(served), Closed()
        (busy,) = await waiting(engine, closed, [])
        engine.timeout = 0.01
        with pytest.raises(Late):
            await engine.do(Ask(history=HISTORY))
        closed.opened.set()
        await busy
        engine.end()

    asyncio.run(run())
    assert prepared == []


def test_the_end_waits_for_what_was_accepted(served: Served) -> None:
    async def run() -> None:
        engine, closed = engine_of(served), Closed()
        tasks = await waiting(engine, closed, [Ask(history=HISTORY)] * 6)
        ended = asyncio.create_task(asyncio.to_thread(engine.end))
        await asyncio.sleep(0)
        closed.opened.set()
        assert len(await asyncio.gather(*tasks)) == 7
        await ended
        assert not engine.is_ready

    asyncio.run(run())


class Panic(BaseException):
    """What a Rust library raises when it fails."""


@pytest.mark.parametrize("error", [KeyError("item-secret"), Panic("item-secret"), MemoryError("item-secret")])
def test_a_fault_ends_one_request_and_is_logged_without_its_data(
    served: Served, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str], error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    with running(served) as (client, engine):
        monkeypatch.setattr(served, "answer", fail)
        answer = client.post("/recommend", json={"history": ["item-secret"]})
        assert (answer.status_code, list(answer.json())) == (500, ["detail"])
        monkeypatch.undo()
        assert engine.is_ready
        assert client.post("/recommend", json={"history": HISTORY}).status_code == 200
    written = logged()
    fault, *requests = [json.loads(line) for line in written.splitlines()]
    assert fault["event"] == "fault"
    assert any("served" in place or "engine" in place for place in fault["places"])
    assert [line["status"] for line in requests] == [500, 200]
    assert "secret" not in written + answer.text


def test_logs_and_figures_name_routes_and_no_data(served: Served, logged: Callable[[], str]) -> None:
    secret = "item-secret"
    with running(served) as (client, _):
        bodies = [{"history": [secret]}, {"user": secret}, {"history": [], "where": f"title = '{secret}'"}]
        bodies += [{"history": [], "allow": [secret]}, {"history": [], "order": secret}, {secret: 1}]
        for body in bodies:
            client.post("/recommend", json=body)
        for path in (
            f"/items?q={secret}",
            f"/items/{secret}",
            f"/similar/{secret}?by={secret}",
            f"/{secret}",
        ):
            client.get(path)
        client.request("SECRET", "/items")
        figures = client.get("/metrics").text
    written = logged()
    assert "secret" not in (written + figures).lower()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/recommend", 200),
        *[("POST", "/recommend", 422)] * 5,
        ("GET", "/items", 200),
        ("GET", "/items/{item_id:path}", 404),
        ("GET", "/similar/{item_id:path}", 422),
        ("GET", "other", 404),
        ("other", "/items", 405),
        ("GET", "/metrics", 200),
    ]
    assert lines[0]["batch"] == 1
    assert all(line["milliseconds"] >= 0 and line["time"].endswith("+00:00") for line in lines)
    assert 'maskgr_requests_total{method="POST",route="/recommend",status="422"} 5.0' in figures
    assert 'maskgr_request_seconds_count{route="/recommend"} 6.0' in figures
    assert "maskgr_batch_count 1.0" in figures
    assert "maskgr_queue 0.0" in figures


def test_status_503_says_when_to_come_again(served: Served) -> None:
    with running(served, queue=1) as (client, engine):
        closed = Closed()

        async def run() -> list[httpx.Response]:
            tasks = await waiting(engine, closed, [Ask(history=HISTORY)])
            transport = httpx.ASGITransport(app=client.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as direct:
                body = {"history": HISTORY}
                answers = [await direct.post("/recommend", json=body), await direct.get("/items")]
                answers.append(await direct.get("/run"))  # needs no turn
            closed.opened.set()
            await asyncio.gather(*tasks)
            return answers

        recommended, searched, described = asyncio.run(run())
        for answer in (recommended, searched):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert described.status_code == 200
        assert client.get("/ready").json() == {"status": "ready"}
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_a_client_that_leaves_hurts_nobody(client: TestClient) -> None:
    """The connection ends in the middle of a body."""

    async def run() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        parts = iter([{"type": "http.request", "body": b'{"hist', "more_body": True}])

        async def receive() -> dict[str, Any]:
            return next(parts, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            **{"type": "http", "method": "POST", "path": "/recommend", "raw_path": b"/recommend"},
            **{"query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": ""},
            **{"server": ("test", 80), "client": ("test", 1), "asgi": {"version": "3.0"}},
            "headers": [(b"content-type", b"application/json")],
        }
        await client.app(scope, receive, send)
        return sent

    sent = asyncio.run(run())
    assert sent[0]["status"] == 400
    assert client.post("/recommend", json={"history": HISTORY}).status_code == 200
