"""A service of a toy run, in this process."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipelines.recommend.model import Model
from pipelines.serve.app import build_app
from pipelines.serve.engine import Engine
from pipelines.serve.logs import LOGGER, write_to
from pipelines.serve.metrics import Metrics
from pipelines.serve.served import Served
from tests.recommend.conftest import model as model
from tests.recommend.conftest import store as store
from tests.recommend.test_model import SOFTMAX


@pytest.fixture(scope="package")
def served(model: Callable[..., Model]) -> Served:
    """A run with an item softmax."""
    return Served(model("maskgr", **SOFTMAX))


@contextmanager
def running(
    served: Served, *, max_batch: int = 8, queue: int = 64, timeout: float = 600.0, page: Path = Path("none")
) -> Iterator[tuple[TestClient, Engine]]:
    """Yield a client of the service, and its engine."""
    metrics = Metrics()
    engine = Engine(served, max_batch, queue, timeout, metrics)
    try:
        yield TestClient(build_app(engine, metrics, timeout, page)), engine
    finally:
        engine.end()


@pytest.fixture
def client(served: Served) -> Iterator[TestClient]:
    with running(served) as (client, _):
        yield client


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """Return a function that returns the log of the service."""
    stream = io.StringIO()
    handler = write_to(stream)
    yield stream.getvalue
    for name in (LOGGER, "uvicorn.error"):
        logging.getLogger(name).removeHandler(handler)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Ignore the warnings that the process of the service ignores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
