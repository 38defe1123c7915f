"""What many tests need: a workspace with a small catalogue, a progress listener that is a list, the CLI as a
subprocess.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Tests do many small products: on a busy machine two threads that wait for each other took ten times as long
# as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = (
    1800.0  # seconds after which a process hangs; no test may ask for less, however busy the machine is
)


class ListProgress:
    """A `Progress` that keeps what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.notes: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[ListProgress]:
        yield self

    def update(self, completed: float, note: str = "") -> None:
        self.notes.append(note)

    def advance(self, amount: float = 1) -> None:
        pass


@pytest.fixture(autouse=True)
def signals_as_at_start() -> Iterator[None]:
    """Ctrl-C raises and SIGTERM ends, whatever the shell that started the tests ignores, or a test that ran
    the program here left.
    """
    hook = sys.unraisablehook
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def progress() -> ListProgress:
    return ListProgress()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def maskgr(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line for real: `maskgr("eval", "--nfe", 3)`; its workspace is tmp_path/workspace."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "maskgr_cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "MASKGR_WORKSPACE": str(tmp_path / "workspace"),
                "COLUMNS": "200",
                **environment,
            },
        )

    return run


def write_toy(
    workspace: Workspace, users: int = 200, items: int = 60, length: int = 8, name: str = "toy"
) -> Workspace:
    """A data set with a pattern a model can learn: item i is followed by item i + 1 (mod N).

    Item texts name the item's group of ten, so that their embeddings cluster.
    """
    dataset = workspace.dataset(name)
    rng = np.random.default_rng(0)
    starts = rng.integers(0, items, users)
    sequences = [[int(s + i) % items for i in range(length)] for s in starts]
    item_ids = [f"item-{i}" for i in range(items)]
    artifacts.write(
        dataset.items,
        "items",
        pa.table(
            {
                "item": pa.array(range(items), pa.int32()),
                "item_id": item_ids,
                "text": [f"group {i // 10} number {i}" for i in range(items)],
            }
        ),
        config={},
    )
    artifacts.write(
        dataset.interactions,
        "interactions",
        pa.table(
            {
                "user_id": [f"user-{u}" for u in range(users) for _ in range(length)],
                "item_id": [item_ids[i] for sequence in sequences for i in sequence],
                "position": list(range(length)) * users,
            }
        ),
        config={},
    )
    artifacts.write(
        dataset.sequences,
        "sequences",
        pa.table(
            {
                "user": pa.array(range(users), pa.int32()),
                "user_id": [f"user-{u}" for u in range(users)],
                "items": pa.array(sequences, pa.list_(pa.int32())),
            }
        ),
        config={},
        inputs={"interactions": dataset.interactions, "items": dataset.items},
    )
    workspace.use(name)
    return workspace


@pytest.fixture
def toy(workspace: Workspace) -> Workspace:
    return write_toy(workspace)
