"""The HTTP interface of the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines import __version__
from pipelines.serve import messages
from pipelines.serve.config import LARGEST_BODY, LONGEST_TEXT, MOST
from pipelines.serve.engine import Engine, Full, Late, Work
from pipelines.serve.metrics import CONTENT_TYPE, Metrics
from pipelines.serve.operations import operations_page
from pipelines.serve.served import NoSuchItem, Unusable
from pipelines.serve.watch import BATCH, Watch

PAGE = Path(__file__).parent / "page"
FULL = "Too many requests wait. Come again later."
RETRY = 1  # seconds after which a refused request may come again
Similarity = Literal["model", "text", "sids"]

REFUSED: dict[int | str, dict[str, Any]] = {
    503: {
        "model": messages.Refusal,
        "description": "Too many requests wait; the header Retry-After says when.",
    },
    422: {"model": messages.Faults, "description": "A part of the request cannot be used."},
}
NO_ITEM: dict[int | str, dict[str, Any]] = {
    404: {"model": messages.Refusal, "description": "There is no such item."}
}
OF_BODY: dict[int | str, dict[str, Any]] = {
    408: {"model": messages.Refusal, "description": "The body did not come in time."},
    413: {"model": messages.Refusal, "description": f"The body has more than {LARGEST_BODY:,} bytes."},
    415: {"model": messages.Refusal, "description": "The body is not declared as application/json."},
}


def build_app(engine: Engine, metrics: Metrics, timeout: float, page: Path = PAGE) -> ASGIApp:
    """Return the ASGI application.

    Args:
        engine: answers requests.
        metrics: figures.
        timeout: seconds in which the body of a request must come.
        page: folder of the page; it is served if it has an index.html.
    """
    app = FastAPI(
        title="maskgr",
        version=__version__,
        description="Recommendations of a trained run.",
        docs_url=None,
        redoc_url=None,
    )
    _handle_errors(app)
    _add_recommend(app, engine, timeout)
    _add_items(app, engine)
    _add_state(app, engine, metrics)
    if (page / "index.html").is_file():
        files = _Page(directory=page, html=True)
        for name in ("", *sorted(each.name for each in page.iterdir())):
            app.router.routes.append(Route(f"/{name}", files, methods=["GET"], include_in_schema=False))
    return Watch(_Gate(app, engine, "/recommend"), metrics)


class _Page(StaticFiles):
    """Files that a browser may keep, but asks about each time: those of two versions do not fit together."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Gate:
    """Refuses requests to one path while the queue is full, before anything of them is read: what is refused
    must cost little.
    """

    def __init__(self, app: FastAPI, engine: Engine, path: str) -> None:
        self._app, self._engine, self._path = app, engine, path
        self._route = next(route for route in app.routes if getattr(route, "path", "") == path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] == "http" and scope["path"] == self._path and self._engine.is_full:
            scope["route"] = self._route
            app = _busy(FULL)
        await app(scope, receive, send)


def _add_recommend(app: FastAPI, engine: Engine, timeout: float) -> None:
    schema = messages.Ask.model_json_schema()
    body = {"requestBody": {"content": {"application/json": {"schema": schema}}, "required": True}}

    @app.post(
        "/recommend", responses={200: {"model": messages.Answer}, **REFUSED, **OF_BODY}, openapi_extra=body
    )
    async def recommend(request: Request) -> Response:
        """Recommend items to a history or to a user of the data set."""
        began = time.perf_counter()
        ask = messages.Ask.model_validate_json(await _body(request, timeout))
        answer = await _done(engine, ask, request)
        return JSONResponse({**answer, "milliseconds": round(1000 * (time.perf_counter() - began), 3)})


def _add_items(app: FastAPI, engine: Engine) -> None:
    @app.get("/items", responses={200: {"model": messages.FoundItems}, **REFUSED})
    async def search(
        request: Request,
        q: Annotated[str, Query(max_length=LONGEST_TEXT, description="Part of a title.")] = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 20,
    ) -> Response:
        """Find items by a part of their titles; those with most interactions come first."""
        return JSONResponse(await _done(engine, lambda served: served.search(q, limit), request))

    @app.get("/items/{item_id:path}", responses={200: {"model": messages.ItemFacts}, **REFUSED, **NO_ITEM})
    async def item(request: Request, item_id: str) -> Response:
        """Return an item with its columns."""
        return JSONResponse(await _done(engine, lambda served: served.item(item_id), request))

    @app.get(
        "/similar/{item_id:path}", responses={200: {"model": messages.SimilarItems}, **REFUSED, **NO_ITEM}
    )
    async def similar(
        request: Request,
        item_id: str,
        by: Annotated[
            Similarity, Query(description="Vectors of the model, texts, or equal digits.")
        ] = "model",
        k: Annotated[int, Query(ge=1, le=MOST)] = 10,
    ) -> Response:
        """Return the items that are most similar to an item."""
        return JSONResponse(await _done(engine, lambda served: served.similar(item_id, k, by), request))


def _add_state(app: FastAPI, engine: Engine, metrics: Metrics) -> None:
    @app.get("/run", responses={200: {"model": messages.RunFacts}})
    async def run() -> Response:
        """Describe the run that is served."""
        return JSONResponse(engine.served.facts)

    @app.get("/health", responses={200: {"model": messages.Health}})
    async def health() -> Response:
        """Say that the process lives."""
        return JSONResponse({"status": "ok"})

    @app.get("/ready", responses={200: {"model": messages.Health}, 503: {"model": messages.Health}})
    async def ready() -> Response:
        """Say whether requests are answered."""
        return JSONResponse(
            {"status": "ready"} if engine.is_ready else {"status": "not ready"},
            200 if engine.is_ready else 503,
        )

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def figures() -> Response:
        """Return figures in the text format of Prometheus."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(operations_page(app.openapi()), media_type="text/html")


async def _done(engine: Engine, work: Work, request: Request) -> dict[str, Any]:
    answer, batch = await engine.do(work)
    request.scope[BATCH] = batch
    return answer


async def _body(request: Request, timeout: float) -> bytes:
    """Return the body of a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "The body must be JSON: send the header Content-Type: application/json.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > LARGEST_BODY:
        raise _too_large()
    try:
        return await asyncio.wait_for(_read(request), timeout)
    except (asyncio.TimeoutError, TimeoutError):
        raise HTTPException(408, f"The body did not come within {timeout:g} seconds.") from None


async def _read(request: Request) -> bytes:
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > LARGEST_BODY:
            raise _too_large()
        parts.append(part)
    return b"".join(parts)


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body has more than {LARGEST_BODY:,} bytes.")


def _handle_errors(app: FastAPI) -> None:
    """Answer every foreseen error with its status and, for a fault of the request, the field."""

    def add(kind: type[Exception], answer: Callable[[Any], Response]) -> None:
        async def handle(request: Request, error: Exception) -> Response:
            return answer(error)

        app.add_exception_handler(kind, handle)

    add(Full, lambda error: _busy(FULL))
    add(Late, lambda error: _busy("The request waited too long. Come again later."))
    add(NoSuchItem, lambda error: JSONResponse({"detail": "There is no such item."}, 404))
    add(Unusable, lambda error: _faults([{"loc": error.place, "msg": str(error)}]))
    add(ClientDisconnect, lambda error: JSONResponse({"detail": "The body is incomplete."}, 400))
    add(Exception, lambda error: JSONResponse({"detail": "A fault of maskgr; its log has the place."}, 500))
    add(ValidationError, lambda error: _faults(_parts(error, ["body"])))
    add(RequestValidationError, lambda error: _faults(_parts(error, [])))


def _parts(error: Any, before: list[str]) -> list[dict[str, Any]]:
    """Return the faults that Pydantic found, without the values at fault."""
    return [
        {"loc": [*before, *part["loc"]], "msg": part["msg"], "type": part["type"]}
        for part in error.errors()[:20]
    ]


def _faults(faults: list[dict[str, Any]]) -> Response:
    return JSONResponse({"detail": [{"type": "unusable", **fault} for fault in faults]}, 422)


def _busy(detail: str) -> Response:
    return JSONResponse({"detail": detail}, 503, {"Retry-After": str(RETRY)})
