"""A new state of the run comes in without a lost request; a broken one leaves the old in place."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import httpx
from starlette.testclient import TestClient

from pipelines.errors import UserError
from pipelines.recommend.load import load
from pipelines.recommend.model import Model
from pipelines.serve.admin import build_admin
from pipelines.serve.app import build_app
from pipelines.serve.engine import Engine
from pipelines.serve.metrics import Metrics
from pipelines.serve.reload import Reloader, settle
from pipelines.serve.served import Served
from pipelines.workspace import Workspace
from tests.recommend.test_model import HISTORY, SOFTMAX
from tests.serve.test_engine import Closed

Loaded = Callable[..., Model]


def service(served: Served, load: Callable[[], Served]) -> tuple[Engine, Metrics, Reloader]:
    metrics = Metrics()
    engine = Engine(served, 4, 64, 600.0, metrics)
    return engine, metrics, Reloader(load, engine, metrics)


def test_a_reload_between_requests_loses_none(served: Served, model: Loaded) -> None:
    """Clients send without a pause while three states of the run follow each other."""
    states = [Served(model("sasrec")), Served(model("tiger")), Served(model("maskgr"))]
    coming = iter(states)

    async def run() -> list[dict[str, Any]]:
        engine, metrics, reloader = service(served, lambda: next(coming))
        answers: list[dict[str, Any]] = []
        over = asyncio.Event()
        transport = httpx.ASGITransport(app=build_app(engine, metrics, 600.0))

        async def client() -> None:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as direct:
                while not over.is_set():
                    answer = await direct.post("/recommend", json={"history": HISTORY, "k": 3})
                    assert answer.status_code == 200
                    answers.append(answer.json())

        clients = [asyncio.create_task(client()) for _ in range(6)]
        for _ in states:
            seen = len(answers)
            while len(answers) < seen + 12:  # all clients have been answered by the present state
                await asyncio.sleep(0)
            assert await reloader.reload() is None
        seen = len(answers)
        while len(answers) < seen + 12:
            await asyncio.sleep(0)
        over.set()
        await asyncio.gather(*clients)
        engine.end()
        return answers

    answers = asyncio.run(run())
    order = list(dict.fromkeys(answer["run"] for answer in answers))
    assert order == [state.model.run.name for state in (served, *states)]
    assert all(len(answer["recommendations"]) == 3 for answer in answers)


def test_what_waits_is_answered_by_one_state_as_a_whole(served: Served, model: Loaded) -> None:
    """The request that is being answered ends with the old state."""
    new = Served(model("sasrec"))
    seen: list[Served] = []

    async def run() -> None:
        engine, _, reloader = service(served, lambda: new)
        closed = Closed()

        def watched(state: Served) -> dict[str, Any]:
            seen.append(state)
            return closed(state)

        task = asyncio.create_task(engine.do(watched))
        await asyncio.to_thread(closed.begun.wait, 600)
        assert await reloader.reload() is None
        closed.opened.set()
        await task
        await engine.do(lambda state: seen.append(state) or {})
        engine.end()

    asyncio.run(run())
    assert seen == [served, new]


def test_an_old_state_is_set_free(store: Workspace, model: Loaded) -> None:
    """Also where objects refer to each other in a circle, as those of a model do."""
    name = model("maskgr", **SOFTMAX).run.name

    def load_served() -> Served:
        return Served(load(name, workspace=store.root, device="cpu"))

    engine, _, reloader = service(load_served(), load_served)
    old = weakref.ref(engine.served.model.trained.model)
    settle()
    assert asyncio.run(reloader.reload()) is None
    assert old() is None
    engine.end()


def test_a_broken_state_leaves_the_old_one_in_place(served: Served) -> None:
    faults: list[Exception] = [UserError("The weights do not fit."), ValueError("item-secret")]

    def load() -> Served:
        raise faults.pop(0)

    engine, metrics, reloader = service(served, load)
    admin = TestClient(build_admin(reloader, engine, metrics))
    for reason in ("The weights do not fit.", "ValueError"):
        answer = admin.post("/reload")
        assert (answer.status_code, answer.json()) == (409, {"detail": reason})
    assert engine.served is served
    assert TestClient(build_app(engine, metrics, 600.0)).post("/recommend", json={"history": []}).is_success
    assert b'maskgr_reloads_total{outcome="failed"} 2.0' in metrics.text()
    engine.end()


def test_the_administration_takes_no_requests_of_pages(served: Served, model: Loaded) -> None:
    new = Served(model("sasrec"))
    engine, metrics, reloader = service(served, lambda: new)
    admin = TestClient(build_admin(reloader, engine, metrics))
    assert admin.post("/reload", headers={"Origin": "https://example.org"}).status_code == 403
    assert admin.get("/reload").status_code == 405
    assert engine.served is served
    assert admin.post("/reload").json() == {"run": "sasrec"}
    assert b'run="sasrec"' in metrics.text()
    assert engine.served is new
    engine.end()


def test_reload_is_no_operation_of_the_service(served: Served) -> None:
    engine, metrics, _ = service(served, lambda: served)
    client = TestClient(build_app(engine, metrics, 600.0))
    assert client.post("/reload").status_code == 404
    assert "reload" not in client.get("/openapi.json").text
    engine.end()
