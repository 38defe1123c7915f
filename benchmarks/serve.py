"""Speed of the HTTP service: the server and the client are processes of their own on one machine.

    python -m benchmarks.serve RUN --workspace FOLDER
    python -m benchmarks.serve RUN --workspace FOLDER --minutes 10

The client sends histories of users of the data set, again and again. It speaks HTTP over plain sockets, so
that it takes little of the processor. Nothing but 127.0.0.1 is reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import run_parser, save
from maskgr_cli import console
from pipelines import artifacts
from pipelines.recommend.histories import sample_histories
from pipelines.recommend.load import load

HISTORIES = 2000
SECONDS = 10.0
OVERLOAD = 4
OPEN = 512  # requests of the overload that are under way at most


@dataclass
class Load:
    """What a client saw.

    Attributes:
        seconds: time of each request that was answered with status 200.
        statuses: number of answers by status; 0 for requests without an answer.
        duration: seconds of the whole.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    duration: float = 0.0

    @property
    def rate(self) -> float:
        """Answers with status 200 per second."""
        return self.statuses[200] / self.duration

    def __str__(self) -> str:
        p50, p99 = (1000 * float(value) for value in np.percentile(self.seconds or [np.nan], (50, 99)))
        shown = ", ".join(
            f"{count:,} × {status or 'none'}" for status, count in sorted(self.statuses.items())
        )
        return f"{self.rate:,.0f} requests/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms ({shown})"


class Connection:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes, path: str = "/recommend") -> int:
        """Send a request and return the status of the answer; 0 if there is none."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.lower().split(b"\r\n")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            if b"connection: close" in lines:
                self.close()
            return int(answer[9:12])
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None


def closed_loop(port: int, bodies: list[bytes], clients: int, seconds: float) -> Load:
    """Let clients send one request after the other for some time; their first ones, with which all connect
    at once, do not count.
    """
    result, places = Load(), iter(range(10**9))

    async def client(connection: Connection, end: float) -> None:
        while (began := time.perf_counter()) < end:
            status = await connection.post(bodies[next(places) % len(bodies)])
            result.statuses[status] += 1
            if status == 200:
                result.seconds.append(time.perf_counter() - began)
        connection.close()

    async def run() -> None:
        connections = [Connection(port) for _ in range(clients)]
        await asyncio.gather(*(connection.post(bodies[next(places)]) for connection in connections))
        began = time.perf_counter()
        await asyncio.gather(*(client(connection, began + seconds) for connection in connections))
        result.duration = time.perf_counter() - began

    asyncio.run(run())
    return result


def open_loop(port: int, bodies: list[bytes], rate: float, seconds: float) -> Load:
    """Send requests at a rate, whether the earlier ones are answered or not, up to `OPEN` at a time."""
    result, idle = Load(), [Connection(port) for _ in range(OPEN)]

    async def send(connection: Connection, body: bytes) -> None:
        began = time.perf_counter()
        status = await connection.post(body)
        result.statuses[status] += 1
        if status == 200:
            result.seconds.append(time.perf_counter() - began)
        idle.append(connection)

    async def run() -> None:
        began, tasks = time.perf_counter(), []
        while (passed := time.perf_counter() - began) < seconds:
            while len(tasks) < passed * rate and idle:
                tasks.append(asyncio.create_task(send(idle.pop(), bodies[len(tasks) % len(bodies)])))
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
        result.duration = time.perf_counter() - began
        for connection in idle:
            connection.close()

    asyncio.run(run())
    return result


@dataclass(frozen=True)
class Server:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int

    @property
    def mib(self) -> float:
        """Resident memory."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


@contextlib.contextmanager
def served(run: str, workspace: Path | None, *options: str) -> Iterator[Server]:
    """Start `maskgr serve`, and end it with SIGTERM."""
    command = [sys.executable, "-m", "maskgr_cli", "serve", run, "--port", "0", "--admin-port", "0", *options]
    command += ["--workspace", str(workspace)] if workspace else []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
            try:
                started = _started(log, process)
                yield Server(process, started["port"], started["admin_port"])
            finally:
                process.send_signal(signal.SIGTERM)
        if process.returncode != 0:
            raise SystemExit(f"The server ended with exit code {process.returncode}.")


def _started(log: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait for the line that the server writes when it answers."""
    while process.poll() is None:
        for line in log.read_text("utf-8").splitlines():
            if line.startswith("{") and line.endswith("}"):
                return json.loads(line)
        time.sleep(0.05)
    raise SystemExit(f"The server did not start: {log.read_text('utf-8')}")


def main() -> None:
    parser = run_parser(__doc__, "serve")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="duration of each measurement")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="measure the memory for so long, and nothing else"
    )
    options = parser.parse_args()
    model = load(options.run, workspace=options.workspace, device="cpu")
    histories = sample_histories(model, HISTORIES, seed=0)
    ids = model.table.names["item_id"].to_list()
    asks = [{"history": [ids[i] for i in histories.of(place)]} for place in range(len(histories.items))]
    digits = getattr(model.trained.model, "digits", 1)
    del model
    fast = [json.dumps(ask).encode() for ask in asks]
    slow = [json.dumps({**ask, "nfe": digits}).encode() for ask in asks]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as client:
        figures = _measure(options, client, fast, slow)
    table = [(name, str(value)) for name, value in figures.items()]
    console.table(f"Service of {options.run}, {artifacts.machine()}", ["", "value"], table, left=("value",))
    if options.save:
        save("serve", dict(table))


def _measure(
    options: argparse.Namespace, client: ProcessPoolExecutor, fast: list[bytes], slow: list[bytes]
) -> dict[str, object]:
    """Return all figures: requests with the default decoding are `fast`, digit by digit `slow`."""
    seconds, figures = options.seconds, dict[str, object]()
    if options.minutes:
        with served(options.run, options.workspace) as server:
            return {"memory": _memory(client, server, fast, options.minutes)}
    with served(options.run, options.workspace) as server:

        def closed(bodies: list[bytes], clients: int) -> Load:
            return client.submit(closed_loop, server.port, bodies, clients, seconds).result()

        closed(fast, 4)  # warms up
        figures["1 client"] = closed(fast, 1)
        figures["32 clients"] = at_once = closed(fast, 32)
        figures["1 client, digit by digit"] = closed(slow, 1)
        figures["32 clients, digit by digit"] = slowly = closed(slow, 32)
        future = client.submit(closed_loop, server.port, fast, 32, seconds)
        outcomes = Counter[int]()
        while not future.done():
            outcomes[asyncio.run(Connection(server.admin_port).post(b"", "/reload"))] += 1
            time.sleep(0.5)
        figures["32 clients, reloads"] = f"{future.result()}; reloads: {dict(outcomes)}"
        for name, bodies, usual in (("", fast, at_once), (", digit by digit", slow, slowly)):
            rate = OVERLOAD * usual.rate
            overload = client.submit(open_loop, server.port, bodies, rate, seconds).result()
            figures[f"{OVERLOAD}× overload, {rate:,.0f} requests/s{name}"] = overload
        figures["32 clients, after the overload"] = closed(fast, 32)
    return figures


def _memory(client: ProcessPoolExecutor, server: Server, bodies: list[bytes], minutes: float) -> str:
    """Return the memory of the server over some minutes of load by 32 clients."""
    future = client.submit(closed_loop, server.port, bodies, 32, 60 * minutes)
    began, taken = time.perf_counter(), list[float]()
    while not future.done():
        time.sleep(1)
        taken.append(server.mib)
    tenth = max(1, len(taken) // 10)
    shown = " ".join(f"{taken[place]:.0f}" for place in range(0, len(taken), tenth))
    passed = (time.perf_counter() - began) / 60
    return f"{shown} MiB over {passed:.1f} minutes; {future.result()}"


if __name__ == "__main__":
    main()
