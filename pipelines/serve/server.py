"""The process of the service: sockets, signals, and the order of its end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import uvicorn
from starlette.types import ASGIApp

from pipelines.errors import UserError
from pipelines.progress import Progress, Silent
from pipelines.recommend.items import UnknownItems
from pipelines.recommend.load import load
from pipelines.recommend.model import TruncatedHistory
from pipelines.serve.admin import build_admin
from pipelines.serve.app import build_app
from pipelines.serve.config import ServeConfig
from pipelines.serve.engine import Engine
from pipelines.serve.logs import log, write_to
from pipelines.serve.metrics import Metrics
from pipelines.serve.reload import Reloader, settle
from pipelines.serve.served import Served
from pipelines.workspace import Workspace

CONNECTIONS = 4096  # open at once; further ones are refused
KEEP_ALIVE = 30  # seconds that a connection without a request stays open
SWITCH = 0.0005  # seconds after which the thread of the model gets its turn beside the connections
GRACE = 2  # seconds beyond the time-out after which the end no longer waits for a request
LOOPBACK = "127.0.0.1"


def serve(run: str | None, workspace: Path, config: ServeConfig, progress: Progress) -> None:
    """Serve a run until SIGTERM or SIGINT; both let the requests in progress end. SIGHUP loads the run again.

    Args:
        run: name of the run; None for the newest one of the workspace.
        workspace: folder of all artifacts.
        config: address and limits.
        progress: receives a message once requests are answered.

    Raises:
        UserError: the run cannot be loaded, or the address cannot be listened on.
    """
    for kind in (UnknownItems, TruncatedHistory):  # whose messages name items
        warnings.simplefilter("ignore", kind)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))  # the other half is for the connections
    sys.setswitchinterval(SWITCH)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to load again

    def load_served(progress: Progress = Silent()) -> Served:
        chosen = run or Workspace.find(workspace).require_run(None).name
        return Served(load(chosen, workspace=workspace, progress=progress))

    metrics = Metrics()
    # Nothing but the engine keeps a state of the run, so that a reload sets the old one free.
    engine = Engine(load_served(progress), config.max_batch, config.queue, config.timeout, metrics)
    reloader = Reloader(load_served, engine, metrics)
    settle()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(config.host, config.port))
        admin = None
        if config.admin_port is not None:
            admin = stack.enter_context(_listening(LOOPBACK, config.admin_port))
        servers = [(_Server(build_app(engine, metrics, config.timeout), config.timeout), listening)]
        if admin:
            servers.append((_Server(build_admin(reloader, engine, metrics), config.timeout), admin))
        progress.say(f"{engine.served.model.run.name} at {_address(listening)}, operations at /docs.")
        write_to(sys.stderr)
        asyncio.run(_serve(engine, reloader, servers))


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a socket that listens.

    Raises:
        UserError: the address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{host}, port {port}, cannot be listened on ({reason}). Take another --port or --host."
        ) from None
    with opened:
        # Connections inherit it. Without it the body of an answer waits for the receipt of its head: 40 ms.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened


async def _serve(engine: Engine, reloader: Reloader, servers: list[tuple[_Server, socket.socket]]) -> None:
    """Run the servers until a signal ends them, and then the engine."""
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task]()

    def end() -> None:
        log("ending")
        for server, _ in servers:
            server.force_exit = server.should_exit  # the second signal
            server.should_exit = True

    def reload() -> None:
        task = loop.create_task(reloader.reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, reload)
    ports = [opened.getsockname()[1] for _, opened in servers]
    log("started", run=engine.served.model.run.name, **dict(zip(("port", "admin_port"), ports, strict=False)))
    await asyncio.gather(*(server.serve([opened]) for server, opened in servers))
    engine.end()
    log("ended")


class _Server(uvicorn.Server):
    """A server whose signals are handled here."""

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(timeout) + GRACE,
            server_header=False,
            proxy_headers=False,
            ws="none",
        )
        super().__init__(settings)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _address(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
