"""The administration: POST /reload, on a port of 127.0.0.1 alone."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from pipelines.serve.engine import Engine
from pipelines.serve.metrics import Metrics
from pipelines.serve.reload import Reloader
from pipelines.serve.watch import Watch


def build_admin(reloader: Reloader, engine: Engine, metrics: Metrics) -> ASGIApp:
    """Return the ASGI application of the administration."""
    app = FastAPI(title="maskgr administration", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/reload")
    async def reload(request: Request) -> Response:
        """Load the run again. Status 409: it cannot be loaded, and the old one is still served."""
        if "origin" in request.headers:  # a page of a browser, which may send requests to this machine
            return JSONResponse({"detail": "Pages may not reload the run."}, 403)
        reason = await reloader.reload()
        if reason is not None:
            return JSONResponse({"detail": reason}, 409)
        return JSONResponse({"run": engine.served.model.run.name})

    return Watch(app, metrics)
