"""`maskgr serve` as a process: its start, its signals and its end."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from maskgr_cli.commands import serve as command
from pipelines.errors import UserError
from pipelines.recommend.model import Model
from pipelines.serve.config import ServeConfig
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, ROOT
from tests.recommend.test_model import HISTORY, SOFTMAX

ASK = json.dumps({"history": HISTORY, "k": 3}).encode()
FIELDS = [field.name for field in dataclasses.fields(ServeConfig)]
HEADERS = {"Content-Type": "application/json"}


class Process:
    """A server process and its log."""

    def __init__(self, store: Workspace, log: Path, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASKGR_WORKSPACE": str(store.root)}
        line = [sys.executable, "-m", "maskgr_cli", "serve", *arguments]
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(line, stderr=stderr, env=environment)

    def events(self) -> list[dict[str, Any]]:
        lines = self.log.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """Return an event of the log once it is there so many times."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = [each for each in self.events() if each["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.log.read_text("utf-8")
            time.sleep(0.02)
        raise AssertionError(f"no {event} in {self.log.read_text('utf-8')}")


@contextmanager
def started(store: Workspace, folder: Path, *arguments: str) -> Iterator[tuple[Process, int]]:
    """Start a server on a free port; it is killed if it still runs at the end."""
    server = Process(store, folder / "log", *arguments, "--port", "0")
    try:
        yield server, server.wait_for("started")["port"]
    finally:
        server.process.kill()
        server.process.wait()


def ask(connection: http.client.HTTPConnection) -> tuple[int, dict[str, Any]]:
    connection.request("POST", "/recommend", ASK, HEADERS)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_it_answers_reloads_on_a_signal_and_ends_after_the_last_request(
    store: Workspace, model: Callable[..., Model], tmp_path: Path
) -> None:
    run = model("maskgr", **SOFTMAX).run
    expected = model("maskgr", **SOFTMAX).recommend([HISTORY], k=3)["item_id"].to_list()
    weights = run.weights.read_bytes()
    with started(store, tmp_path, run.name, "--admin-port", "0") as (server, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        status, answer = ask(connection)
        assert (status, [row["item_id"] for row in answer["recommendations"]]) == (200, expected)
        try:
            run.weights.write_bytes(weights[: len(weights) // 2])
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("reload failed")
            assert ask(connection)[0] == 200
        finally:
            run.weights.write_bytes(weights)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reloaded")
        admin_port = server.wait_for("started")["admin_port"]
        admin = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=PATIENCE)
        admin.request("POST", "/reload")
        assert json.loads(admin.getresponse().read()) == {"run": run.name}
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as begun:
            head = "POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            begun.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(ASK) + ASK[:5])
            assert ask(connection)[0] == 200  # the server has read what came before
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("ending")
            begun.sendall(ASK[5:])
            answered = b"".join(iter(lambda: begun.recv(65536), b""))
        assert answered.startswith(b"HTTP/1.1 200")
        assert all(name.encode() in answered for name in expected)
        assert server.process.wait(PATIENCE) == 0
        assert server.events()[-1]["event"] == "ended"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert "item-3" not in server.log.read_text("utf-8")


def test_a_port_in_use_is_the_users_error(
    store: Workspace,
    model: Callable[..., Model],
    maskgr: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    name = model("sasrec").run.name
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = maskgr("serve", name, "--port", port, MASKGR_WORKSPACE=str(store.root))
    assert failed.returncode == 2
    assert f"127.0.0.1, port {port}, cannot be listened on (" in failed.stderr.replace("\n", " ")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'fastapi, uvicorn.*pip install "maskgr\[serve\]"'):
        command.serve(**dict.fromkeys(FIELDS))


@pytest.mark.parametrize(
    ("option", "value"),
    [("port", -1), ("port", 65536), ("admin_port", 10**6), ("max_batch", 0), ("queue", 0), ("timeout", 0.0)],
)
def test_limits_are_bounded(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is"):
        ServeConfig(**{option: value})
