"""The outermost layer of the service: security headers, figures, and one line of log a request."""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.serve.logs import log, log_fault
from pipelines.serve.metrics import Metrics

BATCH = "maskgr.batch"  # key of a request's scope: number of requests that were answered together
OTHER = "other"  # route of requests that no route of the API takes: the page, its files, unknown paths
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
SECURITY = [
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Watch:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # the application has answered with status 500
            log_fault("fault", error)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        template = getattr(route, "path", None) or OTHER
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._metrics.requests.labels(method, template, str(status)).inc()
        self._metrics.seconds.labels(template).observe(seconds)
        batch = {"batch": scope[BATCH]} if BATCH in scope else {}
        log(
            "request",
            method=method,
            route=template,
            status=status,
            milliseconds=round(1000 * seconds, 2),
            **batch,
        )
